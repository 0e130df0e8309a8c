"""What a run keeps for its report: small plain values, in the run's row.

Counts and curves that need the run's own rows, which nobody has later: confusion matrices,
reliability, intervals, the most confident errors, rejected rows, accuracy and votes by day.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final

import numpy as np
import pandas as pd

from ml_pipeline.config.settings import Settings
from ml_pipeline.evaluation.calibration import Answers, reliability
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation.intervals import wilson_interval
from ml_pipeline.evaluation.judging import Verdict
from ml_pipeline.evaluation.ledger import COLUMN, PairedGain, cluster_codes
from ml_pipeline.evaluation.metrics import EvaluationReport, Floats, row_losses
from ml_pipeline.evaluation.sequences import runs_test
from ml_pipeline.evaluation_log.loading import LoadedLog
from ml_pipeline.reports.classes.days import ClassDays
from ml_pipeline.reports.drift import DRIFT
from ml_pipeline.reports.memories import Voters
from ml_pipeline.reports.segments import segments
from ml_pipeline.store.inputs.incumbent_columns import own_features
from ml_pipeline.store.records import CLASS_DAYS, RUN_MANIFEST, UNCERTAIN, RetrainingRun

SHOWN: Final = 20
SHOWN_CELLS: Final = 30
NIGHTS_KEPT: Final = 120
ROWS_READ: Final = 100_000
RESAMPLES: Final = 400
CLASSES_RESAMPLED: Final = 20
LEVEL: Final = 0.95
TEXT_KEPT: Final = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A challenger's evidence and verdict, and the state of the online model, if it is one."""

    evidence: Evidence
    verdict: Verdict
    online_state: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What is known of a run when it ends, as far as it came.

    `loaded` are the rows since `learn_from`; `earlier` is the run before, and `class_days` what
    the latest one before kept of the days before. `drift` says how far inputs have moved.
    """

    settings: Settings
    loaded: LoadedLog | None = None
    judged: Judged | None = None
    model_ids: Sequence[str] | None = None
    learn_from: datetime | None = None
    earlier: RetrainingRun | None = None
    class_days: Mapping[str, Any] | None = None
    drift: Mapping[str, Any] | None = None


def with_review(run: RetrainingRun, material: Material) -> RetrainingRun:
    """The run with everything that its report shows."""
    details = {**run.details, **_class_days(material), "review": review(run, material)}
    if material.drift is not None:
        details[DRIFT] = dict(material.drift)
    return replace(run, details=details)


def _class_days(material: Material) -> dict[str, Any]:
    """Answers by day and class: those loaded, and those of the days before."""
    kept, loaded = material.class_days, material.loaded
    if loaded is not None:
        earlier = None if kept is None else ClassDays.from_json(kept)
        classes = material.settings.data.classes or ()
        found = ClassDays.after(earlier, loaded.by_class, material.learn_from, classes)
        kept = found.as_json()
    return {} if kept is None else {CLASS_DAYS: kept}


def review(run: RetrainingRun, material: Material) -> dict[str, Any]:
    """Everything that the run's report shows and its row does not say yet."""
    found: dict[str, Any] = {"config_changes": _config_changes(run, material.earlier)}
    if material.loaded is not None:
        labelled = _labelled(material.loaded, material.settings)
        found["errors"] = _errors(material.loaded, labelled, material.settings)
        found["rejected"] = _rejected(material.loaded.report.rejects_path)
        found["runs_test"] = _in_order(labelled, material.settings.data.target, material.model_ids)
    if material.judged is not None:
        found |= _compared(material.judged)
        found |= _by_day(material.judged.online_state)
    return found


# ---------------------------------------------------------------------------------- models


def _compared(judged: Judged) -> dict[str, Any]:
    evidence, verdict = judged.evidence, judged.verdict
    if verdict.challenger is None:
        return {}
    found: dict[str, Any] = {
        "labels": list(evidence.labels),
        "challenger": _model(evidence, evidence.challenger, verdict.challenger),
    }
    if evidence.champion is not None and verdict.champion is not None:
        found["champion"] = _model(evidence, evidence.champion, verdict.champion)
        found["gain"] = _gain(evidence)
    return found


def _model(evidence: Evidence, probabilities: Floats, report: EvaluationReport) -> dict[str, Any]:
    losses = row_losses(evidence.actual, probabilities)
    hits = probabilities.argmax(axis=1) == evidence.actual
    intervals = {"log_loss": _mean(losses, evidence)["interval"]}
    if _stand_alone(evidence):
        accuracy = wilson_interval(int(hits.sum()), len(hits), LEVEL)
        intervals |= _resampled(report) | {"accuracy": [accuracy.low, accuracy.high]}
    else:
        intervals["accuracy"] = _mean(hits.astype(np.float64), evidence)["interval"]
    return {
        "rows": report.rows,
        "metrics": report.summary(),
        "intervals": intervals,
        "confusion": [list(row) for row in report.confusion]
        if len(report.labels) <= SHOWN_CELLS
        else None,
        "per_class": {label: dict(scores) for label, scores in report.per_class.items()},
        "reliability": reliability(
            Answers(correct=hits, confidences=probabilities.max(axis=1), weights=evidence.weights)
        ),
    }


def _stand_alone(evidence: Evidence) -> bool:
    """Whether each row stands for itself: all weigh alike and none shares its entity."""
    named = evidence.entities[evidence.entities != 0]
    return len(np.unique(evidence.weights)) == 1 and len(np.unique(named)) == len(named)


def _mean(values: Floats, evidence: Evidence) -> dict[str, Any]:
    """The mean over all answers for which the rows stand, and its interval."""
    found = PairedGain.of_rows(
        values, 1, weights=evidence.weights, clusters=cluster_codes(evidence.entities)
    )
    half = NormalDist().inv_cdf(0.5 + LEVEL / 2) * found.standard_error
    return {"mean": found.mean, "interval": [found.mean - half, found.mean + half]}


def _resampled(report: EvaluationReport) -> dict[str, list[float]]:
    """Bootstrap intervals of precision, recall and F1: rows count only by their cell.

    Drawing rows anew is drawing the confusion matrix from a multinomial; the seed is fixed.
    """
    size = len(report.labels)
    if size > CLASSES_RESAMPLED:
        return {}
    counts = np.asarray(report.confusion, dtype=np.float64)
    random = np.random.default_rng(0)
    shares = counts.ravel() / counts.sum()
    drawn = random.multinomial(report.rows, shares, size=RESAMPLES).reshape(-1, size, size)
    right = drawn.diagonal(axis1=1, axis2=2).astype(np.float64)
    support, predicted = drawn.sum(axis=2), drawn.sum(axis=1)
    weight = support / report.rows
    zeros = np.zeros_like(right)
    precision = np.divide(right, predicted, out=zeros.copy(), where=predicted > 0)
    recall = np.divide(right, support, out=zeros.copy(), where=support > 0)
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=zeros.copy(), where=both > 0)
    tails = [50 * (1 - LEVEL), 100 - 50 * (1 - LEVEL)]
    values = {"precision": precision, "recall": recall, "f1_score": f1}
    return {
        name: [float(v) for v in np.percentile((scores * weight).sum(axis=1), tails)]
        for name, scores in values.items()
    }


def _gain(evidence: Evidence) -> dict[str, Any]:
    """Challenger minus champion on the same rows; a positive gain is the challenger's."""
    if evidence.champion is None:
        return {}
    losses = row_losses(evidence.actual, evidence.champion) - row_losses(
        evidence.actual, evidence.challenger
    )
    right = [
        (probabilities.argmax(axis=1) == evidence.actual).astype(np.float64)
        for probabilities in (evidence.champion, evidence.challenger)
    ]
    hits = right[1] - right[0]
    return {
        "log_loss": _mean(losses, evidence),
        "accuracy": _mean(hits, evidence),
    }


# ---------------------------------------------------------------------------------- errors


def _labelled(loaded: LoadedLog, settings: Settings) -> pd.DataFrame:
    """The first labelled rows, as text."""
    columns = ["event_id", "known_at", "model_id", "prediction", "is_error", settings.data.target]
    return pd.read_csv(
        loaded.labelled_path, usecols=[*columns, *own_features(settings.data.features)], dtype=str,
        keep_default_na=False, nrows=ROWS_READ,
    )  # fmt: skip


def _errors(loaded: LoadedLog, labelled: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    frame = loaded.errors
    target = settings.data.target
    pairs = Counter(zip(frame["prediction"].tolist(), frame[target].tolist(), strict=True))
    top = frame.sort_values(["confidence", "event_id"], ascending=[False, True]).head(SHOWN)
    return {
        "total": len(frame),
        "by_class": [
            {"said": predicted, "was": actual, "rows": rows}
            for (predicted, actual), rows in pairs.most_common(SHOWN)
        ],
        "by_confidence": _by_confidence(frame, settings.run.confidence_threshold),
        **segments(labelled, settings.data),
        "most_confident": [_error(row, loaded, settings) for row in top.to_dict("records")],
    }


def _error(row: Mapping[Any, Any], loaded: LoadedLog, settings: Settings) -> dict[str, Any]:
    values = {name: float(row[name]) for name in loaded.features}
    target, column = settings.data.target, settings.data.text_column
    return {
        "event_id": row["event_id"],
        "match_id": row["match_id"],
        "known_at": row["known_at"],
        "model_id": row["model_id"],
        "said": row["prediction"],
        "was": row[target],
        "confidence": float(row["confidence"]),
        "features": {name: v if np.isfinite(v) else None for name, v in values.items()},
    } | ({} if column is None else {"text": str(row[column])[:TEXT_KEPT]})


def _by_confidence(frame: pd.DataFrame, threshold: float) -> list[dict[str, float]]:
    edges = np.linspace(min(threshold, 0.99), 1.0, 6)
    counts, _ = np.histogram(frame["confidence"].to_numpy(dtype=float), bins=edges)
    return [
        {"from": round(float(low), 4), "to": round(float(high), 4), "rows": int(rows)}
        for low, high, rows in zip(edges[:-1], edges[1:], counts, strict=True)
    ]


def _rejected(path: str | None) -> list[dict[str, str]]:
    if path is None:
        return []
    with Path(path).open(encoding="utf-8", newline="") as file:
        rows = [row for row, _ in zip(csv.DictReader(file), range(SHOWN), strict=False)]
    return [{name: str(value)[:TEXT_KEPT] for name, value in row.items() if name} for row in rows]


def _in_order(frame: pd.DataFrame, target: str, model_ids: Sequence[str] | None) -> dict[str, Any]:
    """Whether the errors of the serving lineage come scattered or in clusters, by time."""
    if model_ids is not None:
        frame = frame[frame["model_id"].isin(list(model_ids))]
    frame = frame[~frame["prediction"].isin(["", UNCERTAIN])]
    frame = frame.sort_values(["known_at", "event_id"], kind="stable")
    return runs_test((frame["prediction"] == frame[target]).tolist()).as_json()


# ---------------------------------------------------------------------------------- days


def _voters(online_state: Mapping[str, Any]) -> dict[str, Any]:
    """Who votes, in the order of the weights: names, how long each remembers, and what it sees."""
    voters = Voters.of(online_state)
    kinds, names = voters.kinds, voters.memories
    if len(voters.families) > 1:
        names = [
            name if name in {"base", *voters.experts} else f"{seen}, {name}"
            for seen, name in zip(kinds, names, strict=True)
        ]
    return {
        "experts": names,
        "memories": voters.memories,
        "kinds": kinds,
        "voters": voters.as_json(),
    }


def _by_day(online_state: Mapping[str, Any] | None) -> dict[str, Any]:
    """Accuracy of the online model and its anchor by day, before learning it; the vote after it."""
    if online_state is None:
        return {}
    votes = online_state.get("votes") or [None] * len(online_state["ledger"])
    kept = list(zip(online_state["ledger"], votes, strict=True))[-NIGHTS_KEPT:]
    return {
        **_voters(online_state),
        "nights": [
            {
                "night": int(night[COLUMN["night"]]),
                "rows": int(night[COLUMN["rows"]]),
                "answered": int(night[COLUMN["served_rows"]]),
                "line": night[COLUMN["live_correct"]] / night[COLUMN["weight"]],
                "anchor": night[COLUMN["anchor_correct"]] / night[COLUMN["weight"]],
                "vote": None if vote is None else [round(weight, 5) for weight in vote],
            }
            for night, vote in kept
            if night[COLUMN["rows"]]
        ],
    }


# ---------------------------------------------------------------------------------- config


def _config_changes(run: RetrainingRun, earlier: RetrainingRun | None) -> dict[str, Any] | None:
    """Settings that differ from those of the previous run; None when there is none to compare."""
    if earlier is None or RUN_MANIFEST not in earlier.details:
        return None
    before, now = (_flat(r.details[RUN_MANIFEST].get("config", {})) for r in (earlier, run))
    names = sorted(before.keys() | now.keys())
    return {
        name: [before.get(name), now.get(name)]
        for name in names
        if not _is_same(before.get(name), now.get(name))
    }


def _is_same(before: Any, now: Any) -> bool:  # noqa: ANN401 - values of settings
    """Whether two values say the same; features whose kinds only one of them says are the same."""
    if before == now:
        return True
    if not (isinstance(before, list) and isinstance(now, list)):
        return False
    (one, has_kinds), (other, have_kinds) = _names(before), _names(now)
    return one == other and has_kinds != have_kinds


def _names(features: list[Any]) -> tuple[list[Any], bool]:
    """What a list names, and whether with kinds."""
    if not all(isinstance(feature, Mapping) for feature in features):
        return features, False
    return [name for feature in features for name in feature], True


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
