"""One answer, and its row of the log: what one model says to the input of one row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from ml_pipeline.config.quick import QuickSettings
from ml_pipeline.errors import InputError
from ml_pipeline.registry.scoring import Scorer
from ml_pipeline.serving import incumbents
from ml_pipeline.serving.answering import judge, part_text, read_values
from ml_pipeline.store.event_row import (
    UNCERTAIN,
    EventRow,
    new_event_id,
    plain_text,
    prediction_row,
    utc_text,
)
from ml_pipeline.store.inputs.incumbent_columns import ANSWER
from ml_pipeline.store.serving_view import ServedModel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


# Characters of a level that a warning shows.
SHOWN_OF_A_LEVEL = 40


class Answering:
    """The model that answers and its scorer, which belong together; `warnings` go with answers."""

    __slots__ = ("model", "scorer", "warnings")

    def __init__(self, model: ServedModel, scorer: Scorer, warnings: Sequence[str] = ()) -> None:
        self.model = model
        self.scorer = scorer
        self.warnings = warnings

    def answer(  # noqa: PLR0913 - a row, and how it is answered
        self,
        passed: object,
        match_id: str | None,
        text: str | None,
        *,
        settings: QuickSettings,
        clock: Callable[[], datetime],
        incumbent: Mapping[str, object] | None = None,
    ) -> tuple[dict[str, Any], Callable[[], EventRow]]:
        """The answer for one row, and what makes the log's row of it.

        `incumbent` is the answer of one, for a model that corrects it. Raises InputError for
        input that cannot be used.
        """
        model, scorer = self.model, self.scorer
        shares = incumbents.shares(model, scorer, incumbent, settings)
        numbers, text = part_text(passed, text, scorer.text_column)
        texts, features = scorer.read_text(text), scorer.own_features
        imputes, kinds = settings.missing == "impute", scorer.kinds[: len(features)]
        values, logged = read_values(numbers, features, imputes=imputes, kinds=kinds)
        imputed = [name for name, kept in logged.items() if kept is None]
        if imputed and len(imputed) == len(values) and text is None:
            raise InputError("Every feature is missing.")
        values += shares
        answer = judge(
            scorer, values, text, threshold=model.threshold, margin=settings.conflict_margin
        )
        about = {
            "event_id": new_event_id(),
            "match_id": plain_text(match_id, "match_id") or None,
            **answer,
            "imputed": imputed,
            "model_id": model.model_id,
            "timestamp": utc_text(now := clock()),
            "status": "completed",
        }
        if shares:
            about[ANSWER] = dict(zip(scorer.classes, shares, strict=True))
        new = [_new_level(name, logged[name]) for name in scorer.new_levels(values)]
        if new or self.warnings:
            about["warnings"] = [*about.get("warnings", ()), *new, *self.warnings]
        return about, lambda: _row(about, {**logged, **texts}, settings.model_name, now)

    def info(self, settings: QuickSettings) -> dict[str, Any]:
        """What answers: the model, its input, its threshold and its metrics."""
        model, scorer = self.model, self.scorer
        kinds = dict(zip(scorer.own_features, scorer.kinds, strict=False))
        return {
            "model_id": model.model_id,
            "model_name": settings.model_name,
            "algorithm": model.algorithm,
            "state": model.state,
            "created_at": model.created_at,
            "features": scorer.own_features,
            "kinds": kinds or None,
            "corrects_incumbent": scorer.corrects,
            "text_column": scorer.text_column,
            "classes": scorer.classes,
            "confidence_threshold": model.threshold,
            "conflict_margin": settings.conflict_margin if scorer.is_ensemble else None,
            "metrics": dict(model.metrics),
            "calibration": model.calibration,
            "scored_from": "scoring file" if type(scorer) is Scorer else "artifact",
            "warning": " ".join(self.warnings) or None,
        }


def _new_level(name: str, level: object) -> str:
    shown = repr(str(level)[:SHOWN_OF_A_LEVEL])
    return f"{name} = {shown} is a level that training had not: it is answered as a rare one"


def _row(
    answer: Mapping[str, Any], features: Mapping[str, object], model_name: str, now: datetime
) -> EventRow:
    guess = answer["best_guess"] if answer["prediction"] == UNCERTAIN else None
    return prediction_row(
        event_id=answer["event_id"],
        timestamp=now,
        model_name=model_name,
        model_id=answer["model_id"],
        match_id=answer["match_id"],
        prediction=answer["prediction"],
        confidence=min(answer["confidence"], 1.0),
        features=features,
        probabilities=answer["probabilities"],
        metadata=incumbents.metadata_of(guess, answer.get(ANSWER)),
    )
