"""What is checked once a day: the estimate before labels arrive, drift, the order of errors."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ml_pipeline.config.sections import AdaptiveSettings
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.drift.inputs import MIN_DRIFT_ROWS, input_drift
from ml_pipeline.datasets.drift.measures import Drift, label_drift, new_levels_sentence
from ml_pipeline.decay.advisories import Finding, update_advisory
from ml_pipeline.decay.context import CheckContext
from ml_pipeline.decay.drift import expected_accuracy
from ml_pipeline.decay.lineage import all_days
from ml_pipeline.decay.measures import share_of
from ml_pipeline.decay.watched import Watched
from ml_pipeline.evaluation.sequences import RunsTest, runs_test
from ml_pipeline.evaluation_log.frames import checked_rows, since
from ml_pipeline.registry.inputs.new_levels import base_reference
from ml_pipeline.store.alerts import Cause
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import UNCERTAIN, LookbackWindow

log = logging.getLogger("model_retrainer")

PREDICTIONS = "prediction"


def daily_checks(store: Store, context: CheckContext) -> dict[str, Any]:
    """Check rows instead of sums; returns JSON. Raises StoreError, DataError.

    The longest recent window is compared: features against what the champion's base was
    trained on, predictions and
    the calibration against the baseline's days. Of a large log a sample is read.
    """
    settings, now = context.settings, context.now
    checked = _checked(store, context)
    champion, lineage = checked.champion, checked.model_ids
    days = max(settings.decay.recent_days)
    recent = since(now, days)
    first = since(now, days + settings.decay.baseline_days).start
    rows = checked_rows(
        store, settings, before=LookbackWindow(start=first, end=recent.start), after=recent,
        model_ids=None if lineage is None else sorted(lineage), work_dir=context.work_dir,
    )  # fmt: skip
    reference = base_reference(store, champion)
    compared = _together(rows.after, rows.waiting)
    moved: list[Drift] = []
    if len(compared) >= MIN_DRIFT_ROWS:
        moved += [] if reference is None else input_drift(reference, compared)
        moved += _mix_drift(rows.before, compared)
    named = [sentence for sentence in map(new_levels_sentence, moved) if sentence]
    for sentence in named:
        log.warning("%s", sentence)
    in_order = runs_test(rows.in_order)
    for finding in (_drift_finding(settings, moved), _cluster_finding(settings, in_order)):
        if finding is not None:
            update_advisory(store, context, finding, model_id=checked.anchor_id)
    return {
        "estimate": _estimate(
            _answered(rows.before), _answered(rows.waiting), settings.training.adaptive
        ),
        "realised_accuracy": _realised(rows.in_order, settings.training.adaptive),
        "errors_in_order": in_order.as_json(),
        "drift": [drift.as_json() for drift in moved],
        "new_levels": named,
        "drift_reason": None if reference is not None else _no_reference(checked),
    }


def _checked(store: Store, context: CheckContext) -> Watched:
    """Who is watched; by whose days only where a classifier of the person's own answers."""
    settings = context.settings
    champion = store.champion(model_name=settings.model_name)
    days = all_days(store, context) if settings.incumbent.serves else []
    return Watched.of(store, settings, champion, days, None)


def _together(*frames: pd.DataFrame) -> pd.DataFrame:
    some = [frame for frame in frames if len(frame)]
    return pd.concat(some, ignore_index=True) if some else frames[0]


def _answered(events: pd.DataFrame) -> pd.DataFrame:
    return events[(events["prediction"] != UNCERTAIN) & events["confidence"].notna()]


def _right(events: pd.DataFrame) -> pd.Series[bool]:
    return events["prediction"] == events["actual_result"]


def _realised(in_order: Sequence[bool], adaptive: AdaptiveSettings) -> float | None:
    if not in_order:
        return None
    odds = adaptive.right_weight / adaptive.wrong_weight
    return share_of(sum(in_order), len(in_order), odds).value


def _estimate(
    known: pd.DataFrame, waiting: pd.DataFrame, adaptive: AdaptiveSettings
) -> dict[str, Any] | None:
    right = _right(known).to_numpy(dtype=bool)
    found = expected_accuracy(
        waiting["confidence"].to_numpy(dtype=float),
        known["confidence"].to_numpy(dtype=float),
        right,
        weights=np.where(right, adaptive.right_weight, adaptive.wrong_weight),
    )
    return None if found is None else found.as_json()


# ------------------------------------------------------------------------------------- drift


def _no_reference(checked: Watched) -> str:
    champion = checked.champion
    if champion is None and checked.anchor_id is not None:
        return (
            f"{checked.anchor_id} is not trained here: what it was trained on is not known, so "
            "inputs are not compared."
        )
    if champion is None:
        return "No model serves yet, so there are no training inputs to compare new ones with."
    return (
        f"The base {champion.anchor_id} holds no summary of what it was trained on (an earlier "
        "version made it, or another program): inputs are not compared. A base trained now, by "
        "`ml-pipeline train --register`, holds one."
    )


def _mix_drift(before: pd.DataFrame, recent: pd.DataFrame) -> list[Drift]:
    """How far the mix of predictions has moved."""
    usual = before["prediction"].tolist() if len(before) >= MIN_DRIFT_ROWS else []
    mix = label_drift(PREDICTIONS, usual, recent["prediction"].tolist())
    return [] if mix is None else [mix]


def _drift_finding(settings: Settings, moved: Sequence[Drift]) -> Finding | None:
    worst = max(moved, key=lambda drift: drift.psi, default=None)
    if worst is None:
        return None
    threshold = settings.decay.drift_threshold
    return Finding(
        cause=Cause.INPUT_DRIFT,
        is_alarming=worst.psi > threshold,
        is_over=worst.psi <= threshold,
        metric=f"psi {worst.column}",
        value=worst.psi,
        usual=0.0,
        threshold=threshold,
        rows=worst.rows,
        usual_rows=worst.reference_rows,
        sentence=_drift_sentence(worst, threshold),
        details={"drift": [drift.as_json() for drift in moved if drift.psi > threshold]},
    )


def _drift_sentence(worst: Drift, threshold: float) -> str:
    what, reference = f"The values of {worst.column} have shifted", "training rows"
    if worst.column == PREDICTIONS:
        what, reference = "The mix of predictions has shifted", "earlier ones"
    new = ""
    if worst.new_share:
        levels = ", ".join(repr(level[:40]) for level in worst.new_levels)
        new = f" {worst.new_share:.1%} of them are levels that training had not ({levels})."
    return (
        f"{what} most: population stability index {worst.psi:.2f} on {worst.rows:,} new rows "
        f"against {worst.reference_rows:,} {reference}; more than {threshold:g} raises an alert."
        f"{new}"
    )


# ------------------------------------------------------------------------- errors in their order


def _cluster_finding(settings: Settings, tested: RunsTest) -> Finding | None:
    """Errors that come in clusters: something came and went, which a mean of the days hides."""
    if tested.p_value is None or tested.expected_runs is None:
        return None
    level = settings.decay.cluster_level
    return Finding(
        cause=Cause.ERROR_CLUSTERS,
        is_alarming=tested.p_value < level,
        is_over=not tested.clustered,
        metric="runs of right and wrong",
        value=float(tested.runs),
        usual=tested.expected_runs,
        threshold=level,
        rows=tested.rows,
        usual_rows=0,
        sentence=tested.sentence,
        details={"errors_in_order": tested.as_json()},
    )
