"""Whether there is something to learn, and the sentence that says why not."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ml_pipeline.config.settings import Settings
from ml_pipeline.evaluation.sentences import counted
from ml_pipeline.runs.preparing import Prepared
from ml_pipeline.store.records import Outcome

log = logging.getLogger("auto_reinforcement")

MIN_LABELLED_ROWS = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Skip:
    """The run had nothing to do."""

    outcome: Outcome
    reason: str
    champion_id: str | None
    dataset_size: int
    details: Mapping[str, Any]

    def run_fields(self) -> dict[str, Any]:
        """What the run row says."""
        return {
            "outcome": self.outcome,
            "outcome_reason": self.reason,
            "champion_id": self.champion_id,
            "dataset_size": self.dataset_size,
            "details": self.details,
        }


def reason_to_skip(prepared: Prepared, settings: Settings) -> Skip | None:
    """A skip with its sentence, or None when there is something to learn.

    Raises DataError when too much of what is to be learned cannot be.
    """
    fresh = prepared.fresh_rows()
    found = _too_little(prepared, settings, fresh)
    if found is None:
        log.info("%s; %d new results to learn", _errors_found(prepared, settings), fresh)
        return None
    outcome, reason = found
    reason += _unusable(prepared) + _changed(prepared)
    reason += prepared.what_waits() + prepared.proposed()
    return Skip(
        outcome=outcome,
        reason=f"Skipped: {reason}",
        champion_id=prepared.serving.champion_id,
        dataset_size=prepared.loaded.report.errors,
        details=prepared.details() | {"waiting_rows": fresh},
    )


def nothing_learned(prepared: Prepared, result: Mapping[str, Any]) -> Skip | None:
    """A skip when the model was trained on every row that there was; `result` is the trainer's."""
    known = result.get("known_rows", 0)
    if result["training_rows"] or not known:
        return None
    return Skip(
        outcome=Outcome.SKIPPED_NO_NEW_DATA,
        reason=f"Skipped: {counted(known, 'result')} in the log, and the serving model was trained "
        f"on all of them. The next run looks again.{prepared.proposed()}",
        champion_id=prepared.serving.champion_id,
        dataset_size=prepared.loaded.report.errors,
        details=prepared.details() | {"waiting_rows": 0} | known_rows_of(result),
    )


def known_rows_of(result: Mapping[str, Any]) -> dict[str, int]:
    """How many rows were left out because the model's base was trained on them, if any were."""
    known = result.get("known_rows", 0)
    if known:
        log.info("%d results are left out: the model's base was trained on them", known)
    return {"known_rows": known} if known else {}


def _too_little(prepared: Prepared, settings: Settings, fresh: int) -> tuple[Outcome, str] | None:
    run, errors = settings.run, _errors_found(prepared, settings)
    rows, least = prepared.loaded.labelled_rows, settings.training.min_training_samples
    # What was learned wrong is learned again, however little else there is.
    trigger = "any" if prepared.is_corrected else run.trigger
    if trigger == "errors" and prepared.loaded.report.errors < run.min_error_samples:
        return Outcome.SKIPPED_INSUFFICIENT_ERRORS, (
            f"{errors}, {run.min_error_samples} are needed to train. {_waiting(fresh)}"
        )
    if not prepared.difference and not prepared.is_readable:
        prepared.loaded.report.require_usable(settings)
    if trigger == "labels" and fresh < MIN_LABELLED_ROWS:
        return Outcome.SKIPPED_NO_NEW_DATA, (
            f"{counted(fresh, 'new result')}, {MIN_LABELLED_ROWS} are needed to train. They "
            f"wait for the next run, with {errors}."
        )
    if fresh == 0 and prepared.loaded.report.unusable > 0:
        return Outcome.SKIPPED_NO_NEW_DATA, f"no new result can be learned, with {errors}."
    if fresh == 0:
        return Outcome.SKIPPED_NO_NEW_DATA, (
            "no new result has come in since the last training; everything known is learned "
            f"already, with {errors}. The next run looks again."
        )
    if prepared.serving.head is None and rows < least:
        none = "no model of ours is there" if settings.incumbent.serves else "no model serves"
        return Outcome.SKIPPED_INSUFFICIENT_ERRORS, (
            f"{none} yet, and {counted(rows, 'result')} are too few to train a first one "
            f"({least} are needed). Wait for more outcomes, or register a model that was trained "
            "elsewhere with `ml-pipeline train --register`."
        )
    return None


def _errors_found(prepared: Prepared, settings: Settings) -> str:
    days = settings.run.lookback_days
    return (
        f"{counted(prepared.loaded.report.errors, 'confident error')} (confidence over "
        f"{settings.run.confidence_threshold:g}) in the last "
        f"{'day' if days == 1 else f'{days:g} days'}"
    )


def _unusable(prepared: Prepared) -> str:
    """What is wrong with results that cannot be learned as they are."""
    report = prepared.loaded.report
    if not report.unusable or prepared.waiting_for_a_base():
        return ""
    return f" {counted(report.unusable, 'result')} cannot be learned: {report.unusable_words()}."


def _changed(prepared: Prepared) -> str:
    """Settings that are to be learned by, when there is something to learn."""
    if not prepared.changed:
        return ""
    verb = "was" if len(prepared.changed) == 1 else "were"
    return f" {', '.join(prepared.changed)} {verb} changed: the next training begins from the base."


def _waiting(fresh: int) -> str:
    if fresh == 0:
        return "No new result waits to be learned."
    return (
        f"{counted(fresh, 'new result')} {'waits' if fresh == 1 else 'wait'} for a later run; "
        "`run.trigger: labels` learns from them without errors."
    )
