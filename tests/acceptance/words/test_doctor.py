"""The doctor finds every planted fault by name on a real project, and no fault in a healthy one."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from ml_pipeline.store import schema
from ml_pipeline.store.contract import Store
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.supabase.store import SupabaseStore
from tests.conftest import FirstModel
from tests.support import league, shell, warm
from tests.support.factories import make_finished_run, make_run
from tests.support.shell import Finished
from tests.support.supabase import faults
from tests.support.supabase.messages import Reply, Request, Upstream
from tests.support.supabase.project import SupabaseProject

DAY = timedelta(days=1)
SCHEMA = "\n".join(script.text for script in schema.scripts())
WITHOUT_DOCTOR = "delete from ml_pipeline_schema_version where version = 12"
RUN = "update model_retraining_runs set"

# What is planted in the project's rows: the findings that are faults by it, and the SQL.
ROWS = {
    "the schema is outdated": ("schema_version", WITHOUT_DOCTOR),
    "a bucket is missing": (
        "buckets champion_artifact",
        "delete from storage.objects; delete from storage.buckets where id = 'ml-models'",
    ),
    "a bucket is public": (
        "buckets_private",
        "update storage.buckets set public = true where id = 'model-artifacts'",
    ),
    "the champion's artifact is gone": ("champion_artifact", "delete from storage.objects"),
    "the champion's digest is another": (
        "champion_artifact",
        "update model_metadata set artifact_digest = 'sha256:' || repeat('ab', 32)",
    ),
    "the champion is of another scikit-learn": (
        "champion_versions",
        """update model_metadata
        set library_versions = library_versions || '{"scikit-learn": "1.1.3"}'""",
    ),
    "no run for eight days": (
        "last_success",
        f"{RUN} started_at = now() - interval '9 days', completed_at = now() - interval '8 days'",
    ),
    "only failures": (
        "last_success",
        f"{RUN} status = 'failed', outcome = 'failed', error_message = 'out of memory'",
    ),
    "a run is stuck": (
        "running_run",
        """insert into model_retraining_runs
            (id, source, status, started_at, heartbeat_at, model_name)
        select gen_random_uuid(), 'manual', 'running', at, at, 'default'
        from (select now() - interval '3 hours') as old (at)""",
    ),
    "no row has features": (
        "log_features",
        "update evaluation_log set features = null, metadata = null",
    ),
    "the labels are unknown ones": (
        "log_labels log_rows",
        "update evaluation_log set actual_result = 'home win', evaluated_at = evaluated_at",
    ),
}

# What is planted in its schema, and healed by applying the files again.
SCHEMAS = {
    "a function is missing": ("functions", "drop function promote_model(jsonb)"),
    "the doctor's own function is missing": ("functions", "drop function ml_pipeline_doctor()"),
    "a trigger is missing": ("functions", "drop trigger model_metadata_tidy on model_metadata"),
    "row level security is off": (
        "row_level_security",
        "alter table evaluation_log disable row level security",
    ),
    "anon may read a table": ("table_access", "grant select on model_metadata to anon"),
    "anon may write a column": ("table_access", "grant insert (label) on ml_data to anon"),
    "users may write models": ("table_access", "grant update on model_metadata to authenticated"),
    "users may read whole runs": (
        "table_access",
        "grant select on model_retraining_runs to authenticated",
    ),
    "a policy is open": (
        "table_access",
        'create policy "Anyone writes" on evaluation_log for all using (true)',
    ),
    "anon may call a function": (
        "function_access",
        "grant execute on function promote_model(jsonb) to anon",
    ),
    "the service role lost a right": (
        "service_rights",
        "revoke insert on evaluation_log from service_role",
    ),
    "the seeds' policy is on the objects": (
        "storage_policies",
        """create policy "Service role full access" on storage.objects for all
        using (bucket_id = 'ml-models')""",
    ),
    "a policy on another bucket lets everyone write": (
        "storage_policies",
        """create policy "avatars" on storage.objects for all
        using (bucket_id = 'avatars') with check (true)""",
    ),
    "an index is missing": ("indexes", "drop index evaluation_log_errors"),
    "an index is not valid": (
        "indexes",
        """update pg_index set indisvalid = false
        where indexrelid = 'model_retraining_runs_latest'::regclass""",
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Clinic:
    """A project with a champion that has predicted three nights and a run of tonight."""

    project: SupabaseProject
    folder: Path

    @property
    def credentials(self) -> dict[str, str]:
        return {
            "SUPABASE_URL": self.project.url,
            "SUPABASE_SERVICE_KEY": self.project.service_key,
        }

    def examine(self, *flags: str, **variables: str) -> Finished:
        """Run the doctor; whatever it finds, no key is in what it says."""
        done = warm.ml_pipeline("doctor", *flags, cwd=self.folder, **self.credentials | variables)
        self.check_quiet(done)
        return done

    def check_quiet(self, done: Finished) -> None:
        keys = self.project.keys
        for key in (keys.service, keys.secret, keys.anon, keys.publishable):
            assert key not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def fill(store: Store, first: FirstModel) -> None:
    now = datetime.now(UTC)
    settings = league.settings_for()
    league.enthrone(store, first.path, settings, now=now - 10 * DAY)
    for night in league.nights_before(now, 3):
        store.append_events(league.events_of(first.model, night))
    run = make_run(model_name="default", started_at=now, heartbeat_at=now)
    store.start_run(run)
    finished = make_finished_run(model_name="default", started_at=now, heartbeat_at=now)
    store.finish_run(replace(finished, completed_at=now))


@pytest.fixture(scope="module")
def filled(supabase: SupabaseProject, first_model: FirstModel) -> SupabaseProject:
    supabase.blank()
    supabase.apply(SCHEMA)
    store = SupabaseStore.open(supabase.url, SecretStr(supabase.service_key))
    try:
        fill(store, first_model)
    finally:
        store.close()
    supabase.keep()
    return supabase


@pytest.fixture
def clinic(filled: SupabaseProject, tmp_path: Path) -> Clinic:
    filled.reset()
    return Clinic(project=filled, folder=tmp_path)


@pytest.fixture
def healed(clinic: Clinic) -> Iterator[Clinic]:
    """The same, whose schema the package's own files heal afterwards."""
    yield clinic
    clinic.project.sql(
        """update pg_index set indisvalid = true
        where indexrelid = 'model_retraining_runs_latest'::regclass;
        drop policy if exists avatars on storage.objects;
        drop policy if exists service on storage.objects"""
    )
    clinic.project.reset()
    clinic.project.apply(SCHEMA)


def faulty(done: Finished) -> set[str]:
    """The names of the faults; each says what to do."""
    found = [finding for finding in done.json["findings"] if finding["severity"] == "fault"]
    assert all(not finding["ok"] and finding["what"] and finding["do"] for finding in found)
    assert done.json["status"] == ("faulty" if found else "healthy")
    assert done.code == (1 if found else 0), done.stderr
    return {finding["name"] for finding in found}


def finding(done: Finished, name: str) -> dict[str, str]:
    found: list[dict[str, str]] = [f for f in done.json["findings"] if f["name"] == name]
    assert len(found) == 1, done.stdout
    return found[0]


def test_a_healthy_project_has_no_fault_and_no_warning(clinic: Clinic) -> None:
    done = shell.ml_pipeline("doctor", cwd=clinic.folder, **clinic.credentials)

    clinic.check_quiet(done)
    assert faulty(done) == set()
    assert [f["name"] for f in done.json["findings"] if not f["ok"]] == []
    assert {"clock", "row_cap", "error_trigger", "libraries"} <= {
        f["name"] for f in done.json["findings"]
    }
    assert "at most 1000 rows" in finding(done, "row_cap")["what"]
    assert "ok       champion_artifact" in done.stderr
    assert list(clinic.folder.iterdir()) == []


def test_a_health_check_costs_little_more_than_its_libraries(clinic: Clinic) -> None:
    ratios: list[float] = []
    while len(ratios) < 3 and min(ratios, default=3) >= 3:  # other tests share the processors
        began = time.monotonic()
        shell.python("-c", "import pandas, pydantic, rich, supabase", cwd=clinic.folder)
        floor = time.monotonic() - began
        began = time.monotonic()
        done = shell.ml_pipeline("doctor", "--quick", cwd=clinic.folder, **clinic.credentials)
        ratios.append((time.monotonic() - began) / floor)
        assert faulty(done) == set()
    assert min(ratios) < 3, ratios
    assert {f["name"] for f in done.json["findings"]} == {
        *("settings", "server", "key", "key_role", "schema", "schema_version"),
        *("champion", "champion_versions", "champion_artifact"),
    }


@pytest.mark.parametrize("case", ROWS)
def test_a_fault_in_the_rows_is_found_by_name(clinic: Clinic, case: str) -> None:
    names, plant = ROWS[case]
    clinic.project.sql("set storage.allow_delete_query = 'true';" + plant)
    assert faulty(clinic.examine()) == set(names.split())


@pytest.mark.parametrize("case", SCHEMAS)
def test_a_fault_in_the_schema_is_found_by_name(healed: Clinic, case: str) -> None:
    name, plant = SCHEMAS[case]
    healed.project.sql(plant)
    assert faulty(healed.examine()) == {name}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("key", lambda _: "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoic2VydmljZV9yb2xlIn0.x"),
        ("key", lambda _: "sb_secret_of_another_project"),
        ("key_role", lambda project: project.anon_key),
        ("key_role", lambda project: project.keys.publishable),
        ("credentials", lambda _: "not a key"),
    ],
)
def test_a_wrong_key_is_told_apart(
    clinic: Clinic, name: str, key: Callable[[SupabaseProject], str]
) -> None:
    done = clinic.examine("--quick", SUPABASE_SERVICE_KEY=key(clinic.project))
    assert faulty(done) == {name}


def test_a_wrong_key_is_a_fault_of_the_full_examination_too(clinic: Clinic) -> None:
    assert faulty(clinic.examine(SUPABASE_SERVICE_KEY="sb_secret_of_another")) == {"key"}


def test_a_key_of_the_new_style_is_a_service_key(clinic: Clinic) -> None:
    done = clinic.examine("--quick", SUPABASE_SERVICE_KEY=clinic.project.secret_key)
    assert faulty(done) == set()


@pytest.mark.parametrize("missing", ["SUPABASE_URL", "SUPABASE_SERVICE_KEY"])
def test_half_the_credentials_are_a_fault(clinic: Clinic, missing: str) -> None:
    done = clinic.examine("--quick", **{missing: ""})
    assert faulty(done) == {"credentials"}
    assert missing in finding(done, "credentials")["what"]


def test_no_credentials_at_all_are_a_fault(clinic: Clinic) -> None:
    done = clinic.examine("--quick", SUPABASE_URL="", SUPABASE_SERVICE_KEY="")
    assert faulty(done) == {"credentials"}
    assert "--local" in finding(done, "credentials")["do"]


@pytest.mark.parametrize("flags", [(), ("--quick",)])
def test_a_server_that_is_not_there_is_a_fault(clinic: Clinic, flags: tuple[str, ...]) -> None:
    assert faulty(clinic.examine(*flags, SUPABASE_URL="http://127.0.0.1:9")) == {"server"}


def test_a_server_that_hangs_does_not_hold_a_health_check(clinic: Clinic) -> None:
    clinic.project.gateway.fault(faults.hang(20), times=1000)
    began = time.monotonic()
    assert faulty(clinic.examine("--quick")) == {"server"}
    assert time.monotonic() - began < 5


def test_a_proxys_page_is_no_answer(clinic: Clinic) -> None:
    clinic.project.gateway.fault(faults.html200(), times=1000)
    assert faulty(clinic.examine("--quick")) == {"server"}


@pytest.mark.parametrize(("hours", "expected"), [(1, {"clock"}), (-1, {"clock"}), (0, set())])
def test_a_clock_that_differs_is_a_fault(clinic: Clinic, hours: int, expected: set[str]) -> None:
    def shifted(request: Request, forward: Upstream) -> Reply:
        reply = forward(request)
        facts = json.loads(reply.body)
        facts["now"] = (datetime.fromisoformat(facts["now"]) + timedelta(hours=hours)).isoformat()
        return Reply(status=reply.status, headers=reply.headers, body=json.dumps(facts).encode())

    clinic.project.gateway.fault(shifted, path="/rpc/ml_pipeline_doctor")
    assert faulty(clinic.examine()) == expected


def test_the_row_cap_is_told(clinic: Clinic) -> None:
    clinic.project.limit_rows(100)
    done = clinic.examine()
    assert faulty(done) == set()
    assert "at most 100 rows" in finding(done, "row_cap")["what"]


def test_a_policy_on_other_buckets_opens_none_of_ours(healed: Clinic) -> None:
    healed.project.sql(
        "create policy avatars on storage.objects for select using (bucket_id = 'avatars');"
        "create policy service on storage.objects for all "
        "using (auth.role() = 'service_role')"
    )
    assert faulty(healed.examine()) == set()


@pytest.mark.parametrize(
    ("name", "plant"),
    [
        ("last_success", f"{RUN} completed_at = now() - interval '3 days'"),
        ("last_success", "delete from model_retraining_runs"),
        ("log_rows", "delete from evaluation_log"),
        ("log_rows", "update evaluation_log set actual_result = null"),
        (
            "requests",
            """insert into model_retraining_requests (model_name, created_at)
            values ('default', now() - interval '2 days')""",
        ),
    ],
)
def test_what_a_run_can_live_with_is_a_warning(clinic: Clinic, name: str, plant: str) -> None:
    clinic.project.sql(plant)
    done = clinic.examine()
    assert faulty(done) == set()
    assert finding(done, name)["severity"] == "warning"
    assert finding(done, name)["do"]


def test_what_is_late_follows_the_schedule(clinic: Clinic) -> None:
    clinic.project.sql(f"{RUN} completed_at = now() - interval '8 days'")
    answered = {
        hours: finding(clinic.examine(ML_PIPELINE__RUN__EVERY_HOURS=hours), "last_success")
        for hours in ("24", "72", "168")
    }
    assert (answered["24"]["severity"], answered["72"]["severity"]) == ("fault", "warning")
    assert [hours for hours, found in answered.items() if found["ok"]] == ["168"]


def test_a_trigger_that_never_fires_is_told_with_its_numbers(clinic: Clinic) -> None:
    done = clinic.examine()
    # Outcomes arrive at 20:00, so it depends on the time of day whether a fourth night saw them.
    assert re.match("On [34] of the last 30 days", finding(done, "error_trigger")["what"])
    never = clinic.examine(ML_PIPELINE__RUN__MIN_ERROR_SAMPLES="100000")
    assert finding(never, "error_trigger")["what"].startswith("On 0 of the last 30 days")
    assert "run.trigger: labels" in finding(never, "error_trigger")["do"]
    assert faulty(never) == set()


def test_a_project_without_the_schema_is_told_so(healed: Clinic) -> None:
    project = healed.project
    project.sql("alter schema public rename to parked; create schema public")
    project.keep()
    try:
        found = healed.examine()
        assert faulty(found) == {"schema"}
        assert "notify pgrst, 'reload schema';" in finding(found, "schema")["do"]
        assert faulty(healed.examine("--quick")) == {"schema"}
    finally:
        project.sql("drop schema public; alter schema parked rename to public")
        project.keep()


# -------------------------------------------------------------------- settings, machine, SQLite


def test_faults_of_settings_are_listed_beside_the_others(clinic: Clinic) -> None:
    done = clinic.examine(
        ML_PIPELINE__RUN__LOOKBACK_DAYS="-1", ML_PIPELINE__NOPE="1", SUPABASE_URL=""
    )
    assert faulty(done) == {"settings", "credentials"}
    for words in ("run.lookback_days = -1", "nope = 1"):
        assert words in finding(done, "settings")["what"]


@pytest.fixture
def local(tmp_path: Path, first_model: FirstModel) -> Path:
    store = LocalStore.open(tmp_path / "store")
    try:
        fill(store, first_model)
    finally:
        store.close()
    return tmp_path / "store"


def test_a_healthy_embedded_store_has_no_fault_and_nothing_of_supabase(
    local: Path, tmp_path: Path
) -> None:
    done = warm.ml_pipeline("doctor", "--local", local, cwd=tmp_path)
    assert faulty(done) == set()
    names = {f["name"] for f in done.json["findings"]}
    assert {"store", "champion_artifact", "log_features", "error_trigger"} <= names
    assert not names & {"server", "key", "row_level_security", "buckets", "clock", "row_cap"}


def test_a_torn_artifact_of_an_embedded_store_is_a_fault(local: Path, tmp_path: Path) -> None:
    (artifact,) = local.rglob("model.skops")
    artifact.chmod(0o600)
    artifact.write_bytes(artifact.read_bytes()[:-1])
    done = warm.ml_pipeline("doctor", "--local", local, cwd=tmp_path)
    assert faulty(done) == {"champion_artifact"}


def test_a_work_folder_that_cannot_be_written_is_a_fault(local: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    folder = str(tmp_path / "file" / "work")
    done = warm.ml_pipeline(
        "doctor", "--local", local, cwd=tmp_path, ML_PIPELINE__RUN__WORK_DIR=folder
    )
    assert faulty(done) == {"work_folder"}


def test_a_log_file_that_is_not_there_is_a_fault(local: Path, tmp_path: Path) -> None:
    done = warm.ml_pipeline(
        "doctor", "--local", local, cwd=tmp_path, ML_PIPELINE__LOG__SOURCE="no.csv"
    )
    assert faulty(done) == {"log_rows"}


def test_a_library_that_cannot_be_imported_is_a_fault(local: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "duckdb.py").write_text("raise ImportError('libstdc++ is too old')")
    done = shell.ml_pipeline(
        "doctor", "--local", local, cwd=tmp_path, PYTHONPATH=f"{broken}:{shell.ROOT}"
    )
    assert faulty(done) == {"libraries"}
    assert "libstdc++" in finding(done, "libraries")["what"]


def test_a_folder_that_is_no_store_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no store")
    done = warm.ml_pipeline("doctor", "--quick", "--local", tmp_path / "file", cwd=tmp_path)
    assert faulty(done) == {"store"}
