"""A failed run says at what it failed, whether the serving model was touched, and what now."""

from __future__ import annotations

import pytest

from ml_pipeline.errors import DataError, Stopped, StoreUnavailable, TrainingError
from ml_pipeline.registry.serving_state import ServingState
from ml_pipeline.runs.context import Progress
from ml_pipeline.runs.outcome import failed
from ml_pipeline.store.records import RetrainingRun
from tests.support.factories import NOW, make_model, make_run

UNCHANGED = "The serving model was not changed; the next run tries again."


def at(stage: str) -> Progress:
    return Progress(on_stage=lambda: None, beat=lambda: None, stage=stage)


def failed_at(stage: str, error: Exception) -> RetrainingRun:
    return failed(make_run(), at(stage), error, NOW)


@pytest.mark.parametrize(
    ("stage", "error", "reason"),
    [
        (
            "training",
            TrainingError("Training ran past its time limit of 3 s and was stopped."),
            "Failed while training: Training ran past its time limit of 3 s and was stopped. "
            + UNCHANGED,
        ),
        (
            "loading the evaluation log",
            DataError("30 of 99 rows are bad.", hint="They stand in rejected.csv."),
            "Failed while loading the evaluation log: 30 of 99 rows are bad. " + UNCHANGED,
        ),
        (
            "training",
            Stopped("Stopped by SIGTERM."),
            "Stopped by SIGTERM while training. " + UNCHANGED,
        ),
        (
            "judging",
            KeyError("prior"),
            "Failed while judging: KeyError('prior'). " + UNCHANGED,
        ),
        (
            "registering",
            StoreUnavailable("the connection is gone"),
            (
                "Failed while registering: the connection is gone. `ml-pipeline status` shows "
                "which model serves."
            ),
        ),
    ],
)
def test_a_failure_is_a_sentence_with_its_cause(stage: str, error: Exception, reason: str) -> None:
    assert failed_at(stage, error).outcome_reason == reason


def test_the_whole_error_stands_beside_the_sentence() -> None:
    run = failed_at("training", TrainingError("x" * 2_000, hint="Train on less."))
    assert run.error_message == f"training: {'x' * 2_000} Train on less."
    assert len(str(run.outcome_reason)) < 400


def test_what_was_known_by_then_is_kept() -> None:
    progress = at("training")
    progress.serving = ServingState(champion=make_model("m-7"))
    assert failed(make_run(), progress, DataError("no"), NOW).champion_id == "m-7"
