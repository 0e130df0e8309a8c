"""Requests as people make them, on both stores: asked for, served, taken back, never lost."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.errors import RunInProgress, StoreUnavailable
from ml_pipeline.runs import recording
from ml_pipeline.runs.recording import Failed
from ml_pipeline.store.opening import open_store
from ml_pipeline.store.records import (
    Priority,
    RequestStatus,
    RetrainingRequest,
    RetrainingRun,
    RunStatus,
    Source,
)
from tests.conftest import FirstModel
from tests.support import crashing, league, warm
from tests.support.crashing import NOW
from tests.support.places import Place
from tests.support.shell import Finished

USER = league.event_id("a user")
MINUTE = timedelta(minutes=1)


def wish(name: str, **changes: Any) -> RetrainingRequest:  # noqa: ANN401
    values: dict[str, Any] = {
        "request_id": league.event_id(name),
        "model_name": "default",
        "priority": Priority.NORMAL,
        "status": RequestStatus.PENDING,
        "created_at": NOW - 5 * MINUTE,
    }
    return RetrainingRequest(**values | changes)


def running(name: str, at: datetime) -> RetrainingRun:
    return RetrainingRun(
        run_id=league.event_id(name),
        model_name="default",
        source=Source.AUTO_DAILY,
        status=RunStatus.RUNNING,
        started_at=at,
        heartbeat_at=at,
        details={"place": "another machine, process 7"},
    )


def test_a_request_is_submitted_listed_and_cancelled(place: Place, tmp_path: Path) -> None:
    def requests(*arguments: str, **more: str) -> Finished:
        return warm.ml_pipeline("requests", *arguments, cwd=tmp_path, **place.variables, **more)

    asked = requests("submit", "--reason", "drift", "--priority", "high", "--requested_by", USER)
    assert asked.code == 0, asked.stderr
    row = asked.json
    assert (row["status"], row["priority"], row["reason"]) == ("pending", "high", "drift")
    assert (row["attempts"], row["run_id"], row["requested_by"]) == (0, None, USER)
    later = requests("submit").json
    listed = requests("list").json["requests"]
    assert [item["id"] for item in listed] == [row["id"], later["id"]]

    cancelled = requests("cancel", row["id"])
    assert (cancelled.code, cancelled.json["status"]) == (0, "cancelled")
    pending = requests("list", "--status", "pending").json["requests"]
    assert [item["id"] for item in pending] == [later["id"]]

    with place.opened() as store:
        store.claim(
            model_name="default", run_id=league.event_id("x"), now=NOW, lease=10_000 * MINUTE
        )
    held = requests("cancel", later["id"])
    assert held.code == 1
    assert "no longer pending" in held.stderr
    unknown = requests("cancel", league.event_id("unknown"))
    assert (unknown.code, unknown.json["error_type"]) == (1, "NotFound")
    assert requests("submit", "--priority", "urgent").code == 2
    assert requests("submit", "--requested_by", "me").code == 2
    refused = requests("submit", ML_PIPELINE__RUN__OPEN_REQUESTS_TOTAL="1")
    assert refused.code == 1
    assert "1 requests are open already; 1 are allowed" in refused.stderr


def test_the_store_may_be_named_after_the_action_as_well(tmp_path: Path) -> None:
    before = warm.ml_pipeline("requests", "--local", "here", "submit", cwd=tmp_path)
    after = warm.ml_pipeline("requests", "list", "--local", "here", cwd=tmp_path)
    assert [item["id"] for item in after.json["requests"]] == [before.json["id"]]


def test_a_request_that_arrives_during_a_run_waits_and_a_cancelled_one_is_never_run(
    place: Place, first_model: FirstModel, tmp_path: Path
) -> None:
    place.fill(first_model, league.nights_before(NOW, 3))
    with place.opened() as store:
        for name in ("one", "two", "dropped"):
            store.submit(wish(name))
        store.cancel(league.event_id("dropped"), now=NOW)

        def arrive(name: str, _number: int) -> None:
            if name == "register":
                with place.opened() as another:
                    another.submit(wish("late", priority=Priority.HIGH))

        outcome = recording.run(crashing.through(store, arrive), crashing.order(tmp_path / "work"))

        together = sorted(league.event_id(name) for name in ("one", "two"))
        assert sorted(outcome.result["request_ids"]) == together
        served = store.list_requests(model_name="default", status=RequestStatus.COMPLETED)
        assert {request.run_id for request in served} == {outcome.run.run_id}
        assert sorted(request.request_id for request in served) == together
        assert store.get_request(league.event_id("dropped")) == wish(
            "dropped", status=RequestStatus.CANCELLED, processed_at=NOW
        )
        assert store.get_request(league.event_id("late")).status is RequestStatus.PENDING

        later = crashing.order(tmp_path / "work", NOW + timedelta(hours=1), "next")
        following = recording.run(store, later)
        assert following.result["request_ids"] == [league.event_id("late")]
        assert following.run.outcome == "skipped_no_new_data"
        late = store.get_request(league.event_id("late"))
        assert (late.status, late.run_id) == (RequestStatus.COMPLETED, following.run.run_id)


def test_a_run_that_works_long_keeps_its_requests(
    place: Place, first_model: FirstModel, tmp_path: Path
) -> None:
    place.fill(first_model, league.nights_before(NOW, 3))
    clock = iter(NOW + number * 5 * MINUTE for number in range(10_000))
    seen: list[datetime] = []

    def look(name: str, _number: int) -> None:
        if name == "register":
            with place.opened() as another:
                lease = another.get_request(league.event_id("one")).lease_until
                assert lease is not None
                seen.append(lease)

    with place.opened() as store:
        store.submit(wish("one"))
        settings = league.settings_for(run__request_lease_minutes=15.0)
        order = crashing.order(tmp_path / "w", clock=lambda: next(clock), settings=settings)
        outcome = recording.run(crashing.through(store, look), order)
        request = store.get_request(league.event_id("one"))
        assert request.claimed_at is not None
        assert seen[0] > request.claimed_at + 15 * MINUTE
        assert (request.status, request.attempts) == (RequestStatus.COMPLETED, 1)
        assert request.run_id == outcome.run.run_id


@pytest.mark.parametrize("ended", [RunStatus.COMPLETED, RunStatus.FAILED])
def test_a_request_left_by_a_run_that_ended_follows_it_at_once(
    place: Place, first_model: FirstModel, tmp_path: Path, ended: RunStatus
) -> None:
    """The run died between its last row and its requests: nobody waits for the lease."""
    place.fill(first_model, league.nights_before(NOW, 3))
    with place.opened() as store:
        store.submit(wish("one"))
        settings = league.settings_for()
        if ended is RunStatus.FAILED:
            settings = league.settings_for(log__source=str(tmp_path / "none.csv"))

        def die(name: str, _number: int) -> None:
            if name in {"complete", "fail"}:
                raise StoreUnavailable("down")

        order = crashing.order(tmp_path / "w", settings=settings)
        with pytest.raises(StoreUnavailable):
            recording.run(crashing.through(store, die), order)
        left = store.get_request(league.event_id("one"))
        assert left.status is RequestStatus.PROCESSING
        assert store.get_run(str(left.run_id)).status is ended

        again = recording.run(store, crashing.order(tmp_path / "w", NOW + MINUTE, "again"))

        request = store.get_request(left.request_id)
        assert request.status is RequestStatus.COMPLETED
        if ended is RunStatus.COMPLETED:
            assert request.run_id == left.run_id
            assert again.result["request_ids"] == []
        else:
            assert request.run_id == again.run.run_id
            assert request.attempts == 2


def test_a_request_is_given_up_after_its_attempts_with_the_last_reason(
    place: Place, first_model: FirstModel, tmp_path: Path
) -> None:
    place.fill(first_model, league.nights_before(NOW, 1))
    with place.opened() as store:
        store.submit(wish("one"))

        def drop(name: str, _number: int) -> None:
            if name == "put":
                raise StoreUnavailable("no network")

        for attempt in range(1, 4):
            order = crashing.order(tmp_path / "w", NOW + attempt * MINUTE, f"try {attempt}")
            assert isinstance(recording.run(crashing.through(store, drop), order), Failed)
            request = store.get_request(league.event_id("one"))
            assert request.attempts == attempt
            wanted = RequestStatus.FAILED if attempt == 3 else RequestStatus.PENDING
            assert request.status is wanted
        assert "no network" in str(request.error_message)
        assert request.run_id is not None


def test_s1_a_user_reads_in_their_request_that_a_run_failed_and_not_why(
    place: Place, tmp_path: Path
) -> None:
    """The cause may quote rows of the log; it stands in the run's row."""
    settings = league.settings_for(log__source=str(tmp_path / "marked.csv"))
    (tmp_path / "marked.csv").write_text("confidential\n1\n")
    with place.opened() as store:
        store.submit(wish("users", requested_by=USER))
        store.submit(wish("ours"))
        failed = recording.run(store, crashing.order(tmp_path / "w", settings=settings)).run
        assert "confidential" in str(failed.error_message)
        users, ours = (store.get_request(league.event_id(name)) for name in ("users", "ours"))
    assert users.error_message == f"run {failed.run_id} failed"
    assert ours.error_message == failed.error_message


def test_the_second_comer_is_told_who_holds_the_model_and_since_when(
    place: Place, tmp_path: Path
) -> None:
    now = datetime.now().astimezone()
    with place.opened() as store:
        store.start_run(running("holder", now - 3 * MINUTE))
        store.submit(wish("one"))
        reported = warm.ml_pipeline("run", cwd=tmp_path, **place.variables)

        assert reported.code == 0, reported.stderr
        assert (reported.json["status"], reported.json["outcome"]) == ("running", None)
        for words in (
            league.event_id("holder"),
            "auto_daily, on another machine, process 7",
            "is at work since",
            "last heard of at",
            "60 minutes",
        ):
            assert words in reported.json["outcome_reason"]
            assert words in reported.stderr
        assert len(store.list_runs(model_name="default", limit=9)) == 1
        assert store.get_request(league.event_id("one")) == wish("one")
        strict = warm.ml_pipeline(
            "run", cwd=tmp_path, **place.variables, ML_PIPELINE__RUN__WHEN_BUSY="fail"
        )
        assert strict.code == 1


def test_a_takeover_closes_the_dead_run_with_its_last_heartbeat_and_serves_its_requests(
    place: Place, first_model: FirstModel, tmp_path: Path
) -> None:
    place.fill(first_model, league.nights_before(NOW, 3))
    heard = NOW - timedelta(hours=2)
    with place.opened() as store:
        store.start_run(running("dead", heard))
        store.submit(wish("one"))
        # Its lease would last for hours to come.
        dead = league.event_id("dead")
        store.claim(model_name="default", run_id=dead, now=NOW, lease=timedelta(hours=9))
        outcome = recording.run(store, crashing.order(tmp_path / "w"))

        closed = store.get_run(dead)
        assert closed.status is RunStatus.FAILED
        assert f"no heartbeat since {heard:%Y-%m-%d}" in str(closed.error_message)
        assert outcome.result["outcome"] == "promoted"
        assert outcome.result["request_ids"] == [league.event_id("one")]


def test_a_run_that_was_taken_over_while_it_slept_does_nothing_when_it_wakes_up(
    place: Place, first_model: FirstModel, tmp_path: Path
) -> None:
    place.fill(first_model, league.nights_before(NOW, 3))

    def take_over(name: str, _number: int) -> None:
        if name == "promote":
            with place.opened() as another:
                late = NOW + timedelta(hours=2)
                recording.run(another, crashing.order(tmp_path / "b", late, "second"))

    with place.opened() as store:
        store.submit(wish("one"))
        first = recording.run(crashing.through(store, take_over), crashing.order(tmp_path / "a"))

        assert isinstance(first, Failed)
        assert "no heartbeat since" in str(first.result["error"])
        runs = store.list_runs(model_name="default", limit=9)
        assert [run.status for run in runs] == [RunStatus.COMPLETED, RunStatus.FAILED]
        events = store.promotion_events(model_name="default")
        assert [event.run_id for event in events] == [runs[0].run_id, None]
        request = store.get_request(league.event_id("one"))
        assert (request.status, request.run_id) == (RequestStatus.COMPLETED, runs[0].run_id)


def test_two_schedulers_that_start_in_the_same_second_do_not_both_train(
    place: Place, first_model: FirstModel, tmp_path: Path
) -> None:
    place.fill(first_model, league.nights_before(NOW, 3))
    start = Barrier(2)

    def schedule(name: str) -> Finished:
        (tmp_path / name).mkdir()
        start.wait()
        return warm.call(one_run, tmp_path / name, cwd=tmp_path / name, **place.variables)

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(schedule, ["a", "b"]))

    assert [done.code for done in both] == [0, 0], both
    reported = sorted(done.stdout.strip() for done in both)
    assert reported in (["RunInProgress", "promoted"], ["promoted", "skipped_no_new_data"])
    with place.opened() as store:
        assert len(store.promotion_events(model_name="default")) == 2
        assert len(store.list_models(model_name="default")) == 2


def one_run(work: Path) -> None:
    """One scheduler: a run on the environment's store that says what it came to."""
    store = open_store(load_store_settings())
    try:
        outcome = recording.run(store, crashing.order(work, name=work.name)).result["outcome"]
    except RunInProgress:
        outcome = "RunInProgress"
    sys.stdout.write(f"{outcome}\n")
