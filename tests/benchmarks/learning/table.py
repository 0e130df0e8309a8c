"""Measurements as lines of JSON, and the lines as one table in Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from ml_pipeline.training.backtest import Replay
from tests.benchmarks.learning.replay import Case

NAMES = {
    "frozen": "frozen LogisticRegression",
    "seed": "original recipe: errors alone",
    "refit": "LogisticRegression, fitted anew every night",
    "adaptive": "**adaptive**",
    "experts": "**adaptive with experts**",
    "challengers": "**adaptive with new bases**",
    "lightgbm": "LightGBM, every week",
    "xgboost": "XGBoost, every week",
    "forest": "AdaptiveRandomForest, every night",
}
LABEL_NAMES = {
    "all": "",
    "errors": "errors alone",
    "tenth": "errors and a tenth of the right answers",
}
HEADER = (
    "| stream | labels | policy | accuracy % | log loss | worst block, points | … nats "
    "| CPU s | × nightly refit |"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One replay: accuracy in 0..1, losses in nats, blocks against the frozen base."""

    case: Case
    accuracy: float
    log_loss: float
    worst_block_points: float
    worst_block_nats: float
    train_cpu_s: float
    nights: int
    rows: int

    @classmethod
    def of(cls, case: Case, replay: Replay, frozen: Replay) -> Measured:
        """The figures that `backtest` prints, of those that the table shows."""
        figures = replay.figures(frozen)
        return cls(
            case=case,
            accuracy=round(figures["accuracy"], 6),
            log_loss=round(figures["log_loss"], 6),
            worst_block_points=round(figures["worst_block_points"], 4),
            worst_block_nats=round(figures["worst_block_nats"], 6),
            train_cpu_s=round(figures["train_cpu_s"], 3),
            nights=int(figures["nights"]),
            rows=int(figures["rows"]),
        )

    def line(self) -> str:
        """One JSON object."""
        plain = asdict(self)
        return json.dumps(plain.pop("case") | plain)

    @classmethod
    def read(cls, line: str) -> Measured:
        """The inverse of `line`."""
        plain = json.loads(line)
        case = Case(**{name: plain.pop(name) for name in asdict(_ANY)})
        return cls(case=case, **plain)


_ANY = Case(stream="", policy="")


def table(lines: Iterable[Measured]) -> str:
    """Medians over the seeds; log losses with their range where seeds differ.

    A policy's processor time is divided by that of the nightly refit with all labels at once on
    the same stream.
    """
    cells: dict[tuple[str, int, str, str], list[Measured]] = {}
    for one in lines:
        case = one.case
        key = (case.stream, case.delay_days, case.labels, case.policy)
        cells.setdefault(key, []).append(one)
    refits = {
        stream: statistics.median(one.train_cpu_s for one in found)
        for (stream, delay, labels, policy), found in cells.items()
        if (delay, labels, policy) == (0, "all", "refit")
    }
    rows = [HEADER, "|" + "---|" * HEADER.count(" |")]
    for (stream, delay, labels, policy), found in cells.items():
        rows.append(
            f"| {stream} | {_labels(delay, labels)} | {NAMES[policy]} "
            f"| {_figures(found, refits.get(stream))} |"
        )
    return "\n".join(rows)


def _labels(delay: int, labels: str) -> str:
    late = "at once" if delay == 0 else f"{delay} days late"
    return ", ".join(text for text in (LABEL_NAMES[labels], late) if text)


def _figures(found: Sequence[Measured], refit: float | None) -> str:
    cpu = statistics.median(one.train_cpu_s for one in found)
    losses = [one.log_loss for one in found]
    spread = f" ({min(losses):.4f}–{max(losses):.4f})" if len(set(losses)) > 1 else ""
    figures = [
        f"{100 * statistics.median(one.accuracy for one in found):.2f}",
        f"{statistics.median(losses):.4f}{spread}",
        f"{statistics.median(one.worst_block_points for one in found):+.2f}",
        f"{statistics.median(one.worst_block_nats for one in found):+.4f}",
        f"{cpu:.1f}",
        f"{cpu / refit:.2f}" if refit else "–",
    ]
    return " | ".join(figures)
