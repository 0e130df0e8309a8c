"""A base that was trained on rows of the log: its online model does not learn them again.

Nor is it judged on them. The rows came from `ml_data`, or from an export of the log.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ml_pipeline.commands import train
from ml_pipeline.config.data import DEFAULT_FEATURES
from ml_pipeline.evaluation.ledger import COLUMN
from ml_pipeline.registry.models import load_model_version
from ml_pipeline.runs import recording
from ml_pipeline.runs.recording import Order, Skipped, Trained
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import ModelVersion, day_start
from tests.conftest import FirstModel
from tests.support import league
from tests.support.crashing import NOW
from tests.support.places import Place

NIGHTS = league.nights_before(NOW, 5)
PER_NIGHT = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """A store whose log holds five nights, in the environment of this process."""

    place: Place
    folder: Path
    events: pd.DataFrame
    capture: pytest.CaptureFixture[str]

    def train(self, *arguments: str) -> dict[str, Any]:
        code = train.main([*arguments, "--register", "--epochs", "5"])
        out, err = self.capture.readouterr()
        assert code == 0, err
        return dict(json.loads(out.splitlines()[-1]))

    def run(self, store: Store, *, days_later: int = 0) -> recording.RunOutcome:
        now = NOW + timedelta(days=days_later)
        settings = league.settings_for(run__trigger="any", training__epochs=5)
        return recording.run(
            store,
            Order(settings=settings, work_dir=self.folder / "work", clock=lambda: now),
        )


@pytest.fixture
def bench(
    place: Place,
    first_model: FirstModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Bench:
    for name in ("ML_PIPELINE_LOCAL", "SUPABASE_URL", "SUPABASE_SERVICE_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in place.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    # Beside answers of an unknown model a first one would wait for a person.
    events = pd.concat(
        [
            league.events_of(first_model.model, night, model_id=league.OF_ANOTHER_STORE)
            for night in NIGHTS
        ]
    )
    with place.opened() as store:
        store.append_events(events)
    return Bench(place=place, folder=tmp_path, events=events, capture=capsys)


def labels_of(events: pd.DataFrame, **changes: Callable[[Any], Any]) -> list[dict[str, Any]]:
    """The events' rows as labels that people gave."""
    rows = [
        {
            "id": event.event_id,
            "created_at": event.evaluated_at,
            "model_name": "default",
            "features": json.loads(str(event.features)),
            "label": event.actual_result,
        }
        for event in events.itertuples()
    ]
    return [row | {name: change(row) for name, change in changes.items()} for row in rows]


def champion(store: Store) -> ModelVersion:
    found = store.champion(model_name="default")
    assert found is not None
    return found


OTHER_IDS = {"id": lambda row: league.event_id(f"label of {row['id']}")}
ALL_AT_ONCE = {"created_at": lambda _: day_start(NIGHTS[-1].day) + timedelta(hours=22)}


@pytest.mark.parametrize("changes", [{}, OTHER_IDS, OTHER_IDS | ALL_AT_ONCE])
def test_rows_of_the_table_are_not_replayed_as_unseen_after_the_base_that_learned_them(
    bench: Bench, changes: dict[str, Any]
) -> None:
    with bench.place.opened() as store:
        store.add_labels(labels_of(bench.events, **changes))
        base = bench.train("--from_table")
        assert base["outcome"] == "promoted"
        learned = base["training_rows"]
        assert learned == 4 * PER_NIGHT
        reference = champion(store).lineage.reference
        assert reference is not None
        assert reference["columns"][DEFAULT_FEATURES[0]]["rows"] == learned

        outcome = bench.run(store)

        assert isinstance(outcome, Trained), outcome.result["outcome_reason"]
        result = outcome.result
        assert result["training_rows"] == len(bench.events) - learned
        assert result["known_rows"] == learned
        line = load_model_version(store, champion(store)).line_
        judged = int(line["ledger"][:, COLUMN["rows"]].sum())
        assert judged + len(line["waiting_event_ids"]) == len(bench.events) - learned


def test_when_the_base_has_learned_all_that_there_is_the_run_says_so_and_waits(
    bench: Bench, first_model: FirstModel
) -> None:
    with bench.place.opened() as store:
        more = league.events_of(first_model.model, league.Night(day=NOW.date(), matches=80, hour=1))
        store.add_labels(labels_of(pd.concat([bench.events, more])))
        assert bench.train("--from_table")["training_rows"] >= len(bench.events)
        outcome = bench.run(store)
        assert isinstance(outcome, Skipped)
        assert outcome.result["outcome"] == "skipped_no_new_data"
        assert outcome.result["known_rows"] == len(bench.events)
        assert "the serving model was trained on all of them" in outcome.result["outcome_reason"]


@pytest.mark.parametrize("place", ["embedded"], indirect=True)
def test_an_export_of_some_of_the_log_leaves_the_rest_to_be_learned(bench: Bench) -> None:
    some = bench.events.iloc[::2]
    features = pd.DataFrame([json.loads(text) for text in some["features"]])[[*DEFAULT_FEATURES]]
    export = features.assign(
        event_id=some["event_id"].to_numpy(),
        match_id=some["match_id"].to_numpy(),
        known_at=[moment.isoformat() for moment in some["evaluated_at"]],
        result=some["actual_result"].to_numpy(),
    )
    export.to_csv("export.csv", index=False)
    with bench.place.opened() as store:
        base = bench.train("--dataset", "export.csv")
        result = bench.run(store).result
        assert result["training_rows"] == len(bench.events) - base["training_rows"]
        assert result["known_rows"] == base["training_rows"]


@pytest.mark.parametrize("place", ["embedded"], indirect=True)
def test_built_again_for_late_rows_the_model_is_the_same_but_for_them(
    bench: Bench, first_model: FirstModel
) -> None:
    probe = league.play(99, 50).features
    with bench.place.opened() as store:
        store.add_labels(labels_of(bench.events.iloc[: 3 * PER_NIGHT], **OTHER_IDS))
        base = bench.train("--from_table")
        bench.run(store)
        late = league.events_of(
            first_model.model, league.Night(day=NIGHTS[1].day, matches=3), tag="late "
        )
        store.append_events(late)
        rebuilt = bench.run(store, days_later=1)
        assert rebuilt.result["rebuilt"]
        total = len(bench.events) + 3
        assert rebuilt.result["training_rows"] == total - base["training_rows"]
        served = load_model_version(store, champion(store)).predict_proba(probe)

        anchor = store.get_model("default", base["model_id"])
        assert np.isfinite(served).all()
        assert len(load_model_version(store, anchor).line_["fitted_ids"]) == base["training_rows"]
