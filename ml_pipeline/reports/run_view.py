"""What a run's report shows, made from its row: tables, sentences and charts in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ml_pipeline.reports.charts import Axis, Chart, Mark, Series, days_axis, draw, percent_text
from ml_pipeline.reports.classes.figures import class_view
from ml_pipeline.reports.drift import drift_view
from ml_pipeline.reports.key_figures import of_run
from ml_pipeline.reports.label_delays import described
from ml_pipeline.reports.memories import Say, Voters
from ml_pipeline.store.records import (
    CLASS_DAYS,
    RUN_MANIFEST,
    PromotionEvent,
    PromotionKind,
    RetrainingRun,
)

METRICS: Final = ("accuracy", "precision", "recall", "f1_score", "log_loss", "brier", "ece", "rps")
SMALLER_IS_BETTER: Final = {"log_loss", "brier", "ece", "rps"}
SMOOTHED_FROM: Final = 30
SMOOTHED_OVER: Final = 7
LOADED: Final = {
    "rows": "read",
    "bad": "set aside as malformed",
    "folded": "merged with another row of the same event",
    "other_model": "of another model",
    "pending": "without an outcome yet",
    "outside": "with an outcome from outside the lookback window",
    "labelled": "with an outcome",
    "unusable": "with an outcome, but without usable features",
    "errors": "confident errors",
}


def run_view(run: RetrainingRun, events: Sequence[PromotionEvent]) -> dict[str, Any]:
    """Everything that the templates of a report need; missing parts are empty."""
    details = run.details
    kept: Mapping[str, Any] = details.get("review", {})
    return {
        "run": run,
        "outcome": str(run.outcome or run.status),
        "reason": run.outcome_reason or "The run has not ended yet.",
        "answering": (details.get("answering") or {}).get("sentence"),
        "error": run.error_message,
        "report_error": details.get("report_error"),
        "has_review": "review" in details,
        "figures": of_run(run),
        "facts": _facts(run),
        "decision": details.get("decision"),
        "metrics": metric_rows(run),
        "champion_name": champion_name(run),
        "gain": kept.get("gain"),
        "says_the_same": (kept.get("gain") or {}).get("log_loss", {}).get("interval") == [0.0, 0.0],
        "confusion": _confusion(kept),
        "per_class": _per_class(kept),
        "reliability": _reliability_chart(kept),
        "errors": kept.get("errors"),
        "features": _feature_names(kept),
        "shows_texts": any("text" in error for error in _shown(kept)),
        "drift": drift_view(details.get("drift")),
        "loaded": [(text, (details.get("load_report") or {}).get(name))
                   for name, text in LOADED.items() if details.get("load_report")],
        "new_levels": [found["said"] for found in details.get("new_levels", ())],
        "reasons": (details.get("load_report") or {}).get("reasons", {}),
        "rejected": kept.get("rejected", []),
        "runs_test": kept.get("runs_test"),
        "days_chart": _days_chart(kept, events),
        "votes": _votes_chart(kept),
        "classes": class_view(details.get(CLASS_DAYS)),
        "memories": _memories(kept),
        "shadows": details.get("shadows", []),
        "lineage": _lineage(run),
        "versions": (details.get(RUN_MANIFEST) or {}).get("library_versions", {}),
        "config_changes": kept.get("config_changes"),
    }  # fmt: skip


def _facts(run: RetrainingRun) -> list[tuple[str, Any]]:
    took = None if run.completed_at is None else run.completed_at - run.started_at
    return [
        ("Run", run.run_id),
        ("Model", run.model_name),
        ("Started by", run.source.replace("_", " ")),
        ("Started", run.started_at),
        ("Ended", run.completed_at),
        ("Took", None if took is None else f"{took.total_seconds():.1f} s"),
        ("Confident errors", run.dataset_size),
        ("Training rows", run.training_rows),
        ("Outcomes", described(run.details.get("label_delays"))),
        ("Labels", (run.details.get("label_sample") or {}).get("said")),
        ("Champion afterwards", run.champion_id or "none"),
        ("Challenger", run.challenger_id or "none"),
    ]


def champion_name(run: RetrainingRun) -> str:
    """What the challenger was compared with: a champion, or a classifier of the person's own."""
    return "yours" if run.details.get("incumbent") else "champion"


def metric_rows(run: RetrainingRun) -> list[dict[str, Any]]:
    """One row a metric: both models' numbers, their intervals, and which is the better one."""
    kept = run.details.get("review", {})
    sides: dict[str, dict[str, Any]] = {
        "champion": dict(run.details.get("champion_metrics", {})),
        "challenger": dict(run.details.get("challenger_metrics", {}) or run.metrics),
    }
    intervals = {side: kept.get(side, {}).get("intervals", {}) for side in sides}
    rows = []
    for name in METRICS:
        values = {side: as_number(numbers.get(name)) for side, numbers in sides.items()}
        best = better(name, values["champion"], values["challenger"])
        if values["challenger"] is None and values["champion"] is None:
            continue
        rows.append(
            {"name": name, **values, "better": "" if best is None else list(sides)[best],
             "intervals": {side: intervals[side].get(name) for side in sides}}
        )  # fmt: skip
    return rows


def as_number(value: object) -> float | None:
    """A number that a row keeps; None for what is none."""
    return float(value) if isinstance(value, int | float) else None


def better(name: str, one: float | None, other: float | None) -> int | None:
    """Which value of a metric is the better one: 0, 1, or None where neither is."""
    if one is None or other is None or one == other:
        return None
    return int((other < one) == (name in SMALLER_IS_BETTER))


def _confusion(kept: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Both matrices; `heat` is a cell's share of what happened, in tenths."""
    found = []
    for side in ("champion", "challenger"):
        counts = kept.get(side, {}).get("confusion")
        if counts:
            rows = [
                {
                    "actual": label,
                    "cells": [(n, round(10 * n / max(1, sum(row)))) for n in row],
                    "total": sum(row),
                }
                for label, row in zip(kept["labels"], counts, strict=True)
            ]
            found.append({"side": side, "labels": kept["labels"], "rows": rows})
    return found


def _per_class(kept: Mapping[str, Any]) -> list[dict[str, Any]]:
    challenger = kept.get("challenger", {}).get("per_class", {})
    champion = kept.get("champion", {}).get("per_class", {})
    return [
        {"label": label, "challenger": challenger[label], "champion": champion.get(label)}
        for label in kept.get("labels", ())
        if label in challenger
    ]


def _reliability_chart(kept: Mapping[str, Any]) -> Any:  # noqa: ANN401 - markup
    series = [
        Series(
            name=side,
            points=[(b["confidence"], b["accuracy"]) for b in kept[side]["reliability"]],
        )
        for side in ("champion", "challenger")
        if kept.get(side)
    ]
    if not series:
        return ""
    detail = "; ".join(
        f"{side}: " + ", ".join(
            f"{100 * b['accuracy']:.0f} % right at {100 * b['confidence']:.0f} % ({b['rows']} rows)"
            for b in kept[side]["reliability"]
        )
        for side in ("champion", "challenger") if kept.get(side)
    )  # fmt: skip
    return draw(
        Chart(
            name="reliability",
            title="How often answers with a given confidence were right",
            summary="Below the diagonal a model is too confident, above it not confident enough.",
            detail=f"{detail}.",
            series=[*series, Series(name="perfect calibration", points=[(0.0, 0.0), (1.0, 1.0)])],
            x=Axis(title="Confidence", text=percent_text),
            y=Axis(title="Right answers", text=percent_text),
            y_range=(0.0, 1.0),
        )
    )


def _feature_names(kept: Mapping[str, Any]) -> list[str]:
    shown = _shown(kept)
    return sorted(shown[0]["features"]) if shown else []


def _shown(kept: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The most confident errors."""
    return list((kept.get("errors") or {}).get("most_confident", []))


def promotion_marks(events: Sequence[PromotionEvent]) -> list[Mark]:
    """One mark for each change of champion, with its kind and model."""
    return [
        Mark(
            x=float(event.created_at.date().toordinal()),
            text=f"{event.kind} of {event.to_model_id}",
        )
        for event in events
    ]


def _days_chart(kept: Mapping[str, Any], events: Sequence[PromotionEvent]) -> Any:  # noqa: ANN401
    nights = kept.get("nights", [])
    if not nights:
        return ""
    rows = sum(night["rows"] for night in nights)
    totals = [sum(n[side] * n["rows"] for n in nights) / rows for side in ("line", "anchor")]
    changes = sum(event.kind is PromotionKind.PROMOTION for event in events)
    over = f", averaged over {SMOOTHED_OVER} days" if len(nights) >= SMOOTHED_FROM else ""
    return draw(
        Chart(
            name="nights",
            title="Accuracy by day, each day predicted before the model was updated with it",
            summary=(
                f"{rows} results on {len(nights)} days{over}: the updated model was right "
                f"{100 * totals[0]:.1f} % of the time, the approved one "
                f"{100 * totals[1]:.1f} %. {changes} promotions.{_answered(nights, rows)}"
            ),
            series=[
                Series(name="updated model", points=_smoothed(nights, "line")),
                Series(name="approved model (anchor)", points=_smoothed(nights, "anchor")),
            ],
            x=days_axis(float(night["night"]) for night in nights),
            y=Axis(title="Right answers", text=percent_text),
            marks=promotion_marks(events),
            marks_name="change of champion",
        )
    )


def _answered(nights: Sequence[Mapping[str, Any]], rows: int) -> str:
    """Of how many results the log has what people were answered; the others are approximate."""
    if not all("answered" in night for night in nights):
        return ""
    known = sum(night["answered"] for night in nights)
    return (
        f" Of {known} of them the log has what the updated model answered; of the other "
        f"{rows - known} it is what it would have answered then."
    )


def _smoothed(nights: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    width = SMOOTHED_OVER if len(nights) >= SMOOTHED_FROM else 1
    points = []
    for place in range(len(nights)):
        window = nights[max(0, place + 1 - width) : place + 1]
        rows = sum(night["rows"] for night in window)
        mean = sum(night[name] * night["rows"] for night in window) / rows
        points.append((float(nights[place]["night"]), mean))
    return points


def _votes_chart(kept: Mapping[str, Any]) -> Any:  # noqa: ANN401 - markup
    """Weights by how long a voter remembers; what they see is said beside it."""
    nights = [night for night in kept.get("nights", []) if night["vote"]]
    if not nights:
        return ""
    names = kept.get("memories", kept.get("experts", []))
    together = [(float(night["night"]), _summed(names, night["vote"])) for night in nights]
    last = together[-1][1]
    winner = max(last, key=lambda name: last[name])
    summary = f"After the last day {winner} has the largest weight: {_weights(last)}."
    kinds = kept.get("kinds", [])
    if len(kinds) > len(last):
        seen = _weights(_summed(kinds, nights[-1]["vote"]))
        summary += f" By what they see: {seen}."
    return draw(
        Chart(
            name="votes",
            title="Weights in the vote by day: how long a memory serves best",
            summary=summary,
            series=[
                Series(name=name, points=[(night, weights[name]) for night, weights in together])
                for name in last
            ],
            x=days_axis(night for night, _ in together),
            y=Axis(title="Share of the vote", text=percent_text),
            y_range=(0.0, 1.0),
        )
    )


def _memories(kept: Mapping[str, Any]) -> str | None:
    """Which memory of the updated model is winning; None where nobody voted, or kept who did."""
    votes = [night["vote"] for night in kept.get("nights", []) if night["vote"]]
    if not votes or "voters" not in kept:
        return None
    return Say.of(Voters.of(kept["voters"]), votes[-1]).sentence()


def _summed(names: Sequence[str], weights: Sequence[float]) -> dict[str, float]:
    """The weights of those with one name together, in the order of the names."""
    found: dict[str, float] = {}
    for name, weight in zip(names, weights, strict=True):
        found[name] = found.get(name, 0.0) + weight
    return found


def _weights(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {100 * weight:.0f} %" for name, weight in shares.items())


def _lineage(run: RetrainingRun) -> list[tuple[str, Any]]:
    made = run.details.get(RUN_MANIFEST) or {}
    code = made.get("code", {})
    parents = [
        (title, f"{parent['model_id']} ({parent['digest']})")
        for title, parent in (
            ("Continues from", made.get("head")),
            ("Champion before the run", made.get("champion")),
        )
        if parent
    ]
    return [
        *parents,
        ("Training data", run.training_digest),
        ("Holdout data", run.holdout_digest),
        ("Configuration", run.config_digest),
        ("Code", code.get("digest")),
        ("Version", code.get("version")),
        ("Commit", run.git_sha),
    ]
