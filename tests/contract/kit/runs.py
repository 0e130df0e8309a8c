"""The conformance kit: promises about runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, timedelta
from typing import Any

import pytest

from ml_pipeline.errors import AlreadyFinished, NotFound, RunInProgress, StoreRefused
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import ModelState, Outcome, RunStatus
from tests.contract.kit.base import (
    AWKWARD,
    RACERS,
    Call,
    OpenStore,
    StoreFixtures,
    race,
)
from tests.support.factories import (
    MODEL_NAME,
    NOW,
    frame_of,
    make_alert,
    make_day,
    make_event,
    make_finished_run,
    make_id,
    make_model,
    make_promotion,
    make_request,
    make_run,
)


class RunLedgerContract(StoreFixtures):
    """Runs."""

    def test_defect_1_a_started_run_comes_back_as_it_was(self, store: Store) -> None:
        run = make_run(details={"note": AWKWARD}, config_digest="sha256:1")
        store.start_run(run)
        assert store.get_run(run.run_id) == run
        assert store.latest_run(model_name=MODEL_NAME) == run

    def test_a_finished_run_comes_back_with_everything_it_came_to(self, store: Store) -> None:
        store.start_run(make_run())
        run = make_finished_run(outcome_reason=AWKWARD)
        store.finish_run(run)
        assert store.get_run(run.run_id) == run

    def test_times_come_back_utc_aware(self, store: Store) -> None:
        store.start_run(make_run())
        store.finish_run(make_finished_run())
        run = store.get_run(make_id(1))
        for moment in (run.started_at, run.heartbeat_at, run.completed_at):
            assert moment is not None
            assert moment.tzinfo is UTC

    def test_starting_the_same_run_again_changes_nothing(self, store: Store) -> None:
        store.start_run(make_run())
        later = NOW + timedelta(minutes=1)
        store.heartbeat(make_id(1), now=later)
        store.start_run(make_run())
        assert store.list_runs(model_name=MODEL_NAME, limit=9) == [make_run(heartbeat_at=later)]

    def test_starting_a_known_run_with_other_content_is_refused(self, store: Store) -> None:
        store.start_run(make_run())
        with pytest.raises(StoreRefused):
            store.start_run(make_run(started_at=NOW + timedelta(seconds=1)))
        assert store.get_run(make_id(1)) == make_run()

    def test_a_run_starts_as_running(self, store: Store) -> None:
        for run in (make_finished_run(), make_run(status=RunStatus.PENDING)):
            with pytest.raises(StoreRefused):
                store.start_run(run)
        assert store.latest_run(model_name=MODEL_NAME) is None

    def test_a_second_run_of_the_model_is_refused_while_one_is_running(self, store: Store) -> None:
        store.start_run(make_run(1))
        with pytest.raises(RunInProgress, match=make_id(1)):
            store.start_run(make_run(2))
        assert store.list_runs(model_name=MODEL_NAME, limit=9) == [make_run(1)]

    def test_runs_of_other_models_do_not_wait(self, store: Store) -> None:
        store.start_run(make_run(1))
        store.start_run(make_run(2, model_name="tennis"))
        assert store.list_runs(model_name="tennis", limit=9) == [make_run(2, model_name="tennis")]

    def test_the_next_run_starts_when_the_last_is_finished(self, store: Store) -> None:
        store.start_run(make_run(1))
        store.finish_run(make_finished_run(1))
        store.start_run(make_run(2))
        assert store.get_run(make_id(2)).status is RunStatus.RUNNING

    def test_of_racing_starts_exactly_one_wins(self, store: Store, open_store: OpenStore) -> None:
        got = race(open_store, lambda handle, number: handle.start_run(make_run(number)))
        assert got.count(None) == 1
        assert sum(isinstance(item, RunInProgress) for item in got) == RACERS - 1
        runs = store.list_runs(model_name=MODEL_NAME, limit=9)
        assert [run.run_id for run in runs] == [make_id(got.index(None))]

    def test_a_heartbeat_moves_forward_only(self, store: Store) -> None:
        store.start_run(make_run())
        later = NOW + timedelta(minutes=2)
        for moment in (later, later, NOW):
            store.heartbeat(make_id(1), now=moment)
        assert store.get_run(make_id(1)).heartbeat_at == later

    def test_records_that_were_read_never_change(self, store: Store) -> None:
        store.start_run(make_run())
        before = store.get_run(make_id(1))
        store.heartbeat(make_id(1), now=NOW + timedelta(minutes=2))
        assert before == make_run()
        with pytest.raises(FrozenInstanceError):
            before.status = RunStatus.FAILED  # type: ignore[misc]

    def test_unknown_runs_are_not_found(self, store: Store) -> None:
        assert store.latest_run(model_name=MODEL_NAME) is None
        assert store.list_runs(model_name=MODEL_NAME, limit=9) == []
        calls: tuple[Call, ...] = (
            lambda: store.get_run(make_id(9)),
            lambda: store.heartbeat(make_id(9), now=NOW),
            lambda: store.finish_run(make_finished_run(9)),
        )
        for call in calls:
            with pytest.raises(NotFound):
                call()

    def test_finishing_again_with_the_same_result_is_fine(self, store: Store) -> None:
        store.start_run(make_run())
        store.finish_run(make_finished_run())
        store.finish_run(make_finished_run())
        assert store.get_run(make_id(1)) == make_finished_run()

    def test_a_finished_run_refuses_writes(self, store: Store) -> None:
        store.start_run(make_run())
        store.finish_run(make_finished_run())
        calls: tuple[Call, ...] = (
            lambda: store.finish_run(make_finished_run(dataset_size=13)),
            lambda: store.heartbeat(make_id(1), now=NOW + timedelta(hours=1)),
            lambda: store.start_run(make_run()),
        )
        for call in calls:
            with pytest.raises(AlreadyFinished):
                call()
        assert store.get_run(make_id(1)) == make_finished_run()

    def test_finishing_needs_an_end(self, store: Store) -> None:
        store.start_run(make_run())
        with pytest.raises(StoreRefused):
            store.finish_run(make_run(dataset_size=5))
        assert store.get_run(make_id(1)) == make_run()

    def test_finishing_cannot_change_the_runs_identity(self, store: Store) -> None:
        store.start_run(make_run())
        for change in ({"model_name": "tennis"}, {"started_at": NOW - timedelta(days=1)}):
            with pytest.raises(StoreRefused):
                store.finish_run(make_finished_run(**change))
        assert store.get_run(make_id(1)) == make_run()

    def test_metrics_that_are_no_numbers_are_refused(self, store: Store) -> None:
        store.start_run(make_run())
        with pytest.raises(StoreRefused):
            store.finish_run(make_finished_run(metrics={"accuracy": math.nan}))
        assert store.get_run(make_id(1)) == make_run()

    def test_runs_are_listed_newest_first(self, store: Store) -> None:
        for number in (2, 3, 1):
            at = NOW + timedelta(hours=number)
            store.start_run(make_run(number, started_at=at, heartbeat_at=at))
            store.finish_run(make_finished_run(number, started_at=at, heartbeat_at=at))
        runs = store.list_runs(model_name=MODEL_NAME, limit=2)
        assert [run.run_id for run in runs] == [make_id(3), make_id(2)]
        latest = store.latest_run(model_name=MODEL_NAME)
        assert latest is not None
        assert latest.run_id == make_id(3)

    def test_runs_come_with_all_of_their_details_or_some(self, store: Store) -> None:
        details = {"review": {"rows": [1, 2]}, "place": "here", "report_path": None}
        store.start_run(make_run(1))
        store.finish_run(make_finished_run(1, details=details))

        def listed(**chosen: Any) -> Any:  # noqa: ANN401 - passed on
            (run,) = store.list_runs(model_name=MODEL_NAME, limit=9, **chosen)
            assert replace(run, details=details) == store.get_run(make_id(1))
            return run.details

        assert listed() == details
        assert listed(only=("place", "unknown")) == {"place": "here"}
        assert listed(only=()) == {}
        assert listed(without=("review", "unknown")) == {"place": "here", "report_path": None}
        assert listed(only=("place", "report_path"), without=("place",)) == {"report_path": None}

    def test_the_etag_changes_with_everything_that_is_shown(self, store: Store) -> None:
        def etag() -> str | None:
            return store.etag(model_name=MODEL_NAME, since=make_day(1).day)

        before = etag()
        if before is None:
            # What is on this machine is read anew each time.
            assert store.describe()["kind"] == "local"
            return
        changes: list[Callable[[], object]] = [
            lambda: store.start_run(make_run(1)),
            lambda: store.heartbeat(make_id(1), now=NOW + timedelta(minutes=1)),
            lambda: store.finish_run(make_finished_run(1)),
            lambda: store.submit(make_request(1)),
            lambda: store.cancel(make_id(1), now=NOW),
            lambda: store.register(make_model("a", state=ModelState.AWAITING)),
            lambda: store.promote(make_promotion("a", None)),
            lambda: store.keep_days([make_day(1)], now=NOW),
            lambda: store.keep_days([make_day(1, evaluated=999)], now=NOW),
            lambda: store.open_alert(make_alert()),
        ]
        for change in changes:
            change()
            assert etag() not in {None, before}
            before = etag()
        store.start_run(make_run(2, model_name="tennis"))
        store.append_events(frame_of([make_event(1)]))
        assert etag() == before

    def test_a_silent_run_is_taken_over(self, store: Store) -> None:
        store.start_run(make_run(1))
        now = NOW + timedelta(hours=1, microseconds=1)
        hour = timedelta(hours=1)
        closed = store.fail_stale_runs(model_name=MODEL_NAME, now=now, older_than=hour)
        assert [run.run_id for run in closed] == [make_id(1)]
        run = store.get_run(make_id(1))
        assert closed == [run]
        assert (run.status, run.outcome) == (RunStatus.FAILED, Outcome.FAILED)
        assert run.completed_at == now
        assert run.outcome_reason
        assert run.error_message
        store.start_run(make_run(2))
        with pytest.raises(AlreadyFinished):
            store.heartbeat(make_id(1), now=now)
        with pytest.raises(AlreadyFinished):
            store.finish_run(make_finished_run(1))

    def test_a_run_with_a_fresh_heartbeat_is_left_alone(self, store: Store) -> None:
        store.start_run(make_run(1))
        store.start_run(make_run(2, model_name="tennis"))
        hour = timedelta(hours=1)
        exactly = store.fail_stale_runs(model_name=MODEL_NAME, now=NOW + hour, older_than=hour)
        assert exactly == []
        closed = store.fail_stale_runs(model_name="tennis", now=NOW + 2 * hour, older_than=hour)
        assert [run.run_id for run in closed] == [make_id(2)]
        assert store.get_run(make_id(1)) == make_run(1)

    def test_a_silent_run_is_closed_once(self, store: Store, open_store: OpenStore) -> None:
        store.start_run(make_run(1))
        got = race(
            open_store,
            lambda handle, number: handle.fail_stale_runs(
                model_name=MODEL_NAME,
                now=NOW + timedelta(hours=2, seconds=number),
                older_than=timedelta(hours=1),
            ),
        )
        assert sorted(map(len, got)) == [0] * (RACERS - 1) + [1]

    def test_a_heartbeat_from_the_future_does_not_block_for_ever(self, store: Store) -> None:
        wrong = NOW + timedelta(days=1500)
        store.start_run(make_run(1, started_at=wrong, heartbeat_at=wrong))
        hour = timedelta(hours=1)
        near = store.fail_stale_runs(model_name=MODEL_NAME, now=wrong - hour, older_than=hour)
        assert near == []
        (closed,) = store.fail_stale_runs(model_name=MODEL_NAME, now=NOW, older_than=hour)
        assert closed.status is RunStatus.FAILED
        assert "ahead of the clock" in str(closed.error_message)
        store.start_run(make_run(2))
