"""Predicting, recording and reconciling on the embedded store and on Supabase alike."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from ml_pipeline.config.environment import chosen_store
from ml_pipeline.config.settings import load_settings
from ml_pipeline.evaluation_log.opening import open_logger
from ml_pipeline.registry import models
from ml_pipeline.registry.registration import Registration
from ml_pipeline.registry.scoring_writer import write_scoring
from ml_pipeline.registry.trained import TrainerAnswer
from ml_pipeline.serving.engine import PredictionEngine
from ml_pipeline.store.event_row import with_outcome
from ml_pipeline.store.records import ModelState
from tests.conftest import FirstModel
from tests.support import league
from tests.support.places import Place
from tests.support.served import FEATURES, ROW


def register(place: Place, model: FirstModel, folder: Path) -> None:
    """The league's first model with its scoring file, as the commands register it."""
    shutil.copy(model.path, folder / "model.skops")
    assert write_scoring(model.model, folder / "model.scoring")
    evidence = folder / "evidence.npz"
    nothing = {"labels": np.asarray(["H"]), "event_ids": np.asarray([], dtype=str),
               "nights": np.asarray([], dtype=int), "actual": np.asarray([], dtype=int),
               "challenger": np.empty((0, 3))}  # fmt: skip
    np.savez(evidence, **nothing)  # type: ignore[arg-type]
    with place.opened() as store:
        version = Registration(
            store=store,
            settings=league.settings_for(),
            answer=TrainerAnswer(
                result={"model_id": "scored-1", "algorithm": "LogisticRegression",
                        "library_versions": {}},
                model_path=folder / "model.skops", evidence_path=evidence,
                sample_path=folder / "none",
            ),
            parent=None,
            clock=lambda: datetime(2026, 3, 1, tzinfo=UTC),
        ).stored(state=ModelState.CANDIDATE, metrics={})  # fmt: skip
        store.register(version)
        scorer = models.load_scorer(store, version)
    assert scorer is not None


@pytest.fixture
def configured(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The place, named by this process's environment and nothing else; in a folder of its own."""
    for name in [name for name in os.environ if name.startswith(("SUPABASE", "ML_PIPELINE"))]:
        monkeypatch.delenv(name)
    for name, value in place.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return place


def test_a_registered_model_answers_is_logged_and_gets_its_outcome(
    configured: Place, first_model: FirstModel, tmp_path: Path
) -> None:
    register(configured, first_model, tmp_path)
    values = dict(zip(FEATURES, map(float, ROW), strict=True))

    with PredictionEngine(model_id="scored-1") as engine:
        answer = engine.predict(values, "match_001")
        assert engine.get_model_info()["scored_from"] == "scoring file"
        accuracy = engine.evaluate_prediction(answer["event_id"], "A")

    answered = first_model.model.predict_proba([list(values.values())])[0]
    assert list(answer["probabilities"].values()) == pytest.approx(answered, abs=1e-9)
    assert accuracy == (1.0 if answer["prediction"] == "A" else 0.0)
    with open_logger(load_settings(), chosen_store()) as logger:
        report = logger.reconcile_logs()
    assert (report["csv_events"], report["table_events"], report["consistent"]) == (1, 1, True)
    assert report["models"]["scored-1"]["evaluated"] == 1


@pytest.mark.usefixtures("configured")
def test_an_outcome_that_only_the_csv_has_is_repaired_wherever_the_features_stand() -> None:
    """PostgreSQL keeps JSON in an order and a spelling of its own; it is the same JSON."""
    features: dict[str, object] = {"strength": 1e-7, "form": 20.0}
    metadata: dict[str, object] = {"why": {"b": 1, "a": []}}
    with open_logger(load_settings(), chosen_store()) as logger:
        ids = [
            logger.log_prediction(
                "m",
                f"{n}",
                "H",
                1 / 3,
                features=features,
                metadata=metadata,
                timestamp=datetime(2026, 2, 1, tzinfo=UTC),
            )
            for n in range(3)
        ]
        late = with_outcome(logger.csv.find(ids[:1])[ids[0]], "A", datetime(2026, 3, 1, tzinfo=UTC))
        logger.csv.append([late])

        found = logger.reconcile_logs()
        assert (found["differing"], found["ids"]) == (0, {"outcome_not_in_table": ids[:1]})
        assert logger.reconcile_logs(repair=True)["repaired"] == {
            "sent_to_table": 1, "appended_to_csv": 0,
        }  # fmt: skip
        after = logger.reconcile_logs()
    assert (after["consistent"], after["pending"]) == (True, 2)
    assert after["models"]["m"] == {
        "events": 3, "evaluated": 1, "accuracy": 0.0, "abstention_rate": 0.0,
    }  # fmt: skip
