"""A labelled row is learned however late it comes, and also when it comes while a run reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest

from ml_pipeline.evaluation_log.loading import load_log
from ml_pipeline.evaluation_log.rules import LogRequest
from ml_pipeline.registry.models import load_model_version
from ml_pipeline.runs import recording
from ml_pipeline.runs.preparing import UnlearnedRows, unlearned_rows
from ml_pipeline.runs.recording import Order
from ml_pipeline.runs.replay import replay
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import (
    Lineage,
    LookbackWindow,
    ModelState,
    ModelVersion,
    Outcome,
    day_start,
)
from tests.conftest import FirstModel
from tests.support import crashing, league
from tests.support.crashing import NOW
from tests.support.in_process import train_here
from tests.support.places import Place, long_but

NIGHTS = league.nights_before(NOW, 2)
FIRST = NIGHTS[0].day.toordinal()
EPOCH = 719163


class Meanwhile:
    """The store, but `arrive` is called once, after the first read of the log."""

    def __init__(self, store: Store, arrive: Callable[[], object]) -> None:
        self.store = store
        self.waiting = [arrive]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = cast("Callable[..., Any]", getattr(self.store, name))

        def then(*args: object, **kwargs: object) -> object:
            answer = method(*args, **kwargs)
            if name == "read_events":
                answer = iter(list(answer))
            if name in {"read_events", "count_labelled"} and self.waiting:
                self.waiting.pop()()
            return answer

        return then


def test_a_row_that_arrives_while_the_log_is_read_is_not_counted_as_learned(
    place: Place, first_model: FirstModel, tmp_path: Path
) -> None:
    place.fill(first_model, NIGHTS)
    late = league.events_of(first_model.model, replace(NIGHTS[0], matches=3), tag="late ")
    request = LogRequest(
        now=NOW,
        window=LookbackWindow.ending(NOW, days=7),
        learn_from=None,
        model_ids=None,
        count_from=day_start(NIGHTS[0].day),
    )
    with place.opened() as store:
        busy = cast("Store", Meanwhile(store, lambda: store.append_events(late)))
        loaded = load_log(busy, league.settings_for(), request, tmp_path / "work")
    rows = pd.read_csv(loaded.labelled_path)
    learned = rows["known_at"].str.startswith(str(NIGHTS[0].day)).sum()
    assert loaded.labelled_by_day[NIGHTS[0].day] <= learned


def learned(store: Store, **changes: Any) -> ModelVersion:  # noqa: ANN401 - fields
    """A model that has learned the nights, on the first one as its base."""
    base = store.get_model("default", league.FIRST_MODEL)
    values: dict[str, Any] = {
        "first_night": FIRST,
        "settled_night": FIRST + 1,
        "log_rows": 80,
        "first_night_rows": 40,
        "counted_from": EPOCH,
    }
    version = replace(
        base,
        model_id="learned",
        state=ModelState.CANDIDATE,
        parent_id=base.model_id,
        lineage=Lineage(**(values | changes)),
    )
    store.register(version)
    return version


def found(store: Store, head: ModelVersion, folder: Path) -> UnlearnedRows:
    return unlearned_rows(store, league.settings_for(), head, folder, now=NOW, model_ids=None)


@pytest.mark.parametrize("counted_from", [EPOCH, None], ids=["now", "by an older version"])
@pytest.mark.parametrize("days_before", [1, 3])
def test_late_rows_of_a_day_before_the_first_are_learned(
    place: Place,
    first_model: FirstModel,
    tmp_path: Path,
    counted_from: int | None,
    days_before: int,
) -> None:
    place.fill(first_model, NIGHTS)
    early = replace(NIGHTS[0], day=NIGHTS[0].day - timedelta(days=days_before), matches=5)
    with place.opened() as store:
        head = learned(store, counted_from=counted_from)
        assert not found(store, head, tmp_path / "before").is_rebuilt
        store.append_events(league.events_of(first_model.model, early))
        rows = found(store, head, tmp_path / "after")
    assert rows.is_rebuilt
    assert rows.head is not None
    assert rows.head.model_id == league.FIRST_MODEL
    assert rows.loaded.labelled_rows == 85
    assert sum(rows.loaded.labelled_by_day.values()) == 85


@pytest.mark.parametrize("place", long_but(["embedded"], ["embedded", "supabase"]), indirect=True)
def test_rows_of_yesterday_that_were_imported_today_rebuild_nothing(
    place: Place, first_model: FirstModel, tmp_path: Path
) -> None:
    nights = [*league.nights_before(NOW, 3), league.Night(day=NOW.date())]
    late = league.events_of(first_model.model, replace(nights[2], matches=12), tag="late ")
    settings = league.settings_for(run__trigger="any")

    def run(store: Store, days_later: int) -> dict[str, Any]:
        now = NOW + timedelta(days=days_later)
        order = Order(settings=settings, work_dir=tmp_path / "work", clock=lambda: now)
        return dict(recording.run(store, order).result)

    def served(store: Store) -> Any:  # noqa: ANN401 - an array
        champion = store.champion(model_name="default")
        assert champion is not None
        return load_model_version(store, champion).predict_proba(league.play(99, 50).features)

    at_once = league.open_league(tmp_path / "s", first_model.path, first_model.model, nights)
    at_once.append_events(late)
    run(at_once, 1)
    place.fill(first_model, nights)
    with place.opened() as store:
        assert run(store, 0)["outcome"] == "promoted"
        store.append_events(late)
        again = run(store, 1)
        assert again["learned_again_since"] == str(nights[2].day)
        assert "rebuilt" not in again
        assert served(store) == pytest.approx(served(at_once), abs=1e-9)
        replayed = replay(store, store.get_run(again["run_id"]), tmp_path / "replay")
        assert replayed["result"] == "identical", replayed
        (head,) = (m for m in store.list_models(model_name="default") if m.state == "champion")
        assert head.lineage.open_event_ids is None
        assert run(store, 1)["outcome"] == "skipped_no_new_data"


def test_late_rows_of_days_on_which_the_first_champion_was_trained_are_learned(
    first_model: FirstModel, place: Place, tmp_path: Path
) -> None:
    """Each result stands in the base or was learned since; the last ones judged the base."""
    late = league.events_of(first_model.model, replace(NIGHTS[0], matches=3), tag="late ")
    settings = league.settings_for(run__trigger="any")

    def run(store: Store, hour: int) -> Any:  # noqa: ANN401 - the row of a run
        later = NOW + timedelta(hours=hour)
        order = crashing.order(tmp_path, later, f"run {hour}", settings=settings, train=train_here)
        return recording.run(store, order).run

    with place.opened() as store:
        for night in NIGHTS:
            store.append_events(league.events_of(first_model.model, night))
        first = run(store, 0)
        assert first.outcome is Outcome.PROMOTED
        held_out = 80 - first.training_rows
        store.append_events(late)
        assert run(store, 1).training_rows == held_out + 3
        assert run(store, 2).outcome is Outcome.SKIPPED_NO_NEW_DATA
        store.append_events(late.assign(event_id=[league.event_id(n) for n in range(3)]))
        assert run(store, 3).training_rows == held_out + 6


def test_late_rows_are_learned_where_the_log_has_forgotten_its_first_days(
    place: Place, first_model: FirstModel, tmp_path: Path
) -> None:
    """Somebody deletes old rows, and outcomes of yesterday come today: what is gone hides nothing.

    Nor is anything learned again from the base: what is gone stays learned.
    """
    place.fill(first_model, NIGHTS[1:])
    late = league.events_of(first_model.model, replace(NIGHTS[1], matches=3), tag="late ")
    with place.opened() as store:
        head = learned(store, snapshots={str(FIRST): 40})
        before = found(store, head, tmp_path / "before")
        store.append_events(late)
        rows = found(store, head, tmp_path / "after")
    assert (before.restart_night, before.is_rebuilt) == (None, False)
    assert before.loaded.labelled_rows == 0
    assert (rows.restart_night, rows.is_rebuilt, rows.loaded.labelled_rows) == (FIRST, False, 43)
    assert rows.head == head
