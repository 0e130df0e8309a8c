"""Replay a labelled history day by day under several policies.

The online model, its ledger and the gate are the loop's own code; only the clock is simulated.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import DataError
from ml_pipeline.evaluation.metrics import Floats, row_losses
from ml_pipeline.training import algorithms
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.online.rows import Rows, by_day
from ml_pipeline.training.parallel import spread
from ml_pipeline.training.policies import ANCHOR, Adaptive, History, as_model, build_policy

BLOCKS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """What a policy served: per scored row its loss (nats) and whether it was right.

    `confident_errors` counts, by night, the errors with more confidence than the threshold.
    `weights` say for how many answers each row stands, by default for one.
    """

    losses: Floats
    hits: NDArray[np.bool_]
    train_cpu_s: float
    promotions: int
    per_night: list[tuple[int, int, float, float]]
    confident_errors: list[int] = field(default_factory=list)
    weights: Floats | None = None

    def figures(self, frozen: Replay) -> dict[str, float | int]:
        """What `backtest` prints of a policy: accuracy in 0..1, losses in nats."""
        blocks = [b for b in np.array_split(np.arange(len(self.hits)), BLOCKS) if len(b)]
        weights = np.ones(len(self.hits)) if self.weights is None else self.weights
        points = [
            100 * np.average(frozen.hits[b].astype(float) - self.hits[b], weights=weights[b])
            for b in blocks
        ]
        nats = [np.average(self.losses[b] - frozen.losses[b], weights=weights[b]) for b in blocks]
        return {
            "accuracy": float(np.average(self.hits, weights=weights)),
            "log_loss": float(np.average(self.losses, weights=weights)),
            "worst_block_points": float(max(points)),
            "worst_block_nats": float(max(nats)),
            "train_cpu_s": round(self.train_cpu_s, 3),
            "promotions": self.promotions,
            "nights": len(self.per_night),
            "rows": len(self.hits),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A policy to replay, all from the same base and over the same nights."""

    name: str
    model: AdaptiveClassifier
    history: History
    settings: Settings
    nights: Sequence[tuple[int, Rows]]
    delay_days: int = 0


def in_order(
    nights: Sequence[int], delay_days: int
) -> Iterator[tuple[Literal["predict", "learn"], int]]:
    """What happens when, by the places of the `nights` (rising day numbers).

    The labels of day D come on day D + `delay_days`, after that day's predictions and before
    those of the next; labels that come after the last night are never learned.
    """
    waiting: deque[int] = deque()
    for place, night in enumerate(nights):
        while waiting and nights[waiting[0]] + delay_days < night:
            yield "learn", waiting.popleft()
        yield "predict", place
        waiting.append(place)
        while waiting and nights[waiting[0]] + delay_days <= night:
            yield "learn", waiting.popleft()


def replay_policy(task: Task) -> Replay:
    """Predict each night from labels that were known by then, and let the policy learn them."""
    policy = build_policy(task.name, task.model, task.history, task.settings)
    threshold = task.settings.run.confidence_threshold
    losses, hits, weights, per_night, errors = [], [], [], [], []
    numbers, served = [night for night, _ in task.nights], dict[int, Floats]()
    spent = 0.0
    for event, place in in_order(numbers, task.delay_days):
        night, rows = task.nights[place]
        if event == "learn":
            predicted = np.full(len(rows), night)
            known = replace(rows, predicted=predicted, served=served.pop(place))
            started = time.thread_time()
            policy.learn(night + task.delay_days, known)
            spent += time.thread_time() - started
            continue
        probabilities = policy.predict(rows)
        is_of_line = isinstance(policy, Adaptive) and policy.served_id != ANCHOR
        served[place] = probabilities if is_of_line else np.full(probabilities.shape, np.nan)
        losses.append(row_losses(rows.actual, probabilities))
        weights.append(rows.weights)
        hits.append(probabilities.argmax(axis=1) == rows.actual)
        means = [float(np.average(found[-1], weights=rows.weights)) for found in (losses, hits)]
        per_night.append((night, len(rows), means[0], means[1]))
        is_confident = probabilities.max(axis=1) > threshold
        errors.append(int((~hits[-1] & is_confident).sum()))
    return Replay(
        losses=np.concatenate(losses),
        hits=np.concatenate(hits),
        weights=np.concatenate(weights),
        train_cpu_s=spent,
        promotions=policy.promotions,
        per_night=per_night,
        confident_errors=errors,
    )


def grouped(days: Iterator[tuple[int, Rows]], min_night_rows: int) -> list[tuple[int, Rows]]:
    """Days joined until a night has enough rows; what is left over at the end is no night."""
    nights: list[tuple[int, Rows]] = []
    waiting: Rows | None = None
    for night, rows in days:
        waiting = rows if waiting is None else waiting.followed_by(rows)
        if len(waiting) >= min_night_rows:
            nights.append((night, waiting))
            waiting = None
    return nights


def backtest(
    history: History,
    settings: Settings,
    policies: Sequence[str],
    progress: Callable[[str, int], Callable[[], None]],
    *,
    delay_days: int = 0,
) -> dict[str, Replay]:
    """Replay every policy over the same nights. `frozen` is always among them.

    Labels come `delay_days` after the predictions.
    """
    settings = settings.changed(
        {
            "data.features": dict(history.kinds) or history.names,
            "data.classes": history.classes,
            "data.labels": None,
        }
    )
    start = slice(0, history.initial)
    algorithm = settings.training.algorithm
    base = algorithms.fit(
        algorithm, history.features[start], history.labels[start], settings.training,
        kinds=settings.data.column_kinds,
    )  # fmt: skip
    model = as_model(base, history.features[start], history.classes, settings)
    rows = history.rows(model)
    min_rows = settings.training.adaptive.min_night_rows
    nights = grouped(by_day(history.nights[history.initial :], rows), min_rows)
    if not nights:
        raise DataError(
            f"After the first {history.initial} rows no night has {min_rows} rows: "
            "nothing to replay."
        )
    wanted = list(dict.fromkeys(["frozen", *policies]))
    tasks = [
        Task(
            name=name,
            model=model,
            history=history,
            settings=settings,
            nights=nights,
            delay_days=delay_days,
        )
        for name in wanted
    ]
    advance, replays = progress("policies", len(tasks)), {}
    for name, replayed in zip(wanted, spread(replay_policy, tasks), strict=True):
        replays[name] = replayed
        advance()
    return replays
