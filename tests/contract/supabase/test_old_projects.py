"""What was open in a project before our schema, and what is closed, kept or reported after."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psycopg
import pytest
from pydantic import SecretStr

from ml_pipeline.config.environment import StoreSettings
from tests.contract.supabase.callers import (
    OTHER,
    REQUESTS,
    UNSEEN,
    Callers,
    code_of,
    insert,
    migrate,
    migrations,
    open_callers,
    rows,
    stored,
)
from tests.support.factories import make_id
from tests.support.supabase.project import SupabaseProject

STRANGERS = ("anon", "user", "other")
MODEL = "ml-models/football/m-1/model.skops"
TRUE_BYTES, EVIL_BYTES = b"the true model", b"cos\nsystem\n(S'evil'\ntR."
OBJECTS = "/storage/v1/object"

# As the documents have it: a policy that names the service role, and lets everyone in.
SEEDS_BUCKET = """
insert into storage.buckets (id, name, public) values ('ml-models', 'ml-models', false);
CREATE POLICY "Service role full access"
ON storage.objects FOR ALL
USING (bucket_id = 'ml-models')
WITH CHECK (bucket_id = 'ml-models');
"""
# A log without row level security, one with a policy for all, and the page's right to read runs.
SEEDS_TABLES = """
create table evaluation_log (event_id uuid primary key, prediction text, actual_result text);
create table model_retraining_runs (
    id uuid primary key default gen_random_uuid(),
    source text not null check (source in ('auto_daily', 'manual', 'decay_triggered')),
    status text,
    dataset_size integer,
    fine_tune_flag boolean,
    metrics jsonb,
    started_at timestamptz,
    completed_at timestamptz,
    error_message text
);
alter table model_retraining_runs enable row level security;
create policy "Anyone" on model_retraining_runs for all using (true);
create table model_retraining_requests (
    id uuid primary key default gen_random_uuid(),
    requested_by uuid,
    reason text,
    priority text,
    status text,
    processed_at timestamptz,
    retraining_run_id uuid
);
alter table model_retraining_requests enable row level security;
create policy "Anyone" on model_retraining_requests for all using (true);
create table model_metadata (id serial primary key, version text unique not null);
grant all on all tables in schema public to public;
"""


@pytest.fixture
def project(supabase: SupabaseProject) -> SupabaseProject:
    """A project with nothing of ours in it; whoever comes next makes a new one as well."""
    supabase.blank()
    return supabase


@pytest.fixture
def callers(project: SupabaseProject) -> Iterator[Callers]:
    with open_callers(project) as opened:
        yield opened


def warnings_of(project: SupabaseProject) -> str:
    """Run the files once more and return what they warn of."""
    reported: list[str] = []
    with psycopg.connect(project.dsn) as owner:
        owner.add_notice_handler(
            lambda notice: (
                reported.append(notice.message_primary or "")
                if notice.severity == "WARNING"
                else None
            )
        )
        for script in migrations():
            owner.execute(script.encode())
    return "\n".join(reported)


# ------------------------------------------------------------------------------------ storage


def test_defect_19_the_anon_key_can_no_longer_overwrite_the_model_file(
    project: SupabaseProject, callers: Callers
) -> None:
    project.apply(SEEDS_BUCKET)
    callers["service"].send("POST", f"{OBJECTS}/{MODEL}", TRUE_BYTES)
    assert callers["anon"].send("PUT", f"{OBJECTS}/{MODEL}", EVIL_BYTES).is_success
    assert stored(project) == {MODEL: EVIL_BYTES}

    migrate(project)
    callers["service"].send("PUT", f"{OBJECTS}/{MODEL}", TRUE_BYTES)
    for who in STRANGERS:
        attempts: list[tuple[str, str, object, dict[str, str]]] = [
            ("PUT", MODEL, EVIL_BYTES, {}),
            ("POST", MODEL, EVIL_BYTES, {"x-upsert": "true"}),
            ("POST", "ml-models/football/m-2/model.skops", EVIL_BYTES, {}),
            ("DELETE", MODEL, None, {}),
            ("GET", MODEL, None, {}),
            ("POST", f"sign/{MODEL}", {"expiresIn": 60}, {}),
        ]
        for method, path, body, headers in attempts:
            answer = callers[who].send(method, f"{OBJECTS}/{path}", body, headers=headers)
            assert answer.json()["statusCode"] in {"403", "404"}
    assert stored(project) == {MODEL: TRUE_BYTES}
    assert callers["service"].send("GET", f"{OBJECTS}/{MODEL}").content == TRUE_BYTES


def test_a_bucket_that_was_public_is_made_private(
    project: SupabaseProject, callers: Callers
) -> None:
    project.apply(
        "insert into storage.buckets (id, name, public) values ('ml-models', 'ml-models', true),"
        " ('model-artifacts', 'model-artifacts', true)"
    )
    path = "model-artifacts/evaluation_log.csv"
    callers["service"].send("POST", f"{OBJECTS}/{path}", TRUE_BYTES)
    link = f"{OBJECTS}/public/{path}"
    assert callers["anon"].http.get(link).content == TRUE_BYTES
    migrate(project)
    assert callers["anon"].http.get(link).json()["statusCode"] == "404"
    assert project.sql("select id from storage.buckets where public") == []
    assert stored(project) == {path: TRUE_BYTES}


OPENING = {
    "by name": "for all using (bucket_id = 'ml-models')",
    "in a list": "for select to anon using (bucket_id in ('model-artifacts', 'photos'))",
    "with all others": "for all using (true)",
    "to whoever uploads": "for insert to authenticated with check (owner_id = auth.uid()::text)",
    "all but one": "for update to anon, service_role using (bucket_id <> 'photos')",
    "on one side": "for update using (bucket_id = 'photos') with check (true)",
}
HARMLESS = {
    "another bucket": "for all using (bucket_id = 'photos') with check (bucket_id = 'photos')",
    "others of a list": "for select to anon using (bucket_id in ('films', 'photos'))",
    "the service": "for all to service_role using (true)",
    "closing more": "as restrictive for delete using (false)",
}


def test_policies_of_somebody_else_are_kept_and_those_that_may_open_a_bucket_are_reported(
    project: SupabaseProject, callers: Callers
) -> None:
    policies = "; ".join(
        f'create policy "{name}" on storage.objects {policy}'
        for name, policy in (OPENING | HARMLESS).items()
    )
    project.sql("insert into storage.buckets (id, name) values ('photos', 'photos')")
    project.apply(policies)
    warnings = warnings_of(project)
    reported = {name for name in OPENING | HARMLESS if f'"{name}" may open a bucket' in warnings}
    assert reported == set(OPENING)
    kept = project.sql("select policyname as name from pg_policies where schemaname = 'storage'")
    assert {row["name"] for row in kept} == {*OPENING, *HARMLESS}
    assert callers["anon"].send("POST", f"{OBJECTS}/photos/a.png", b"x").is_success
    assert stored(project) == {"photos/a.png": b"x"}


# ------------------------------------------------------------------------------------- tables


def test_defect_26_logs_that_everyone_could_read_are_closed(
    project: SupabaseProject, callers: Callers
) -> None:
    project.apply(SEEDS_TABLES)
    insert(project, "evaluation_log", {"event_id": make_id(1), "prediction": "H"})
    insert(project, "model_retraining_runs", {"source": "manual", "error_message": "Traceback"})
    log, runs = "evaluation_log", "model_retraining_runs"
    changes = {log: {"actual_result": "A"}, runs: {"status": "failed"}}
    for table, change in changes.items():
        assert len(callers["anon"].table("GET", table).json()) == 1
        assert callers["anon"].table("PATCH", table, change).is_success

    migrate(project)
    before = rows(project, log), rows(project, runs)
    for who in STRANGERS:
        for table, change in {**changes, "model_metadata": {"version": "mine"}}.items():
            answers = [
                callers[who].table("POST", table, change),
                callers[who].table("PATCH", table, change, model_name="not.is.null"),
                callers[who].table("DELETE", table, model_name="not.is.null"),
                callers[who].table("GET", table),
            ]
            assert {code_of(answer) for answer in answers} == {"42501"}
    assert (rows(project, log), rows(project, runs)) == before
    assert len(callers["service"].table("GET", log).json()) == 1
    numbers = "select has_sequence_privilege(%s, 'model_metadata_id_seq', 'usage, update') as held"
    held = [project.sql(numbers, [role])[0]["held"] for role in ("anon", "authenticated")]
    assert held == [False, False]


def test_policies_that_opened_requests_and_runs_to_everyone_are_gone(
    project: SupabaseProject, callers: Callers
) -> None:
    project.apply(SEEDS_TABLES)
    insert(project, REQUESTS, {"id": make_id(1), "requested_by": OTHER, "status": "pending"})
    insert(project, "model_retraining_runs", {"source": "manual", "status": "completed"})
    smuggled = {"requested_by": OTHER, "status": "completed"}
    assert len(callers["user"].table("GET", REQUESTS).json()) == 1
    assert callers["user"].table("POST", REQUESTS, smuggled).is_success
    project.sql("delete from model_retraining_requests where status = 'completed'")

    migrate(project)
    before = rows(project, REQUESTS), rows(project, "model_retraining_runs")
    assert callers["user"].table("GET", REQUESTS).json() == []
    seen = callers["user"].table("GET", "model_retraining_runs", select="id,status,metrics")
    assert [row["status"] for row in seen.json()] == ["completed"]
    for prefer in ("", UNSEEN):
        answer = callers["user"].table("POST", REQUESTS, smuggled, prefer=prefer)
        assert code_of(answer) == "42501"
        callers["user"].table("PATCH", REQUESTS, {"status": "cancelled"}, prefer=prefer)
    assert (rows(project, REQUESTS), rows(project, "model_retraining_runs")) == before


def test_defect_26_the_service_key_is_printed_masked(supabase: SupabaseProject) -> None:
    key, url = supabase.service_key, supabase.url
    settings = StoreSettings(supabase_url=url, supabase_key=SecretStr(key))
    printed = f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"
    assert key not in printed + json.dumps(settings.model_dump(mode="json"))
    assert url in printed


def test_s1_errors_that_stood_in_users_requests_are_taken_out_and_open_ones_are_theirs(
    project: SupabaseProject,
) -> None:
    project.apply("\n".join(text for text in migrations() if "(32, 'private_runs')" not in text))
    project.sql("alter table model_retraining_requests drop column by_user")
    held = {"status": "failed", "retraining_run_id": make_id(9), "processed_at": "2026-03-01"}
    errors = {
        1: "training: a text of a row",
        2: f"given up after 3 attempts: run {make_id(9)} did not finish it",
        3: "given up after 3 attempts: training: a text of a row",
    }
    for number, error in errors.items():
        row = {"id": make_id(number), "requested_by": OTHER, "error_message": error, **held}
        insert(project, REQUESTS, row)
    insert(project, REQUESTS, {"id": make_id(4), "error_message": errors[1], **held})
    insert(project, REQUESTS, {"id": make_id(5), "requested_by": OTHER})
    insert(project, REQUESTS, {"id": make_id(6)})

    for _ in range(2):
        migrate(project)
        found = {row["id"]: row for row in rows(project, REQUESTS)}
        said = [found[make_id(number)]["error_message"] for number in range(1, 7)]
        failed = f"run {make_id(9)} failed"
        assert said == [failed, errors[2], failed, errors[1], None, None]
        assert [number for number in range(1, 7) if found[make_id(number)]["by_user"]] == [5]


# ----------------------------------------------------------------------------------- realtime


def test_what_realtime_publishes_is_untouched(project: SupabaseProject) -> None:
    project.apply(SEEDS_TABLES)
    project.apply("create table notes (id int primary key)")
    project.sql("create publication supabase_realtime")
    project.sql("alter publication supabase_realtime add table model_retraining_runs, notes")
    query = "select pubname, schemaname, tablename, rowfilter from pg_publication_tables order by 3"
    before = project.sql(query), project.sql("select * from pg_publication")
    migrate(project)
    assert (project.sql(query), project.sql("select * from pg_publication")) == before
    assert [row["tablename"] for row in before[0]] == ["model_retraining_runs", "notes"]
    replicas = project.sql("""
        select distinct relreplident::text as what from pg_class
        where relnamespace = 'public'::regnamespace and relkind = 'r'
    """)
    assert replicas == [{"what": "d"}]
