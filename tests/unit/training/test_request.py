"""What the flags of `train` ask for, and what no training can be asked for."""

from __future__ import annotations

import argparse
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from ml_pipeline.commands.train import add_arguments, request_from
from ml_pipeline.commands.usage import parsed
from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import PipelineError
from ml_pipeline.training.request import NamedModel, TrainingRequest

NOW = datetime(2026, 5, 25, 2, tzinfo=UTC)


def asked(*flags: str) -> TrainingRequest:
    """The request that the flags make."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return request_from(parsed(parser, flags), Settings(), now=NOW, new_id="0123456789ab")


def test_without_flags_a_base_is_trained_on_the_configured_rows() -> None:
    request = asked()
    assert request.dataset == Settings().data.training_dataset
    assert request.model_id == "logisticregression_20260525_020000_01234567"
    assert (request.strategy, request.today) == ("from_scratch", date(2026, 5, 25))
    assert request.folder == Path("models") / request.model_id
    assert request.chosen == frozenset()


def test_a_fine_tuning_names_its_models_and_rows() -> None:
    request = asked(
        *("--fine_tune", "true", "--model_path", "a.skops", "--model_digest", "sha256:1"),
        *("--champion_path", "b.skops", "--champion_id", "b", "--known", "all.csv"),
        *("--other_base", "true", "--today", "2026-05-24", "--learning_rate", "0.1"),
    )
    assert request.parent == NamedModel(path=Path("a.skops"), digest="sha256:1")
    assert request.champion == NamedModel(path=Path("b.skops"), model_id="b")
    assert (request.known, request.other_base) == (Path("all.csv"), True)
    assert (request.strategy, request.today) == ("adaptive", date(2026, 5, 24))
    assert request.chosen == {"learning_rate", "model_path"}


def test_a_model_to_fine_tune_is_noted_and_not_used_for_a_base() -> None:
    request = asked("--model_path", "a.skops")
    assert request.parent is None
    assert request.chosen == {"model_path"}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"dataset": ""}, "dataset is empty"),
        ({"now": datetime(2026, 5, 25)}, "no time zone"),  # noqa: DTZ001 - what is refused
        ({"known": Path("all.csv")}, "known goes with fine_tune alone"),
        ({"new_base": "fresh"}, "new_base goes with fine_tune alone"),
    ],
)
def test_a_request_that_cannot_be_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(asked(), **changes)


def test_an_id_that_is_no_folder_is_refused() -> None:
    with pytest.raises(PipelineError, match="is no name for a model"):
        asked("--model_id", "../elsewhere")
