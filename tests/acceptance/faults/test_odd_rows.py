"""Rows that nobody can learn: one is set aside by name, a day of them fails and says why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ml_pipeline.config.data import DEFAULT_FEATURES
from ml_pipeline.runs import recording
from ml_pipeline.runs.recording import Failed, Trained
from ml_pipeline.runs.replay import replay
from ml_pipeline.store.embedded.store import LocalStore
from tests.conftest import FirstModel
from tests.support import crashing, league
from tests.support.crashing import NOW
from tests.support.in_process import train_here
from tests.support.places import Place

NIGHTS = league.nights_before(NOW, 1)
GOOD = dict.fromkeys(DEFAULT_FEATURES, 0.5)
ODD = league.event_id("odd")


def run(store: Any, folder: Path, **changes: Any) -> Any:  # noqa: ANN401 - a store, settings
    settings = league.settings_for(**({"run__trigger": "any"} | changes))
    order = crashing.order(folder / "work", name=folder.name, settings=settings)
    return recording.run(store, order)


def odd(model: Any, **changes: str) -> pd.DataFrame:  # noqa: ANN401 - AdaptiveClassifier
    """One more row of yesterday."""
    return league.events_of(model, NIGHTS[0], tag="odd ").head(1).assign(event_id=ODD, **changes)


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        # A dict as Python writes it is a text to JSON.
        (json.dumps(str(GOOD)), "features are not a JSON object"),
        (json.dumps({"form_home": 1.0}), "feature home_team_form is absent"),
        (json.dumps(GOOD | {"home_team_form": True}), "feature home_team_form is not a number"),
    ],
)
def test_a_day_that_nobody_can_learn_fails_and_says_what_is_wrong(
    place: Place, first_model: FirstModel, tmp_path: Path, written: str, wrong: str
) -> None:
    place.fill(first_model, [])
    events = league.events_of(first_model.model, NIGHTS[0]).assign(features=written)
    with place.opened() as store:
        store.append_events(events)
        outcome = run(store, tmp_path)
        row = store.get_run(outcome.run.run_id)
    assert isinstance(outcome, Failed)
    assert row.error_message is not None
    assert "40 of 40 results to learn from table cannot be learned" in row.error_message
    example = min(events["event_id"])
    assert f"{wrong} (40, for example event {example})" in row.error_message
    set_aside = pd.read_csv(row.details["load_report"]["unusable_path"])
    assert set(set_aside["event_id"]) == set(events["event_id"])
    assert set(set_aside["reason"]) == {wrong}


def test_one_odd_row_is_set_aside_and_the_rest_is_learned(
    first_model: FirstModel, tmp_path: Path
) -> None:
    store = league.open_league(tmp_path / "s", first_model.path, first_model.model, NIGHTS)
    store.append_events(
        odd(first_model.model, features=json.dumps(GOOD | {"home_advantage": 1e200}))
    )
    outcome = run(store, tmp_path)
    assert isinstance(outcome, Trained)
    assert outcome.result["training_rows"] == 40
    reason = "unusable: feature home_advantage is beyond 1e+150"
    assert outcome.result["load_report"]["examples"] == {reason: ODD}


@pytest.mark.parametrize("strategy", ["adaptive", "refit", "sgd"])
def test_a_day_on_which_a_feature_has_no_value_is_learned(
    first_model: FirstModel, tmp_path: Path, strategy: str
) -> None:
    """A sensor that was off: the model fills in what is missing, as when it answers."""
    store = league.open_league(tmp_path / "s", first_model.path, first_model.model, [])
    written = json.dumps(GOOD | {"home_advantage": None})
    store.append_events(league.events_of(first_model.model, NIGHTS[0]).assign(features=written))
    settings = league.settings_for(run__trigger="any", training__strategy=strategy)
    order = crashing.order(tmp_path / "work", settings=settings, train=train_here)
    outcome = recording.run(store, order)
    assert isinstance(outcome, Trained), outcome.result
    if strategy == "adaptive":
        assert replay(store, outcome.run, tmp_path / "replay")["result"] == "identical"


def test_a_new_label_is_set_aside_where_labels_are_open(
    first_model: FirstModel, tmp_path: Path
) -> None:
    """The first model comes from the log; later a label turns up that it does not know."""
    store = LocalStore.open(tmp_path / "s")
    for night in league.nights_before(NOW, 3)[:2]:
        # Beside answers of an unknown model so few results would wait for a person.
        answered = league.events_of(first_model.model, night, model_id=league.OF_ANOTHER_STORE)
        store.append_events(answered)
    open_labels = {"data__classes": None, "data__ordered": False}
    assert run(store, tmp_path / "first", **open_labels).result["outcome"] == "promoted"
    store.append_events(league.events_of(first_model.model, NIGHTS[0]))
    store.append_events(odd(first_model.model, actual_result="abandoned"))

    outcome = run(store, tmp_path / "second", **open_labels)

    assert isinstance(outcome, Trained), outcome.result
    reason = "unusable: outcome is no class of the model"
    assert outcome.result["load_report"]["examples"] == {reason: ODD}
    set_aside = pd.read_csv(outcome.result["load_report"]["unusable_path"])
    assert set_aside.to_dict("records") == [
        {"event_id": ODD, "reason": reason.removeprefix("unusable: "), "outcome": "abandoned"}
    ]


def test_a_run_during_which_results_of_a_new_class_waited_is_built_again(
    first_model: FirstModel, tmp_path: Path
) -> None:
    events = league.events_of(first_model.model, NIGHTS[0])
    events.loc[events.index[:8], "actual_result"] = "X"
    store = league.open_league(tmp_path / "store", first_model.path, first_model.model, [])
    store.append_events(events)
    settings = league.settings_for(
        run__trigger="any", data__classes=[*league.CLASSES, "X"], data__ordered=False
    )
    order = crashing.order(tmp_path / "work", settings=settings, train=train_here)
    outcome = recording.run(store, order)
    assert "8 results wait for one" in outcome.result["outcome_reason"]
    assert replay(store, outcome.run, tmp_path / "replay")["result"] == "identical"
    store.close()
