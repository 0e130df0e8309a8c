"""The store on Supabase keeps every promise of the kit, and survives what networks do."""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from email.utils import format_datetime
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from ml_pipeline.config.environment import StoreSettings, load_store_settings
from ml_pipeline.config.settings import load_settings
from ml_pipeline.errors import (
    ArtifactCorrupt,
    ConfigError,
    NotFound,
    RunInProgress,
    StoreCorrupt,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from ml_pipeline.evaluation_log.logger import EvaluationLogger
from ml_pipeline.evaluation_log.outcomes import record
from ml_pipeline.evaluation_log.recording.parsed import ParsedOutcome
from ml_pipeline.store.contract import Store
from ml_pipeline.store.opening import open_store as open_configured
from ml_pipeline.store.records import (
    EVENT_COLUMNS,
    ArtifactRef,
    ModelState,
    RequestStatus,
    RunStatus,
)
from ml_pipeline.store.store_serving_view import StoreServingView
from ml_pipeline.store.supabase import log
from ml_pipeline.store.supabase.store import SupabaseStore
from ml_pipeline.store.supabase.transport import Timeouts
from tests.contract.kit.base import EVER, Call
from tests.contract.kit.kit import OpenStore, StoreContract
from tests.contract.kit.log import read_all
from tests.support.factories import (
    MODEL_NAME,
    NOW,
    frame_of,
    make_event,
    make_events,
    make_finished_run,
    make_id,
    make_model,
    make_promotion,
    make_request,
    make_run,
)
from tests.support.supabase import faults
from tests.support.supabase.messages import Reply, Request, Upstream
from tests.support.supabase.project import SupabaseProject

QUICK = Timeouts(
    attempts=3, budget=5, first_wait=0.01, longest_wait=0.05, jitter=0.01, connect=2, answer=8
)
ALWAYS = 1_000
LEASE = timedelta(minutes=30)
NO_DIGEST = "sha256:" + "0" * 64

Open = Callable[..., SupabaseStore]


def make_schema(supabase: SupabaseProject) -> None:
    """A new project with our schema in it."""
    folder = files("ml_pipeline") / "sql" / "supabase"
    scripts = sorted(folder.iterdir(), key=lambda item: item.name)
    supabase.blank()
    supabase.apply("\n".join(item.read_text(encoding="utf-8") for item in scripts))


@pytest.fixture(scope="module", autouse=True)
def schema(supabase: SupabaseProject) -> None:
    make_schema(supabase)


@pytest.fixture
def opened(project: SupabaseProject) -> Iterator[Open]:
    """Open stores that are closed in the end."""
    stores: list[SupabaseStore] = []

    def open_with(key: str | None = None, timeouts: Timeouts = QUICK) -> SupabaseStore:
        chosen = SecretStr(key or project.service_key)
        stores.append(SupabaseStore.open(project.url, chosen, timeouts=timeouts))
        return stores[-1]

    yield open_with
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Open) -> SupabaseStore:
    return opened()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(range(256)) * 100)
    return path


class TestSupabaseStore(StoreContract):
    """The kit on a Supabase project."""

    @pytest.fixture
    def open_store(self, opened: Open) -> OpenStore:
        return opened


def rows_of(project: SupabaseProject, table: str) -> list[dict[str, Any]]:
    """Every row of a table, as the database has it."""
    return project.sql(f"select * from {table}")  # noqa: S608 - a table's name


@pytest.mark.parametrize("function", ["read_evaluation_events", "evaluation_log"])
def test_a_server_that_repeats_itself_is_not_read_for_ever(
    project: SupabaseProject, store: SupabaseStore, function: str
) -> None:
    store.append_events(make_events(1, 2, match_id="x"))
    (row,) = project.sql(f"select * from evaluation_log where event_id = '{make_id(1)}'")  # noqa: S608
    is_page = function.startswith("read")
    rows = [[row.get(name) for name in (*EVENT_COLUMNS, "known_at")] if is_page else row]

    def read() -> int:
        if is_page:
            return sum(map(len, store.read_events(EVER, model_name=MODEL_NAME)))
        return len(store.find_events(model_name=MODEL_NAME, event_ids=[], match_ids=["x"]))

    assert read() == 2
    again = faults.status(
        200, {"Content-Type": "application/json"}, json.dumps(rows, default=str).encode()
    )
    project.gateway.fault(again, path=f"{function}($|[?])", nth=2, times=ALWAYS)
    with pytest.raises(StoreCorrupt, match="read already"):
        read()


def test_a_list_that_is_the_same_whatever_is_asked_for_ends(
    project: SupabaseProject, store: SupabaseStore
) -> None:
    body = json.dumps([{"name": "b.txt"}, {"name": "a.txt"}]).encode()
    again = faults.status(200, {"Content-Type": "application/json"}, body)
    project.gateway.fault(again, path="object/list", times=ALWAYS)
    assert store.names("model-artifacts", "reports") == ["a.txt", "b.txt"]


def test_no_address_is_longer_than_gateways_take(
    project: SupabaseProject, store: SupabaseStore
) -> None:
    names = [f"{number:0200}" for number in range(60)]
    store.append_events(make_events(1, match_id=names[7]))
    store.append_events(make_events(2, match_id=names[59]))
    store.append_events(make_events(3, match_id="日" * 1000))
    for wanted, found in ((names, [1, 2]), ([*names, "日" * 1000], [1, 2, 3])):
        project.gateway.requests.clear()
        frame = store.find_events(model_name=MODEL_NAME, event_ids=[], match_ids=wanted)
        assert frame["event_id"].tolist() == [make_id(number) for number in found]
        asked_for = [len(each.path) + len(each.query) for each in project.gateway.requests]
        assert max(asked_for) < 6_000


def asked(project: SupabaseProject, name: str) -> int:
    """How often a function or path was called."""
    return sum(name in exchange.path for exchange in project.gateway.requests)


class TestUnavailable:
    """Temporary failures: retried, and reported in the end."""

    def test_a_server_that_is_down_is_unavailable_for_a_read_and_for_a_write(
        self, project: SupabaseProject, store: SupabaseStore
    ) -> None:
        project.gateway.fault(faults.drop_before, times=ALWAYS)
        with pytest.raises(StoreUnavailable, match="list_retraining_runs, asked 3 times"):
            store.latest_run(model_name=MODEL_NAME)
        with pytest.raises(StoreUnavailable, match="start_retraining_run, asked 3 times"):
            store.start_run(make_run())
        with pytest.raises(StoreUnavailable, match="model_retraining_runs, asked 3 times"):
            store.get_run(make_id(1))
        assert asked(project, "start_retraining_run") == 3
        assert rows_of(project, "model_retraining_runs") == []

    def test_nobody_at_the_address_is_unavailable(self) -> None:
        store = SupabaseStore.open("http://127.0.0.1:9", SecretStr("k"), timeouts=QUICK)
        with pytest.raises(StoreUnavailable, match="no connection"):
            store.latest_run(model_name=MODEL_NAME)
        store.close()

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 520, 544])
    def test_a_busy_server_is_asked_again(
        self, project: SupabaseProject, store: SupabaseStore, status: int
    ) -> None:
        for form in ({}, {"Content-Type": "application/json"}):
            project.gateway.fault(faults.status(status, form, b'{"message": "busy"}'))
        store.start_run(make_run())
        assert [row["status"] for row in rows_of(project, "model_retraining_runs")] == ["running"]
        project.gateway.fault(faults.status(status), times=2)
        assert store.latest_run(model_name=MODEL_NAME) == make_run()
        assert asked(project, "list_retraining_runs") == 3
        project.gateway.fault(faults.status(status), times=ALWAYS)
        with pytest.raises(StoreUnavailable, match=str(status)) as caught:
            store.finish_run(make_finished_run())
        assert "proxy" in caught.value.hint
        assert [row["status"] for row in rows_of(project, "model_retraining_runs")] == ["running"]

    @pytest.mark.parametrize("form", ["seconds", "date"])
    def test_a_wait_that_the_server_asks_for_is_kept(
        self, project: SupabaseProject, store: SupabaseStore, form: str
    ) -> None:
        store.start_run(make_run())
        wait = "1" if form == "seconds" else format_datetime(_in_seconds(2), usegmt=True)
        project.gateway.fault(faults.status(429, {"Retry-After": wait}))
        started = time.monotonic()
        store.finish_run(make_finished_run())
        assert 0.9 < time.monotonic() - started < 4
        assert [row["status"] for row in rows_of(project, "model_retraining_runs")] == ["completed"]

    def test_a_wait_beyond_the_budget_ends_the_attempts_at_once(
        self, project: SupabaseProject, store: SupabaseStore
    ) -> None:
        project.gateway.fault(faults.status(429, {"Retry-After": "3600"}), times=ALWAYS)
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match="429"):
            store.start_run(make_run())
        assert time.monotonic() - started < 1
        assert asked(project, "start_retraining_run") == 1
        assert rows_of(project, "model_retraining_runs") == []

    def test_a_page_of_a_proxy_is_never_an_answer(
        self, project: SupabaseProject, store: SupabaseStore, source: Path, tmp_path: Path
    ) -> None:
        store.append_events(make_events(1))
        ref = store.put("ml-models", "a/b", source)
        project.gateway.fault(faults.html200(), times=ALWAYS)
        calls: tuple[Call, ...] = (
            lambda: read_all(store),
            lambda: store.champion(model_name=MODEL_NAME),
            lambda: store.start_run(make_run()),
            lambda: store.claim(model_name=MODEL_NAME, run_id=make_id(100), now=NOW, lease=LEASE),
            lambda: store.put("ml-models", "a/c", source),
            lambda: store.fetch(ref, tmp_path / "copy"),
        )
        for call in calls:
            with pytest.raises(StoreUnavailable, match="a proxy answered") as caught:
                call()
            assert "SUPABASE_URL" in caught.value.hint
        assert rows_of(project, "model_retraining_runs") == []
        assert [row["name"] for row in rows_of(project, "storage.objects")] == ["a/b"]
        assert sorted(path.name for path in tmp_path.iterdir()) == [source.name]

    def test_a_page_of_a_proxy_that_calls_itself_json_is_no_answer(
        self, project: SupabaseProject, store: SupabaseStore
    ) -> None:
        form = {"Content-Type": "application/json"}
        project.gateway.fault(faults.status(200, form), times=ALWAYS)
        with pytest.raises(StoreUnavailable, match="a proxy answered"):
            read_all(store)

    def test_a_redirect_is_not_followed(
        self, project: SupabaseProject, store: SupabaseStore
    ) -> None:
        away = {"Location": f"{project.url}/elsewhere"}
        project.gateway.fault(faults.status(302, away), path="/rest", times=ALWAYS)
        with pytest.raises(StoreUnavailable, match="302"):
            store.start_run(make_run())
        assert asked(project, "elsewhere") == 0
        assert rows_of(project, "model_retraining_runs") == []

    def test_a_hanging_server_is_left_and_the_write_is_done_once(
        self, project: SupabaseProject, opened: Open
    ) -> None:
        store = opened(timeouts=Timeouts(attempts=2, budget=5, first_wait=0.01, answer=0.5))
        project.gateway.fault(faults.hang(1))
        store.start_run(make_run())
        project.gateway.fault(faults.hang_after(1))
        store.append_events(make_events(1, 2))
        time.sleep(1.2)
        assert [row["status"] for row in rows_of(project, "model_retraining_runs")] == ["running"]
        assert len(rows_of(project, "evaluation_log")) == 2

    def test_a_server_that_always_hangs_is_unavailable(
        self, project: SupabaseProject, opened: Open
    ) -> None:
        store = opened(timeouts=Timeouts(attempts=2, budget=5, first_wait=0.01, answer=0.3))
        project.gateway.fault(faults.hang(1), times=ALWAYS)
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match="took too long"):
            store.latest_run(model_name=MODEL_NAME)
        assert time.monotonic() - started < 3

    def test_trying_again_ends_with_its_budget(
        self, project: SupabaseProject, opened: Open
    ) -> None:
        store = opened(
            timeouts=Timeouts(attempts=ALWAYS, budget=0.5, first_wait=0.1, jitter=0, longest_wait=1)
        )
        project.gateway.fault(faults.status(503), times=ALWAYS)
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            store.start_run(make_run())
        assert 0.4 < time.monotonic() - started < 2
        assert rows_of(project, "model_retraining_runs") == []

    def test_a_statement_that_timed_out_is_asked_again(
        self, project: SupabaseProject, store: SupabaseStore
    ) -> None:
        body = b'{"code": "57014", "message": "canceling statement due to statement timeout"}'
        form = {"Content-Type": "application/json"}
        project.gateway.fault(faults.status(500, form, body), times=2)
        store.start_run(make_run())
        assert len(rows_of(project, "model_retraining_runs")) == 1

    @pytest.mark.parametrize(
        ("status", "body", "words"),
        [
            (401, '{"code": "PGRST301", "message": "JWT expired"}', "JWT expired"),
            (401, '{"message": "Invalid API key"}', "Invalid API key"),
            (406, '{"code": "PGRST106", "message": "not exposed"}', "exposed schemas"),
            (402, '{"message": "quota exceeded"}', "billing page"),
            (402, "", "billing page"),
            (500, '{"code": "57014", "message": "cancelled"}', "time limit"),
            (404, '{"code": "PGRST202", "message": "none"}', "reload schema"),
        ],
    )
    def test_o3_an_answers_own_words_and_its_way_out_are_passed_on(
        self, project: SupabaseProject, opened: Open, status: int, body: str, words: str
    ) -> None:
        store = opened(timeouts=Timeouts(attempts=1))
        form = {"Content-Type": "application/json" if body else "text/html"}
        project.gateway.fault(faults.status(status, form, body.encode()), times=ALWAYS)
        with pytest.raises(StoreUnavailable if status == 500 else StoreRefused) as caught:
            store.latest_run(model_name=MODEL_NAME)
        assert words in f"{caught.value} {caught.value.hint}"

    def test_retries_are_logged(
        self, project: SupabaseProject, store: SupabaseStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        project.gateway.fault(faults.status(503), times=2)
        store.start_run(make_run())
        shown = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert [(vars(item)["event"], vars(item)["attempt"]) for item in shown] == [
            ("store_retried", 2),
            ("store_retried", 3),
        ]


def _in_seconds(seconds: float) -> Any:  # noqa: ANN401
    from datetime import UTC, datetime

    return datetime.now(UTC) + timedelta(seconds=seconds)


class TestLostAnswers:
    """The connection is lost after the write was done: nothing twice, nothing falsely refused."""

    def lose(self, project: SupabaseProject, name: str) -> faults.Rule:
        """Lose the first answer of that function."""
        return project.gateway.fault(faults.drop_after, method="POST", path=name)

    def test_a_run_is_started_once(self, project: SupabaseProject, store: SupabaseStore) -> None:
        lost = self.lose(project, "start_retraining_run")
        store.start_run(make_run())
        assert lost.hits == 1
        assert [str(row["id"]) for row in rows_of(project, "model_retraining_runs")] == [make_id(1)]
        with pytest.raises(RunInProgress):
            store.start_run(make_run(2))

    def test_a_run_is_finished_once(self, project: SupabaseProject, store: SupabaseStore) -> None:
        store.start_run(make_run())
        lost = self.lose(project, "finish_retraining_run")
        store.finish_run(make_finished_run())
        assert lost.hits == 1
        assert [row["status"] for row in rows_of(project, "model_retraining_runs")] == ["completed"]
        assert store.get_run(make_id(1)) == make_finished_run()

    def test_events_and_outcomes_are_written_once(
        self, project: SupabaseProject, store: SupabaseStore
    ) -> None:
        frame = make_events(*range(50), actual_result=None)
        lost = [self.lose(project, "append_evaluation_events")]
        assert store.append_events(frame) in {0, 50}
        lost.append(self.lose(project, "record_evaluation_outcomes"))
        store.record_outcomes({make_id(n): "A" for n in range(50)}, evaluated_at=NOW)
        assert [rule.hits for rule in lost] == [1, 1]
        found = project.sql(
            "select count(*) as n, count(distinct event_id) as ids, min(actual_result) as low,"
            " max(evaluated_at) as at from evaluation_log"
        )
        assert found == [{"n": 50, "ids": 50, "low": "A", "at": NOW}]

    @pytest.mark.parametrize("key", ["event_id", "match_id"])
    def test_l1_a_machine_that_has_not_logged_before_records_outcomes(
        self, project: SupabaseProject, store: SupabaseStore, opened: Open, tmp_path: Path, key: str
    ) -> None:
        store.append_events(make_events(*range(20), actual_result=None))
        frame = read_all(store, labelled_only=False)
        logger = EvaluationLogger(
            str(tmp_path / "new" / "log.csv"),
            model_name=MODEL_NAME,
            open_table=lambda: StoreServingView(opened()),
        )
        told = [
            ParsedOutcome(key=key, value=value, actual="H", known_at=NOW + timedelta(days=1))
            for value in sorted(set(frame[key]))
        ]
        settings = load_settings(flags={"model_name": MODEL_NAME})
        for recorded, known in ((20, 0), (0, 20)):
            report = record(logger, store, told, settings)
            assert (report.recorded, report.already_known) == (recorded, known)
            assert logger.settle() == 0
        logger.close()
        found = project.sql("select count(*) as n from evaluation_log where actual_result = 'H'")
        assert found == [{"n": 20}]

    def test_a_model_is_registered_and_promoted_once(
        self, project: SupabaseProject, store: SupabaseStore
    ) -> None:
        lost = [self.lose(project, "register_model"), self.lose(project, "promote_model")]
        for model_id in ("m-1", "m-2"):
            store.register(make_model(model_id))
        store.promote(make_promotion("m-1", None, 1))
        lost.append(self.lose(project, "promote_model"))
        promoted = store.promote(make_promotion("m-2", "m-1", 2))
        assert [rule.hits for rule in lost] == [1, 1, 1]
        assert promoted == make_model("m-2", state=ModelState.CHAMPION)
        states = {row["model_id"]: row["state"] for row in rows_of(project, "model_metadata")}
        assert states == {"m-1": "retired", "m-2": "champion"}
        assert len(rows_of(project, "model_promotion_events")) == 2

    def test_an_artifact_is_put_once(
        self, project: SupabaseProject, store: SupabaseStore, source: Path, tmp_path: Path
    ) -> None:
        lost = self.lose(project, "/object/ml-models/a/b")
        ref = store.put("ml-models", "a/b", source)
        assert lost.hits == 1
        assert [row["name"] for row in rows_of(project, "storage.objects")] == ["a/b"]
        assert store.fetch(ref, tmp_path / "copy").read_bytes() == source.read_bytes()

    def test_the_next_request_is_claimed_once(
        self, project: SupabaseProject, store: SupabaseStore
    ) -> None:
        for number in (1, 2):
            store.submit(make_request(number))
        lost = self.lose(project, "claim_retraining_request")
        claimed = store.claim(model_name=MODEL_NAME, run_id=make_id(100), now=NOW, lease=LEASE)
        assert lost.hits == 1
        assert claimed == store.get_request(make_id(1))
        requests = store.list_requests(model_name=MODEL_NAME)
        assert [(item.status, item.attempts) for item in requests] == [
            (RequestStatus.PROCESSING, 1),
            (RequestStatus.PENDING, 0),
        ]

    def test_requests_are_submitted_and_closed_once(
        self, project: SupabaseProject, store: SupabaseStore
    ) -> None:
        run_id = make_id(100)
        names = ("submit", "complete", "fail", "release", "cancel")
        lost = [self.lose(project, f"{name}_retraining_request") for name in names]
        for number in (1, 2, 3, 4):
            store.submit(make_request(number))
        for _ in range(3):
            store.claim(model_name=MODEL_NAME, run_id=run_id, now=NOW, lease=LEASE)
        store.complete(make_id(1), run_id=run_id, now=NOW)
        store.fail(make_id(2), run_id=run_id, now=NOW, reason="no luck")
        store.release(make_id(3), run_id=run_id, now=NOW)
        store.cancel(make_id(4), now=NOW)
        assert [rule.hits for rule in lost] == [1] * len(names)
        requests = rows_of(project, "model_retraining_requests order by id")
        assert [(row["status"], row["attempts"]) for row in requests] == [
            ("completed", 1),
            ("failed", 1),
            ("pending", 1),
            ("cancelled", 0),
        ]


class TestRefused:
    """Permanent failures: reported at once, with a remedy."""

    def test_a_wrong_key_is_refused_at_once(
        self, project: SupabaseProject, opened: Open, source: Path
    ) -> None:
        store = opened("wrong")
        for call in (
            lambda: store.start_run(make_run()),
            lambda: store.get_run(make_id(1)),
            lambda: store.put("ml-models", "a/b", source),
        ):
            with pytest.raises(StoreRefused) as caught:
                call()
            assert "SUPABASE_SERVICE_KEY" in caught.value.hint
        assert len(project.gateway.requests) == 3
        assert (
            rows_of(project, "model_retraining_runs") == rows_of(project, "storage.objects") == []
        )

    def test_an_expired_key_is_refused_and_nothing_is_called_missing(
        self, project: SupabaseProject, store: SupabaseStore, source: Path, tmp_path: Path
    ) -> None:
        ref = store.put("ml-models", "a/b", source)
        project.gateway.fault(faults.expired_jwt(project.keys), times=ALWAYS)
        for call in (
            lambda: store.start_run(make_run()),
            lambda: store.champion(model_name=MODEL_NAME),
            lambda: store.put("ml-models", "a/c", source),
            lambda: store.fetch(ref, tmp_path / "copy"),
        ):
            with pytest.raises(StoreRefused) as caught:
                call()
            assert "SUPABASE_SERVICE_KEY" in caught.value.hint
        assert rows_of(project, "model_retraining_runs") == []
        assert not (tmp_path / "copy").exists()

    def test_a_public_key_has_no_rights(
        self, project: SupabaseProject, opened: Open, source: Path, tmp_path: Path
    ) -> None:
        ref = opened().put("ml-models", "a/b", source)
        store = opened(project.anon_key)
        for call in (
            lambda: store.start_run(make_run()),
            lambda: store.append_events(make_events(1)),
            lambda: store.put("ml-models", "a/c", source),
            lambda: store.fetch(ref, tmp_path / "copy"),
        ):
            with pytest.raises(StoreRefused) as caught:
                call()
            assert "SUPABASE_SERVICE_KEY" in caught.value.hint
        assert rows_of(project, "model_retraining_runs") == rows_of(project, "evaluation_log") == []

    def test_a_new_secret_key_opens_everything(
        self, project: SupabaseProject, opened: Open, source: Path, tmp_path: Path
    ) -> None:
        store = opened(project.secret_key)
        store.start_run(make_run())
        ref = store.put("ml-models", "a/b", source)
        assert store.get_run(make_id(1)) == make_run()
        assert store.fetch(ref, tmp_path / "copy").read_bytes() == source.read_bytes()
        assert len(rows_of(project, "model_retraining_runs")) == 1

    def test_a_missing_bucket_points_to_init(
        self, project: SupabaseProject, store: SupabaseStore, source: Path, tmp_path: Path
    ) -> None:
        project.sql(
            "set storage.allow_delete_query = 'true'; "
            "delete from storage.buckets where id = 'ml-models'"
        )
        ref = ArtifactRef(bucket="ml-models", path="a/b", digest=NO_DIGEST, size=1)
        for call in (
            lambda: store.put("ml-models", "a/b", source),
            lambda: store.fetch(ref, tmp_path / "copy"),
        ):
            with pytest.raises(StoreRefused, match="bucket") as caught:
                call()
            assert "ml-pipeline init" in caught.value.hint
        assert rows_of(project, "storage.objects") == []

    def test_a_project_without_our_schema_points_to_init(
        self,
        supabase: SupabaseProject,
        project: SupabaseProject,
        store: SupabaseStore,
        source: Path,
    ) -> None:
        calls: tuple[Call, ...] = (
            lambda: store.start_run(make_run()),
            lambda: store.champion(model_name=MODEL_NAME),
            lambda: store.put("ml-models", "a/b", source),
        )
        try:
            supabase.blank()
            for call in calls:
                with pytest.raises(StoreRefused) as caught:
                    call()
                assert "ml-pipeline init" in caught.value.hint
            assert rows_of(project, "storage.objects") == []
        finally:
            make_schema(supabase)

    def test_a_column_that_was_dropped_is_refused_and_nothing_is_written(
        self, supabase: SupabaseProject, project: SupabaseProject, store: SupabaseStore
    ) -> None:
        try:
            project.sql("alter table model_retraining_runs drop column config_digest cascade")
            project.keep()
            with pytest.raises(StoreRefused) as caught:
                store.start_run(make_run())
            assert "ml-pipeline init" in caught.value.hint
            assert rows_of(project, "model_retraining_runs") == []
        finally:
            make_schema(supabase)

    def test_a_function_that_was_dropped_points_to_init(
        self, supabase: SupabaseProject, project: SupabaseProject, store: SupabaseStore
    ) -> None:
        try:
            project.sql("drop function start_retraining_run(jsonb)")
            for _ in ("unseen", "seen"):
                with pytest.raises(StoreRefused, match="start_retraining_run") as caught:
                    store.start_run(make_run())
                assert "ml-pipeline init" in caught.value.hint
                project.keep()  # and with it, show the REST server the schema
            assert rows_of(project, "model_retraining_runs") == []
        finally:
            make_schema(supabase)

    def test_a_file_over_the_limit_is_refused_with_its_size(
        self, project: SupabaseProject, store: SupabaseStore, source: Path
    ) -> None:
        project.storage.file_size_limit = 10_000
        with pytest.raises(StoreRefused, match="25,600 bytes") as caught:
            store.put("ml-models", "a/b", source)
        assert "50 MB" in caught.value.hint
        project.gateway.fault(faults.status(413), times=ALWAYS)
        with pytest.raises(StoreRefused, match="25,600 bytes"):
            store.put("ml-models", "a/b", source)
        assert len(project.gateway.requests) == 2
        assert rows_of(project, "storage.objects") == []

    def test_a_full_storage_is_named_in_the_error(
        self, project: SupabaseProject, store: SupabaseStore, source: Path
    ) -> None:
        project.storage.capacity = 10_000
        with pytest.raises(StoreUnavailable, match="no space left"):
            store.put("ml-models", "a/b", source)
        assert rows_of(project, "storage.objects") == []

    def test_a_refusal_never_shows_the_row(
        self, project: SupabaseProject, store: SupabaseStore
    ) -> None:
        with pytest.raises(StoreRefused) as caught:
            store.append_events(make_events(1, match_id="somebody's name", confidence=2.0))
        assert "somebody" not in f"{caught.value} {caught.value!r} {vars(caught.value)}"
        with pytest.raises(StoreRefused):
            store.append_events(make_events(1, match_id="a\0b"))
        with pytest.raises(StoreRefused):
            store.append_events(make_events(1, match_id="\ud800"))
        assert rows_of(project, "evaluation_log") == []

    def test_ids_that_are_none_name_nothing(self, store: SupabaseStore) -> None:
        calls: tuple[Call, ...] = (
            lambda: store.get_run("no id"),
            lambda: store.get_request("no id"),
            lambda: store.heartbeat("no id", now=NOW),
            lambda: store.cancel("no id", now=NOW),
            lambda: store.record_outcomes({"no id": "H"}, evaluated_at=NOW),
        )
        for call in calls:
            with pytest.raises(NotFound):
                call()

    @pytest.mark.parametrize("body", [b"{}", b"[1]", b"7", b"null", b'[{"event_id": "x"}]'])
    def test_answers_of_another_shape_are_no_answers(
        self, project: SupabaseProject, store: SupabaseStore, body: bytes
    ) -> None:
        form = {"Content-Type": "application/json"}
        project.gateway.fault(faults.status(200, form, body), times=ALWAYS)
        for call in (
            lambda: read_all(store),
            lambda: store.count_labelled(EVER, model_name=MODEL_NAME),
            lambda: store.list_runs(model_name=MODEL_NAME, limit=1),
            lambda: store.submit(make_request()),
            lambda: store.get_run(make_id(1)),
        ):
            with pytest.raises(StoreError):
                call()


class TestLongLogs:
    """More events than fit in one call or one answer."""

    def test_a_server_that_cuts_answers_at_100_rows_cuts_nothing(
        self, project: SupabaseProject, store: SupabaseStore
    ) -> None:
        count = 2_500
        events = [
            make_event(number, evaluated_at=NOW + timedelta(seconds=number // 700))
            for number in range(count)
        ]
        store.append_events(frame_of(events))
        for number in range(150):
            store.submit(make_request(number))
        project.limit_rows(100)
        assert read_all(store)["event_id"].tolist() == [make_id(n) for n in range(count)]
        samples = store.read_error_samples(
            EVER, model_name=MODEL_NAME, confidence_threshold=0.5, model_ids=None
        )
        assert len(samples) == count
        assert store.count_labelled(EVER, model_name=MODEL_NAME) == {NOW.date(): count}
        assert len(store.list_requests(model_name=MODEL_NAME)) == 150

    def test_pages_are_asked_for_until_one_is_empty(
        self, project: SupabaseProject, store: SupabaseStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(log, "PAGE", 7)
        store.append_events(make_events(*range(21)))
        project.gateway.requests.clear()
        assert read_all(store)["event_id"].tolist() == [make_id(n) for n in range(21)]
        assert asked(project, "read_evaluation_events") == 4

    def test_a_page_that_comes_again_is_an_error(
        self, project: SupabaseProject, store: SupabaseStore
    ) -> None:
        store.append_events(make_events(1))
        seen: list[Reply] = []

        def again(request: Request, forward: Upstream) -> Reply:
            seen.append(forward(request) if not seen else seen[0])
            return seen[-1]

        project.gateway.fault(again, path="read_evaluation_events", times=ALWAYS)
        with pytest.raises(StoreCorrupt, match="read already"):
            read_all(store)

    def test_an_event_whose_outcome_comes_while_it_is_read_is_returned_once(
        self, project: SupabaseProject, store: SupabaseStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(log, "PAGE", 2)
        store.append_events(make_events(*range(6), actual_result=None))
        frames = store.read_events(EVER, model_name=MODEL_NAME, labelled_only=False)
        met = next(frames)["event_id"].tolist()
        store.record_outcomes({make_id(0): "H"}, evaluated_at=NOW + timedelta(days=1))
        met += [event_id for frame in frames for event_id in frame["event_id"]]
        assert met == [make_id(n) for n in range(6)]
        assert len(rows_of(project, "evaluation_log")) == 6

    def test_many_events_are_checked_before_any_is_written(
        self, project: SupabaseProject, store: SupabaseStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.append_events(make_events(25))
        monkeypatch.setattr(log, "APPENDED_AT_ONCE", 10)
        events = [make_event(number) for number in range(25)]
        hostile = (
            make_event(25, prediction="D"),
            make_event(3, prediction="D"),
            make_event(3, features="{"),
            make_event(26, features="{"),
            make_event(26, confidence=float("inf")),
        )
        for event in hostile:
            with pytest.raises(StoreRefused):
                store.append_events(frame_of([*events, event]))
            assert len(rows_of(project, "evaluation_log")) == 1
        project.gateway.requests.clear()
        again = [make_event(4), make_event(5, actual_result=None)]
        assert store.append_events(frame_of([*events, *again])) == 25
        assert len(rows_of(project, "evaluation_log")) == 26
        assert asked(project, "append_evaluation_events") == 6


class TestArtifactStore:
    """What Storage adds to the kit."""

    def test_an_answer_that_was_cut_short_is_fetched_again(
        self, project: SupabaseProject, store: SupabaseStore, source: Path, tmp_path: Path
    ) -> None:
        ref = store.put("ml-models", "a/b", source)
        cut = project.gateway.fault(faults.cut_short, method="GET", path="/object/ml-models/a/b")
        assert store.fetch(ref, tmp_path / "copy").read_bytes() == source.read_bytes()
        assert cut.hits == 1

    def test_bytes_that_were_changed_in_the_bucket_are_corrupt(
        self, project: SupabaseProject, store: SupabaseStore, source: Path, tmp_path: Path
    ) -> None:
        ref = store.put("ml-models", "a/b", source)
        for file in project.storage.folder.iterdir():
            file.write_bytes(b"other")
        with pytest.raises(ArtifactCorrupt, match="a/b"):
            store.fetch(ref, tmp_path / "copy")
        assert sorted(path.name for path in tmp_path.iterdir()) == [source.name]

    def test_an_upload_never_overwrites(
        self, project: SupabaseProject, store: SupabaseStore, source: Path, tmp_path: Path
    ) -> None:
        store.put("ml-models", "a/b", source)
        before = rows_of(project, "storage.objects")
        (tmp_path / "other").write_bytes(b"other")
        with pytest.raises(StoreRefused, match="other bytes"):
            store.put("ml-models", "a/b", tmp_path / "other")
        store.put("ml-models", "a/b", source)
        assert rows_of(project, "storage.objects") == before

    def test_an_object_can_be_had_without_its_digest(
        self, store: SupabaseStore, source: Path, tmp_path: Path
    ) -> None:
        store.put("model-artifacts", "evaluation_log.csv", source)
        target = tmp_path / "folder" / "log.csv"
        assert store.download("model-artifacts", "evaluation_log.csv", target) == target
        assert target.read_bytes() == source.read_bytes()
        with pytest.raises(NotFound):
            store.download("model-artifacts", "nothing.csv", tmp_path / "nothing")
        with pytest.raises(StoreRefused):
            store.download("model-artifacts", "../nothing.csv", tmp_path / "nothing")

    def test_a_page_is_stored_and_fetched_as_any_other_file(
        self, store: SupabaseStore, tmp_path: Path
    ) -> None:
        (tmp_path / "page").write_bytes(b"<html></html>")
        ref = store.put("model-artifacts", "reports/run-1.html", tmp_path / "page")
        assert store.fetch(ref, tmp_path / "copy").read_bytes() == b"<html></html>"

    def test_files_that_cannot_be_read_or_written_are_refused(
        self, project: SupabaseProject, store: SupabaseStore, source: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(StoreRefused, match="nothing"):
            store.put("ml-models", "a/b", tmp_path / "nothing")
        ref = store.put("ml-models", "a/b", source)
        with pytest.raises(StoreRefused):
            store.fetch(ref, source / "below a file")
        assert len(rows_of(project, "storage.objects")) == 1

    def test_the_url_holds_no_secret_and_opens_with_the_key(
        self, project: SupabaseProject, store: SupabaseStore, source: Path
    ) -> None:
        import httpx

        url = store.url(store.put("ml-models", "a/b", source))
        assert url.startswith(f"{project.url}/storage/")
        assert project.service_key not in url
        headers = {"apikey": project.service_key, "Authorization": f"Bearer {project.service_key}"}
        assert httpx.get(url, headers=headers).content == source.read_bytes()
        assert httpx.get(url).status_code != 200


def _everything_in(error: BaseException) -> str:
    """Everything an error shows, local variables of its frames as well."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join([*shown.format(), repr(error), str(error), repr(vars(error))])


def _fails(call: Call) -> str:
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not tell
        return _everything_in(error)
    return ""


class TestSecrets:
    """The key appears nowhere."""

    @pytest.mark.parametrize("loud", [False, True], ids=["as opened", "loud libraries"])
    def test_the_key_is_in_no_log_error_or_traceback(
        self,
        loud: bool,  # noqa: FBT001
        project: SupabaseProject,
        opened: Open,
        source: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        key = project.service_key
        store = opened()
        for name in ("httpx", "httpcore", "hpack", "h2"):
            assert logging.getLogger(name).getEffectiveLevel() >= logging.WARNING
            if loud:
                caplog.set_level(logging.DEBUG, logger=name)
        shown = [repr(store), str(store), repr(vars(store)), json.dumps(dict(store.describe()))]
        calls: tuple[Call, ...] = (
            lambda: store.start_run(make_run()),
            lambda: store.start_run(make_run(2)),
            lambda: store.append_events(make_events(1, confidence=2.0)),
            lambda: read_all(store),
            lambda: store.get_run("no id"),
            lambda: store.champion(model_name=MODEL_NAME),
            lambda: store.put("ml-models", "a/b", source),
            lambda: store.fetch(
                ArtifactRef(bucket="ml-models", path="a/b", digest=NO_DIGEST, size=1),
                source.parent / "copy",
            ),
            lambda: store.put("nowhere", "a/b", source),
        )
        echo = json.dumps({"message": f"who is {key}?", "hint": key, "code": "P0001"}).encode()
        form = {"Content-Type": "application/json"}
        hostile = (
            None,
            faults.drop_before,
            faults.cut_short,
            faults.html200(),
            faults.status(502, body=key.encode()),
            faults.status(400, form, echo),
            faults.status(503, form, echo),
            # A library that was made to tell every header of answers would tell this one.
            faults.status(200, {"Content-Type": "text/x" if loud else f"text/{key}"}, key.encode()),
            faults.expired_jwt(project.keys),
        )
        for fault in hostile:
            project.gateway.faults.clear()
            if fault is not None:
                project.gateway.fault(fault, times=ALWAYS)
            shown += [_fails(call) for call in calls]
        assert sum(bool(text) for text in shown) > 60
        assert len(caplog.records) > (500 if loud else 50)
        everything = "\n".join([*shown, caplog.text, *(str(vars(item)) for item in caplog.records)])
        assert key not in everything
        assert "who is ***?" in everything
        assert rows_of(project, "model_retraining_runs")[0]["status"] == RunStatus.RUNNING.value

    def test_a_key_or_address_that_cannot_be_one_is_refused_without_being_shown(self) -> None:
        for text in ("", "two words", "line\n", "schlüssel"):
            shown = _fails(
                partial(SupabaseStore.open, "https://project.supabase.co", SecretStr(text))
            )
            assert "ConfigError: SUPABASE_SERVICE_KEY" in shown
            assert not text or text not in shown
        for url in ("", "project.supabase.co", "ftp://x", "https://", "https://me:secret@x.co"):
            with pytest.raises(ConfigError, match="SUPABASE_URL"):
                SupabaseStore.open(url, SecretStr("key"))

    def test_the_settings_open_it(self, project: SupabaseProject) -> None:
        for url in (project.url, f"{project.url}/", f"{project.url}/rest/v1/"):
            settings = StoreSettings(supabase_url=url, supabase_key=SecretStr(project.service_key))
            configured: Store = open_configured(settings)
            assert configured.describe() == {"kind": "supabase", "url": project.url}
            assert configured.latest_run(model_name=MODEL_NAME) is None
            configured.close()

    def test_what_people_are_given_is_the_address_that_they_reach(
        self, project: SupabaseProject
    ) -> None:
        variables = {"SUPABASE_URL": project.url, "SUPABASE_SERVICE_KEY": project.service_key}
        ref = ArtifactRef(bucket="model-artifacts", path="a.log", digest=f"sha256:{0:064}", size=0)
        place = "/storage/v1/object/authenticated/model-artifacts/a.log"
        for public, start in (
            ("", project.url),
            ("https://data.example.org/", "https://data.example.org"),
        ):
            given = variables | {"SUPABASE_PUBLIC_URL": public}
            opened = open_configured(load_store_settings(environment=given))
            assert opened.url(ref) == start + place
            assert opened.describe()["url"] == project.url
            opened.close()
        wrong = variables | {"SUPABASE_PUBLIC_URL": "data.example.org"}
        with pytest.raises(ConfigError, match="SUPABASE_PUBLIC_URL"):
            open_configured(load_store_settings(environment=wrong))
