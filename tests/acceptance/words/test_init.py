"""`init` makes a store out of nothing, may be repeated, and never leaves half of one."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from ml_pipeline.store import schema
from tests.support import shell, warm
from tests.support.supabase.project import TEMPLATE, SupabaseProject
from tests.support.supabase.servers import SUPERUSER

PASSWORD = "s3cr3t-of-the-database"
FILES = [script.name for script in schema.scripts()]
KEYS = {"status", "kind", "schema_version", "applied", "buckets"}
TABLES = "select count(*) as n from pg_tables where schemaname = 'public'"


@pytest.fixture
def project(supabase: SupabaseProject) -> SupabaseProject:
    """A new project with nothing of ours in it."""
    supabase.blank()
    return supabase


def url_of(project: SupabaseProject, user: str = "postgres") -> str:
    return project.postgres.dsn(user).replace(":project@", f":{PASSWORD}@")


def test_init_applies_the_schema_makes_the_buckets_and_may_be_repeated(
    project: SupabaseProject, tmp_path: Path
) -> None:
    first = shell.ml_pipeline("init", "--database_url", url_of(project), cwd=tmp_path)
    again = warm.ml_pipeline("init", f"--database-url={url_of(project)}", cwd=tmp_path)

    for done in (first, again):
        assert done.code == 0, done.stderr
        assert done.json.keys() >= KEYS
        assert done.json["status"] == "ready"
        assert done.json["kind"] == "supabase"
        assert done.json["schema_version"] == schema.newest()
        assert done.json["applied"] == FILES
        assert done.json["buckets"] == ["ml-models", "model-artifacts"]
        assert PASSWORD not in done.stdout + done.stderr
    rows = project.sql("select id, public from storage.buckets order by id")
    assert [(row["id"], row["public"]) for row in rows] == [
        ("ml-models", False),
        ("model-artifacts", False),
    ]
    project.keep()
    credentials = {"SUPABASE_URL": project.url, "SUPABASE_SERVICE_KEY": project.service_key}
    assert warm.ml_pipeline("doctor", cwd=tmp_path, **credentials).code == 0


def test_o3_ready_means_that_the_api_sees_the_schema(
    project: SupabaseProject, tmp_path: Path
) -> None:
    credentials = {"SUPABASE_URL": project.url, "SUPABASE_SERVICE_KEY": project.service_key}
    flags = ("init", "--database_url", url_of(project))
    assert warm.ml_pipeline(*flags, cwd=tmp_path).json["api"] == "not asked"
    done = warm.ml_pipeline(*flags, cwd=tmp_path, **credentials)
    assert (done.code, done.json["api"]) == (0, "ready"), done.stderr


@pytest.mark.long
def test_o3_an_api_that_never_sees_the_schema_is_a_failure(
    project: SupabaseProject, tmp_path: Path
) -> None:
    maintenance = project.postgres.dsn(SUPERUSER, "template1")
    with psycopg.connect(maintenance, autocommit=True) as database:
        database.execute("drop database if exists elsewhere")
        database.execute(f"create database elsewhere template {TEMPLATE} owner postgres")
    url = f"{url_of(project).removesuffix('/postgres')}/elsewhere"
    credentials = {"SUPABASE_URL": project.url, "SUPABASE_SERVICE_KEY": project.service_key}
    done = warm.ml_pipeline("init", "--database_url", url, cwd=tmp_path, **credentials)
    assert done.code == 1, done.stderr
    assert "the API at SUPABASE_URL knows none" in done.json["error"]
    assert "notify pgrst, 'reload schema';" in done.stderr


def test_what_print_sql_prints_is_the_whole_schema(
    project: SupabaseProject, tmp_path: Path
) -> None:
    done = shell.ml_pipeline("init", "--print_sql", cwd=tmp_path)

    assert done.code == 0
    project.apply(done.stdout)
    project.apply(done.stdout)
    versions = project.sql("select version from ml_pipeline_schema_version order by version")
    assert [row["version"] for row in versions] == [script.number for script in schema.scripts()]


def test_migration_files_sort_in_their_order_and_are_written_once(
    project: SupabaseProject, tmp_path: Path
) -> None:
    flags = ("--print_sql", "--output", "supabase/migrations")
    done = warm.ml_pipeline("init", *flags, cwd=tmp_path)
    written = sorted((tmp_path / "supabase" / "migrations").iterdir())

    assert done.code == 0, done.stderr
    assert done.json["files"] == [path.name for path in written]
    assert [path.stem.partition("_ml_pipeline_")[2] for path in written] == FILES
    project.apply("\n".join(path.read_text() for path in written))

    assert warm.ml_pipeline("init", *flags, cwd=tmp_path).json["files"] == []
    written[-1].write_text("-- what an earlier version of the package wrote")
    (fresh,) = warm.ml_pipeline("init", *flags, cwd=tmp_path).json["files"]
    assert fresh.endswith(f"_ml_pipeline_{FILES[-1]}.sql")


def test_a_database_without_storage_has_no_buckets_and_says_so(
    project: SupabaseProject, tmp_path: Path
) -> None:
    project.sql("alter schema storage rename to elsewhere")
    done = warm.ml_pipeline("init", "--database_url", url_of(project), cwd=tmp_path)

    assert done.code == 0, done.stderr
    assert done.json["buckets"] == []
    assert "ml-models" in done.json["warnings"][-1]
    assert "ml-models" in done.stderr


def test_a_policy_that_opens_a_bucket_is_a_warning(
    project: SupabaseProject, tmp_path: Path
) -> None:
    project.sql("create policy gate on storage.objects using (bucket_id = 'ml-models')")
    done = warm.ml_pipeline("init", "--database_url", url_of(project), cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert 'The policy "gate"' in done.json["warnings"][0]
    assert 'The policy "gate"' in done.stderr


def test_without_the_right_to_make_tables_nothing_is_changed(
    project: SupabaseProject, tmp_path: Path
) -> None:
    project.sql(
        "drop role if exists guest; create role guest login; "
        "grant usage on schema public to guest; revoke create on schema public from public"
    )
    done = warm.ml_pipeline("init", "--database_url", url_of(project, "guest"), cwd=tmp_path)

    assert done.code == 1
    assert done.json["error_type"] == "StoreRefused"
    assert "the user postgres" in done.stderr
    assert "0001_ground" in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert project.sql(TABLES) == [{"n": 0}]


def test_a_file_that_fails_in_the_middle_leaves_nothing_half_applied(
    project: SupabaseProject, tmp_path: Path
) -> None:
    project.sql("create view model_metadata as select 1 as version")
    done = warm.ml_pipeline("init", "--database_url", url_of(project), cwd=tmp_path)

    assert done.code == 1
    assert "0004_models" in done.stderr
    assert "nothing was changed" in done.stderr
    assert project.sql(TABLES) == [{"n": 0}]


@pytest.mark.parametrize(
    "url",
    [
        f"{PASSWORD}",
        f"https://postgres:{PASSWORD}@db.example.invalid/postgres",
        f"postgresqql://postgres:{PASSWORD}@127.0.0.1/postgres",
        f"postgresql://postgres:{PASSWORD}@127.0.0.1:port/postgres",
        f"postgresql://postgres:{PASSWORD}@/postgres",
        f"postgresql://postgres:{PASSWORD}@x@127.0.0.1/postgres",
        f"postgresql://postgres:{PASSWORD}/x@127.0.0.1/postgres",
        f"postgresql://postgres:{PASSWORD}#x@127.0.0.1/postgres",
        f"postgresql://postgres:{PASSWORD}%x@127.0.0.1/postgres",
        f"postgresql://postgres:[{PASSWORD}]@127.0.0.1/postgres",
        f"postgresql://postgres:{PASSWORD}@127.0.0.1/postgres?nonsense=1",
        f"host=127.0.0.1 password={PASSWORD}",
        "",
    ],
)
def test_a_bad_url_is_refused_without_repeating_it(url: str, tmp_path: Path) -> None:
    done = warm.ml_pipeline("init", "--database_url", url, cwd=tmp_path)
    assert done.code == 1
    assert done.json["error_type"] == "ConfigError"
    assert "postgresql://" in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("place", ["127.0.0.1:9", "db.example.invalid:5432"])
def test_a_database_that_cannot_be_reached_says_what_to_check(place: str, tmp_path: Path) -> None:
    url = f"postgresql://postgres:{PASSWORD}@{place}/postgres"
    done = warm.ml_pipeline("init", "--database_url", url, cwd=tmp_path)
    assert done.code == 1
    assert done.json["error_type"] == "StoreUnavailable"
    assert "session pooler" in done.stderr
    assert PASSWORD not in done.stdout + done.stderr


def test_without_psycopg_the_message_names_the_extra_and_the_other_way(tmp_path: Path) -> None:
    (tmp_path / "psycopg.py").write_text("raise ImportError('no psycopg here')")
    done = shell.ml_pipeline(
        "init", "--database_url", "postgresql://postgres@127.0.0.1:9/postgres",
        cwd=tmp_path, PYTHONPATH=f"{tmp_path}:{shell.ROOT}",
    )  # fmt: skip
    assert done.code == 1
    assert done.json["error_type"] == "ConfigError"
    for words in ('pip install "auto-reinforcement[init]"', "--print-sql"):
        assert words in done.stderr


def test_an_embedded_store_is_made_once(tmp_path: Path) -> None:
    by_flag = warm.ml_pipeline("init", "--local", "store", cwd=tmp_path)
    by_variable = warm.ml_pipeline("init", cwd=tmp_path, ML_PIPELINE_LOCAL="store")
    for done in (by_flag, by_variable):
        assert done.code == 0, done.stderr
        assert done.json.keys() >= KEYS
        assert done.json["kind"] == "local"
        assert done.json["schema_version"] == schema.newest("local")
    assert (tmp_path / "store").is_dir()
    assert warm.ml_pipeline("doctor", "--local", "store", cwd=tmp_path).code == 0


def test_init_asks_what_to_make(tmp_path: Path) -> None:
    done = warm.ml_pipeline(
        "init", cwd=tmp_path, SUPABASE_URL="https://x.supabase.co", SUPABASE_SERVICE_KEY="key"
    )
    assert done.code == 1
    for words in ("--database-url", "--print-sql", "--local"):
        assert words in done.stderr


@pytest.mark.parametrize(
    "flags",
    [
        ("--local", "store", "--print_sql"),
        ("--local", "store", "--database_url", "postgresql://postgres@127.0.0.1/postgres"),
        ("--output", "migrations", "--local", "store"),
    ],
)
def test_flags_that_exclude_each_other_make_nothing(flags: tuple[str, ...], tmp_path: Path) -> None:
    done = warm.ml_pipeline("init", *flags, cwd=tmp_path)
    assert done.code == 1
    assert [path.name for path in tmp_path.iterdir()] == [".stderr", ".stdout"] or not any(
        path.is_dir() for path in tmp_path.iterdir()
    )


def test_two_ways_at_once_are_wrong_usage(tmp_path: Path) -> None:
    flags = ("--print_sql", "--database_url", "postgresql://postgres@127.0.0.1/postgres")
    assert warm.ml_pipeline("init", *flags, cwd=tmp_path).code == 2
