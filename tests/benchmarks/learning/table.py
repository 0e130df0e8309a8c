"""Measurements as lines of JSON, and the lines as one table in Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ml_pipeline.evaluation.metrics import Floats
from ml_pipeline.training.backtest import BLOCKS, Replay
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
    """One replay: accuracies in 0..1, losses in nats, over all rows and by twentieths of them.

    `told_loss` is the mean loss in the line's own ledger; None for a peer, and where a line was
    measured before it was kept.
    """

    case: Case
    accuracy: float
    log_loss: float
    train_cpu_s: float
    nights: int
    rows: int
    block_accuracies: list[float]
    block_losses: list[float]
    told_loss: float | None = None

    @classmethod
    def of(cls, case: Case, replay: Replay, told_loss: float | None = None) -> Measured:
        """What the table needs of a replay."""
        return cls(
            case=case,
            accuracy=round(float(replay.hits.mean()), 6),
            log_loss=round(float(replay.losses.mean()), 6),
            train_cpu_s=round(replay.train_cpu_s, 3),
            nights=len(replay.per_night),
            rows=len(replay.hits),
            block_accuracies=_by_block(replay.hits.astype(float)),
            block_losses=_by_block(replay.losses),
            told_loss=None if told_loss is None else round(told_loss, 6),
        )

    def worst_block(self, frozen: Measured) -> tuple[float, float]:
        """The largest losses against the frozen base: in points and in nats."""
        points = np.subtract(frozen.block_accuracies, self.block_accuracies)
        nats = np.subtract(self.block_losses, frozen.block_losses)
        return 100 * float(points.max()), float(nats.max())

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


def _by_block(values: Floats) -> list[float]:
    blocks = [block for block in np.array_split(values, BLOCKS) if len(block)]
    return [round(float(block.mean()), 6) for block in blocks]


def table(lines: Iterable[Measured]) -> str:
    """Medians over the seeds; log losses with their range where seeds differ.

    A policy's processor time is divided by that of the nightly refit with all labels at once on
    the same stream. Every stream has its frozen base among the lines.
    """
    found: dict[tuple[str, int, str, str], list[Measured]] = {}
    for one in lines:
        case = one.case
        key = (case.stream, case.delay_days, case.labels, case.policy)
        found.setdefault(key, []).append(one)
    rows = [HEADER, "|" + "---|" * HEADER.count(" |")]
    for (stream, delay, labels, policy), ones in found.items():
        frozen = found[stream, 0, "all", "frozen"]
        refits = found.get((stream, 0, "all", "refit"), [])
        cells = _figures(ones, frozen, refits)
        rows.append(f"| {stream} | {_labels(delay, labels)} | {NAMES[policy]} | {cells} |")
    return "\n".join(rows)


def _labels(delay: int, labels: str) -> str:
    late = "at once" if delay == 0 else f"{delay} days late"
    return ", ".join(text for text in (LABEL_NAMES[labels], late) if text)


def _figures(
    ones: Sequence[Measured], frozen: Sequence[Measured], refits: Sequence[Measured]
) -> str:
    bases = {one.case.seed: one for one in frozen}
    # The base of a stream from a file is the same whatever the seed.
    worst = [one.worst_block(bases.get(one.case.seed, frozen[0])) for one in ones]
    losses = [one.log_loss for one in ones]
    cpu, refit = (
        statistics.median([one.train_cpu_s for one in which] or [0.0]) for which in (ones, refits)
    )
    spread = f" ({min(losses):.4f}–{max(losses):.4f})" if len(set(losses)) > 1 else ""
    figures = [
        f"{100 * statistics.median(one.accuracy for one in ones):.2f}",
        f"{statistics.median(losses):.4f}{spread}",
        f"{statistics.median(points for points, _ in worst):+.2f}",
        f"{statistics.median(nats for _, nats in worst):+.4f}",
        f"{cpu:.1f}",
        f"{cpu / refit:.2f}" if refit else "–",
    ]
    return " | ".join(figures)
