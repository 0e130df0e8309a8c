"""An outcome that was corrected is learned as if it had been right from the start."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.decay.context import CheckContext
from ml_pipeline.decay.lineage import all_days
from ml_pipeline.evaluation_log.opening import open_logger
from ml_pipeline.registry.models import load_model_version
from ml_pipeline.runs import recording
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import Outcome, RetrainingRun, RunStatus, parse_utc
from tests.conftest import FirstModel
from tests.support import league
from tests.support.crashing import NOW, order
from tests.support.in_process import train_here
from tests.support.places import Place
from tests.support.warm import ml_pipeline

NIGHTS = league.nights_before(NOW, 3, matches=30)
WRONG = league.event_id(f"{NIGHTS[1].day}/7")
LATER = NOW + timedelta(hours=12)
Row = dict[str, Any]


def pass_at(store: Store, work: Path, now: datetime = NOW) -> None:
    recording.run(store, order(work, now, name=f"{now}"))


def event(store: Store, event_id: str = WRONG) -> Row:
    frame = store.find_events(model_name="default", event_ids=[event_id], match_ids=[])
    return {str(name): value for name, value in frame.iloc[0].items()}


def state(store: Store) -> Mapping[str, Any]:
    """What the model that serves has learned."""
    champion = store.champion(model_name="default")
    assert champion is not None
    model: Any = load_model_version(store, champion)
    memory = model.memory()
    learned = {f"heads {n}": heads for n, heads in enumerate(memory.heads)}
    learned |= {f"precisions {n}": kept for n, kept in enumerate(memory.precisions or ())}
    return learned | {
        "vote": memory.vote,
        "digest": model.line_["rows_digest"], "seen": model.line_["rows_seen"],
    }  # fmt: skip


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    assert one.keys() == other.keys()
    return all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def as_it_should_be(
    first_model: FirstModel, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Mapping[str, Any], str]:
    """The state after a run that saw the right outcome from the start, and that outcome."""
    folder = tmp_path_factory.mktemp("right")
    store = league.open_league(folder / "store", first_model.path, first_model.model, NIGHTS)
    pass_at(store, folder / "work", LATER)
    found = state(store), str(event(store)["actual_result"])
    store.close()
    return found


def fill_with_a_wrong_one(place: Place, first_model: FirstModel, right: str) -> str:
    """The nights with one wrong outcome, which is returned."""
    wrong = next(label for label in league.CLASSES if label != right)
    with place.opened() as store:
        league.enthrone(
            store, first_model.path, league.settings_for(), now=league.before_first(NIGHTS)
        )
        for night in NIGHTS:
            events = league.events_of(first_model.model, night)
            events.loc[events["event_id"] == WRONG, "actual_result"] = wrong
            store.append_events(events)
    return wrong


def by_flag(place: Place, right: str, tmp_path: Path) -> None:
    done = ml_pipeline(
        "outcome", "--correct", "--event-id", WRONG, "--actual", right, cwd=tmp_path,
        **place.variables,
    )  # fmt: skip
    assert (done.code, done.json["corrected"], done.json["recorded"]) == (0, 1, 0), done.stdout


def by_file(place: Place, right: str, tmp_path: Path) -> None:
    (tmp_path / "right.csv").write_text(f"event_id,actual_result\n{WRONG},{right}\n")
    done = ml_pipeline(
        "outcome", "--correct", "--csv", "right.csv", cwd=tmp_path, **place.variables
    )
    assert (done.code, done.json["corrected"]) == (0, 1), done.stdout


def by_match(place: Place, right: str, tmp_path: Path) -> None:
    match_id = f"match-{NIGHTS[1].day}-7"
    done = ml_pipeline(
        "outcome", "--correct", "--match-id", match_id, "--actual", right, cwd=tmp_path,
        **place.variables,
    )  # fmt: skip
    assert (done.code, done.json["corrected"]) == (0, 1), done.stdout


def by_python(place: Place, right: str, tmp_path: Path) -> None:
    settings = league.settings_for(log__csv_file=str(tmp_path / "log.csv"))
    with open_logger(settings, load_store_settings(environment=place.variables)) as logger:
        logger.reconcile_logs(repair=True)
        logger.log_evaluation(WRONG, right, correct=True)


def by_sql(place: Place, right: str, tmp_path: Path) -> None:  # noqa: ARG001
    query = "UPDATE evaluation_log SET actual_result = {0} WHERE event_id = {0}"
    if place.project is not None:
        place.project.sql(query.format("%s"), [right, WRONG])
        return
    path = Path(place.variables["ML_PIPELINE_LOCAL"]) / "store.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(query.format("?"), [right, WRONG])


DOORS = [by_flag, by_file, by_match, by_python, by_sql]
RIGHT = "D"


@pytest.mark.parametrize("door", DOORS)
def test_l5_a_correction_keeps_the_old_outcome_and_marks_its_day(
    place: Place,
    first_model: FirstModel,
    tmp_path: Path,
    door: Callable[[Place, str, Path], None],
) -> None:
    wrong = fill_with_a_wrong_one(place, first_model, RIGHT)
    with place.opened() as store:
        before = event(store)
    door(place, RIGHT, tmp_path)
    with place.opened() as store:
        after = event(store)
        assert store.count_changes(model_name="default") == {NIGHTS[1].day: 1}
    assert (after["actual_result"], after["evaluated_at"]) == (RIGHT, before["evaluated_at"])
    assert after["accuracy"] == float(after["prediction"] == RIGHT)
    (former,) = json.loads(after["metadata"])["outcome_corrections"]
    assert former["actual_result"] == wrong
    assert parse_utc(former["evaluated_at"]) == before["evaluated_at"]
    assert all(former[name] for name in ("replaced_at", "replaced_by"))
    # The same again is known already, whatever the door.
    for again in (by_flag, by_sql):
        if again is by_sql:
            again(place, RIGHT, tmp_path)
        else:
            done = ml_pipeline(
                "outcome", "--correct", "--event-id", WRONG, "--actual", RIGHT, cwd=tmp_path,
                **place.variables,
            )  # fmt: skip
            assert (done.code, done.json["corrected"], done.json["already_known"]) == (0, 0, 1)
    with place.opened() as store:
        assert store.count_changes(model_name="default") == {NIGHTS[1].day: 1}
        assert event(store)["metadata"] == after["metadata"]


@pytest.mark.long
@pytest.mark.parametrize("door", DOORS)
def test_l5_a_corrected_outcome_is_learned_as_if_it_had_been_there_from_the_start(
    place: Place,
    first_model: FirstModel,
    tmp_path: Path,
    as_it_should_be: tuple[Mapping[str, Any], str],
    door: Callable[[Place, str, Path], None],
) -> None:
    should_be, right = as_it_should_be
    fill_with_a_wrong_one(place, first_model, right)
    with place.opened() as store:
        pass_at(store, tmp_path / "first")
        assert not same(state(store), should_be)

    door(place, right, tmp_path)

    with place.opened() as store:
        pass_at(store, tmp_path / "second", LATER)
        run = store.latest_run(model_name="default")
        assert run is not None
        assert (run.status, run.outcome) == (RunStatus.COMPLETED, "promoted"), run.outcome_reason
        assert run.details["rebuilt"] is True
        assert same(state(store), should_be)

        pass_at(store, tmp_path / "third", LATER + timedelta(hours=1))
        run = store.latest_run(model_name="default")
        assert run is not None
        assert str(run.outcome).startswith("skipped")


def test_l5_the_watchdog_sums_a_corrected_or_erased_day_again(
    place: Place, first_model: FirstModel, tmp_path: Path
) -> None:
    fill_with_a_wrong_one(place, first_model, RIGHT)

    def days(hour: int) -> dict[date, tuple[int, int]]:
        with place.opened() as store:
            context = CheckContext(
                settings=league.settings_for(),
                now=NOW + timedelta(hours=hour),
                new_id=league.ids(),
            )
            all_days(store, context)
            kept = store.list_days(model_name="default", since=NIGHTS[0].day)
            return {day.day: (day.evaluated, day.correct) for day in kept if not day.model_id}

    before = days(0)
    assert days(1) == before
    with place.opened() as store:
        was_right = event(store)["accuracy"]
    by_sql(place, RIGHT, tmp_path)
    with place.opened() as store:
        gain = event(store)["accuracy"] - was_right
    right = before[NIGHTS[1].day][1] + gain
    assert days(2) == before | {NIGHTS[1].day: (30, right)}
    with place.opened() as store:
        ids = [league.event_id(f"{NIGHTS[0].day}/{number}") for number in range(30)]
        store.erase_events(model_name="default", event_ids=ids, match_ids=[])
    assert days(3) == before | {NIGHTS[1].day: (30, right), NIGHTS[0].day: (0, 0)}


@pytest.mark.long
@pytest.mark.parametrize("day", [0, 1], ids=["some of the first night", "all of the second"])
def test_l11_the_next_run_learns_as_if_the_erased_rows_had_never_been_there(
    place: Place, first_model: FirstModel, tmp_path: Path, day: int
) -> None:
    theirs = [league.event_id(f"{NIGHTS[day].day}/{n}") for n in range(5 if day == 0 else 30)]
    never = league.open_league(tmp_path / "never", first_model.path, first_model.model, [])
    for night in NIGHTS:
        events = league.events_of(first_model.model, night)
        never.append_events(events[~events["event_id"].isin(theirs)])
    pass_at(never, tmp_path / "a", LATER)
    should_be = state(never)
    never.close()

    place.fill(first_model, NIGHTS)
    with place.opened() as store:
        pass_at(store, tmp_path / "b")
        assert not same(state(store), should_be)
        erased = store.erase_events(model_name="default", event_ids=theirs, match_ids=[])
        assert erased["evaluation_log"] == len(theirs)
        pass_at(store, tmp_path / "c", LATER)
        run = store.latest_run(model_name="default")
        assert run is not None
        assert run.details["rebuilt"] is True
        assert run.outcome == "promoted", run.outcome_reason
        assert same(state(store), should_be)


@pytest.mark.long
def test_l11_when_everything_was_erased_the_approved_base_serves(
    place: Place, first_model: FirstModel, tmp_path: Path
) -> None:
    place.fill(first_model, NIGHTS)
    with place.opened() as store:
        pass_at(store, tmp_path / "first")
        before = store.champion(model_name="default")
        assert before is not None
        assert before.model_id != league.FIRST_MODEL
        ids = [league.event_id(f"{night.day}/{n}") for night in NIGHTS for n in range(30)]
        store.erase_events(model_name="default", event_ids=ids, match_ids=[])
        for hour in (12, 13):
            pass_at(store, tmp_path / str(hour), NOW + timedelta(hours=hour))
            run = store.latest_run(model_name="default")
            assert run is not None
            assert run.outcome == "skipped_no_new_data", run.outcome_reason
            assert run.champion_id == league.FIRST_MODEL
            is_told = f"{league.FIRST_MODEL} serves again" in (run.outcome_reason or "")
            assert is_told is (hour == 12), run.outcome_reason
            after = store.champion(model_name="default")
            assert after is not None
            assert after.model_id == league.FIRST_MODEL
        (event, *_) = store.promotion_events(model_name="default")
        assert "erased" in event.reason
        # What comes later is learned on the base, beside nothing of what was erased.
        tomorrow = NOW + timedelta(days=2)
        (night,) = league.nights_before(tomorrow, 1, matches=30)
        store.append_events(league.events_of(first_model.model, night))
        pass_at(store, tmp_path / "later", tomorrow)
        assert state(store)["seen"] == 30


def test_a_change_after_which_the_last_learned_day_is_empty_is_learned_once(
    place: Place, first_model: FirstModel, tmp_path: Path
) -> None:
    """The model that has learned again knows of fewer days than the one before it."""
    nights = [NIGHTS[0], replace(NIGHTS[1], matches=1)]
    place.fill(first_model, nights)
    settings = league.settings_for(run__trigger="any", training__adaptive__min_night_rows=1)

    def run(hours: int) -> RetrainingRun:
        with place.opened() as store:
            later = NOW + timedelta(hours=hours)
            asked = order(tmp_path, later, f"{hours}", settings=settings, train=train_here)
            return recording.run(store, asked).run

    assert run(0).training_rows == 31
    with place.opened() as store:
        only = {league.event_id(f"{nights[1].day}/0")}
        store.erase_events(model_name="default", event_ids=only, match_ids=set(), dry_run=False)
    assert run(1).details["rebuilt"]
    again = run(2)
    assert again.outcome is Outcome.SKIPPED_NO_NEW_DATA, again.outcome_reason
