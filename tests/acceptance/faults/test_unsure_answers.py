"""The threshold for a target accuracy: chosen on what was answered of late, never on one night."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ml_pipeline.config.settings import Settings
from ml_pipeline.runs import recording
from ml_pipeline.runs.recording import Order
from ml_pipeline.store.contract import Store
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import EVER, UNCERTAIN, ModelVersion
from tests.conftest import FirstModel
from tests.support import league
from tests.support.places import Place

NOW = datetime(2026, 3, 14, 2, 0, tzinfo=UTC)


def settings_for(**changes: Any) -> Settings:  # noqa: ANN401 - setting values
    values = {"run__trigger": "any", "prediction__target_accuracy": 0.9} | changes
    return league.settings_for(**values)


def run(
    store: Store, folder: Path, settings: Settings, *, days_later: int = 0
) -> recording.RunOutcome:
    now = NOW + timedelta(days=days_later)
    order = Order(settings=settings, work_dir=folder / "work", clock=lambda: now)
    return recording.run(store, order)


def champion(store: Store) -> ModelVersion:
    found = store.champion(model_name="default")
    assert found is not None
    return found


def unsure(events: pd.DataFrame) -> pd.DataFrame:
    """The same events, answered by a model that was not sure enough of anything."""
    guesses = [json.dumps({"best_guess": label}) for label in events["prediction"]]
    return events.assign(prediction=UNCERTAIN, metadata=guesses, accuracy=0.0)


@pytest.fixture
def store(place: Place, first_model: FirstModel) -> Iterator[Store]:
    place.fill(first_model, [])
    with place.opened() as opened:
        yield opened


@pytest.mark.parametrize("place", ["embedded"], indirect=True)
def test_one_night_alone_leaves_the_threshold_and_many_answers_choose_it(
    store: Store, first_model: FirstModel, tmp_path: Path
) -> None:
    for night in league.nights_before(NOW, 2, matches=40, turned=False):
        store.append_events(league.events_of(first_model.model, night))
    run(store, tmp_path, settings_for())
    assert champion(store).confidence_threshold == 0.6
    found = champion(store).lineage.calibration or {}
    assert (found["rows"], found["target_reached"]) == (80, False)

    today = league.Night(day=NOW.date(), matches=300, turned=False)
    answers = unsure(league.events_of(first_model.model, today))
    store.append_events(answers)
    outcome = run(store, tmp_path, settings_for(), days_later=1)
    assert outcome.result["outcome"] == "promoted", outcome.result
    found = champion(store).lineage.calibration or {}
    assert (found["rows"], found["target_reached"]) == (380, True)
    assert found["accuracy"] >= 0.9
    assert 0.6 < champion(store).confidence_threshold == found["threshold"] < 1


def test_a_model_that_is_sure_of_nothing_and_wrong_is_trained_again(
    store: Store, first_model: FirstModel, tmp_path: Path
) -> None:
    """Also where the rows are older than what is learned, and from a file."""
    nights = league.nights_before(NOW, 5, matches=40)
    events = pd.concat([unsure(league.events_of(first_model.model, night)) for night in nights])
    store.append_events(events)
    settings = settings_for(run__trigger="errors")
    result = run(store, tmp_path, settings).result
    assert result["outcome"] == "promoted"
    guesses = events["metadata"].map(lambda text: json.loads(text)["best_guess"])
    wrong = (guesses != events["actual_result"]) & (events["confidence"] > 0.7)
    assert result["dataset_size"] == wrong.sum() > 10
    errors = store.read_error_samples(
        EVER, model_name="default", confidence_threshold=0.7, model_ids=None
    )
    assert len(errors) == wrong.sum()


def test_a_file_tells_of_best_guesses_too(first_model: FirstModel, tmp_path: Path) -> None:
    nights = league.nights_before(NOW, 4, matches=60, turned=False)
    events = pd.concat([unsure(league.events_of(first_model.model, night)) for night in nights])
    events.to_csv(tmp_path / "log.csv", index=False)
    store = LocalStore.open(tmp_path / "store")
    league.enthrone(store, first_model.path, league.settings_for(), now=NOW - timedelta(days=60))
    source = {"log__source": str(tmp_path / "log.csv"), "run__min_error_samples": 1}
    result = run(store, tmp_path, settings_for(run__trigger="errors", **source)).result
    assert result["outcome"] == "promoted", result
    assert result["dataset_size"] > 3
    found = champion(store).lineage.calibration or {}
    assert (found["rows"], found["target_reached"]) == (240, True)
    store.close()


@pytest.mark.parametrize("place", ["embedded"], indirect=True)
def test_a_threshold_of_1_from_an_earlier_version_is_left_behind(
    store: Store, first_model: FirstModel, tmp_path: Path
) -> None:
    with store._database.writing() as rows:  # type: ignore[attr-defined]
        rows.execute("UPDATE model_metadata SET confidence_threshold = 1.0")
    for night in league.nights_before(NOW, 2, matches=40, turned=False):
        store.append_events(league.events_of(first_model.model, night))
    run(store, tmp_path, settings_for())
    assert champion(store).confidence_threshold == 0.6
