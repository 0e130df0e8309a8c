"""A setting of the heads that is changed has its effect with the next training, or is refused."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ml_pipeline.config.settings import Settings
from ml_pipeline.registry.models import load_model_version
from ml_pipeline.runs import recording
from ml_pipeline.runs.recording import Order, RunOutcome
from ml_pipeline.store.contract import Store
from tests.conftest import FirstModel
from tests.support import league
from tests.support.in_process import train_here
from tests.support.places import Place, long_but

NOW = datetime(2026, 3, 14, 2, 0, tzinfo=UTC)
ROWS = league.play(99, 50).features
HALF_LIVES, RIDGE = "training.adaptive.half_lives", "training.adaptive.ridge"
CHANGES: dict[str, Any] = {HALF_LIVES: [2.0, 30.0], RIDGE: 50.0}


def settings_with(**changes: Any) -> Settings:  # noqa: ANN401 - setting values
    return league.settings_for(run__trigger="any").changed(changes)


def run(store: Store, folder: Path, settings: Settings, *, days_later: float = 0) -> RunOutcome:
    now = NOW + timedelta(days=days_later)
    order = Order(settings=settings, work_dir=folder / "work", clock=lambda: now, train=train_here)
    return recording.run(store, order)


def served(store: Store) -> NDArray[np.float64]:
    champion = store.champion(model_name="default")
    assert champion is not None
    return np.asarray(load_model_version(store, champion).predict_proba(ROWS))


@pytest.fixture
def store(place: Place, first_model: FirstModel) -> Iterator[Store]:
    """Three nights to learn, and a fourth that comes a day later."""
    nights = league.nights_before(NOW, 3)
    place.fill(first_model, [*nights, league.Night(day=NOW.date())])
    with place.opened() as opened:
        yield opened


@pytest.mark.parametrize("place", long_but(["embedded"], ["embedded", "supabase"]), indirect=True)
def test_changed_settings_count_from_the_next_training_as_if_from_the_start(
    store: Store, tmp_path: Path, first_model: FirstModel
) -> None:
    nights = [*league.nights_before(NOW, 3), league.Night(day=NOW.date())]
    other = league.open_league(tmp_path / "s", first_model.path, first_model.model, nights)
    run(other, tmp_path, settings_with(**CHANGES), days_later=1)

    run(store, tmp_path, settings_with())
    before = served(store)
    outcome = run(store, tmp_path, settings_with(**CHANGES), days_later=1)
    assert outcome.result["outcome"] == "promoted"
    assert outcome.result["rebuilt_for"] == [HALF_LIVES, RIDGE]
    assert served(store) == pytest.approx(served(other), abs=1e-9)
    assert np.abs(served(store) - before).max() > 1e-3
    unchanged = run(store, tmp_path, settings_with(**CHANGES), days_later=1.1)
    assert "rebuilt_for" not in unchanged.result
    other.close()


@pytest.mark.parametrize("place", ["embedded"], indirect=True)
def test_a_run_that_has_nothing_to_learn_says_that_the_setting_waits(
    store: Store, tmp_path: Path
) -> None:
    run(store, tmp_path, settings_with())
    waiting = settings_with(**{"training.adaptive.ridge": 9.0, "run.trigger": "errors"}).changed(
        {"run.min_error_samples": 10_000}
    )
    result = run(store, tmp_path, waiting).result
    assert result["outcome"] == "skipped_insufficient_errors"
    assert "training.adaptive.ridge was changed" in result["outcome_reason"]


@pytest.mark.parametrize("place", ["embedded"], indirect=True)
def test_a_model_of_an_earlier_version_is_asked_for_the_settings_that_it_learned_by(
    store: Store, tmp_path: Path
) -> None:
    run(store, tmp_path, settings_with())
    with store._database.writing() as rows:  # type: ignore[attr-defined]
        rows.execute(
            "UPDATE model_metadata SET lineage = json_remove(lineage, '$.rates') "
            "WHERE model_id <> 'first'"
        )
    assert "rebuilt" not in run(store, tmp_path, settings_with(), days_later=1).result
    changed = settings_with(**{"training.epochs": 1})
    assert run(store, tmp_path, changed, days_later=1.1).result["rebuilt_for"] == [
        "training.epochs"
    ]


@pytest.mark.parametrize("place", ["embedded"], indirect=True)
def test_a_log_that_has_forgotten_its_first_day_refuses_and_names_a_way_out_that_works(
    store: Store, tmp_path: Path
) -> None:
    run(store, tmp_path, settings_with())
    before = served(store)
    with store._database.writing() as rows:  # type: ignore[attr-defined]
        day = league.nights_before(NOW, 3)[0].day
        rows.execute("DELETE FROM evaluation_log WHERE evaluated_at LIKE ?", (f"{day}%",))
    changed = settings_with(**{"training.adaptive.half_lives": [2.0, 30.0]})
    refused = run(store, tmp_path, changed, days_later=1)
    assert refused.result["outcome"] == "failed"
    assert "training.adaptive.half_lives: changed since" in refused.result["error"]
    assert "train --register" in refused.result["error"]
    assert served(store) == pytest.approx(before, abs=0)
    assert run(store, tmp_path, settings_with(), days_later=1).result["status"] == "completed"


LABELS = "data.labels"
SPELT: dict[str, Any] = {LABELS: {"Heim": "H", "Gast": "A"}, "data.classes": league.CLASSES}


def fill_with_a_spelling(store: Store, model: Any) -> None:  # noqa: ANN401 - AdaptiveClassifier
    """Four nights; the first home win of each has an outcome that nobody has named."""
    nights = [*league.nights_before(NOW, 3), league.Night(day=NOW.date())]
    for night in nights:
        events = league.events_of(model, night)
        first = events.index[events["actual_result"] == "H"][0]
        events.loc[first, "actual_result"] = "Heim"
        store.append_events(events)


@pytest.mark.parametrize("place", long_but(["embedded"], ["embedded", "supabase"]), indirect=True)
def test_results_whose_spelling_is_named_later_are_learned_as_if_it_had_been_from_the_start(
    place: Place, tmp_path: Path, first_model: FirstModel
) -> None:
    place.fill(first_model, [])
    with place.opened() as store:
        fill_with_a_spelling(store, first_model.model)
        before = run(store, tmp_path, settings_with())
        assert "3 results have an outcome that is no class" in before.result["outcome_reason"]
        named = run(store, tmp_path, settings_with(**SPELT), days_later=1)
        assert named.result["rebuilt_for"] == [LABELS]
        assert named.result["training_rows"] == 160
        learned = served(store)
    other = league.open_league(tmp_path / "s", first_model.path, first_model.model, [])
    fill_with_a_spelling(other, first_model.model)
    run(other, tmp_path, settings_with(**SPELT), days_later=1)
    assert learned == pytest.approx(served(other), abs=1e-9)
    other.close()


@pytest.mark.long
@pytest.mark.parametrize("place", ["embedded"], indirect=True)
def test_a_spelling_counts_from_now_on_where_the_log_has_forgotten_its_first_day(
    store: Store, tmp_path: Path
) -> None:
    run(store, tmp_path, settings_with())
    with store._database.writing() as rows:  # type: ignore[attr-defined]
        day = league.nights_before(NOW, 3)[0].day
        rows.execute("DELETE FROM evaluation_log WHERE evaluated_at LIKE ?", (f"{day}%",))
    outcome = run(store, tmp_path, settings_with(**SPELT), days_later=1)
    assert outcome.result["outcome"] == "promoted"
    assert "rebuilt_for" not in outcome.result
