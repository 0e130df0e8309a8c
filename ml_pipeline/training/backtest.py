"""Replay a labelled history day by day under several policies.

The online model, its ledger and the gate are the loop's own code; only the clock is simulated.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import DataError
from ml_pipeline.evaluation.metrics import Floats, row_losses
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.brought.incumbent import fitted_base
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
    """A policy to replay, all from the same base and over the same nights.

    At the `deadline` of `time.monotonic` no night is begun but the first one with rows.
    """

    name: str
    model: AdaptiveClassifier
    history: History
    settings: Settings
    nights: Sequence[tuple[int, Rows]]
    deadline: float = math.inf


def replay_policy(task: Task) -> Replay:
    """Predict each row from the nights known before its day, and let the policy learn them."""
    policy = build_policy(task.name, task.model, task.history, task.settings)
    threshold = task.settings.run.confidence_threshold
    losses, hits, weights = list[Floats](), list[NDArray[np.bool_]](), list[Floats]()
    per_night, errors = list[tuple[int, int, float, float]](), list[int]()
    served = [np.full(rows.base.shape, np.nan) for _, rows in task.nights]
    asked, spent = _asked_before(task.nights), 0.0
    for place, (night, rows) in enumerate(task.nights):
        if per_night and time.monotonic() > task.deadline:
            break
        found = [(at, task.nights[at][1].take(positions)) for at, positions in asked[place]]
        for (at, some), (_, positions) in zip(found, asked[place], strict=True):
            probabilities = policy.predict(some)
            if isinstance(policy, Adaptive) and policy.served_id != ANCHOR:
                served[at][positions] = probabilities
            losses.append(row_losses(some.actual, probabilities))
            weights.append(some.weights)
            hits.append(probabilities.argmax(axis=1) == some.actual)
            is_confident = probabilities.max(axis=1) > threshold
            errors.append(int((~hits[-1] & is_confident).sum()))
        if found:
            per_night.append((night, *_means(losses, hits, weights, len(found))))
            errors[-len(found) :] = [sum(errors[-len(found) :])]
        started = time.thread_time()
        policy.learn(night, replace(rows, served=served[place]))
        spent += time.thread_time() - started
    return Replay(
        losses=np.concatenate(losses),
        hits=np.concatenate(hits),
        weights=np.concatenate(weights),
        train_cpu_s=spent,
        promotions=policy.promotions,
        per_night=per_night,
        confident_errors=errors,
    )


def _asked_before(
    nights: Sequence[tuple[int, Rows]],
) -> list[list[tuple[int, NDArray[np.int64]]]]:
    """Which rows are predicted before each night is learned: of which night, and their places."""
    numbers = np.asarray([night for night, _ in nights])
    asked: list[list[tuple[int, NDArray[np.int64]]]] = [[] for _ in nights]
    for at, (_, rows) in enumerate(nights):
        # What is known on the day of a prediction is learned after it.
        stages = np.minimum(np.searchsorted(numbers, rows.predicted, side="left"), at)
        for stage in np.unique(stages):
            asked[stage].append((at, np.flatnonzero(stages == stage)))
    return asked


def _means(
    losses: list[Floats], hits: list[NDArray[np.bool_]], weights: list[Floats], parts: int
) -> tuple[int, float, float]:
    """Rows, mean loss and share of right answers of the last parts."""
    weight = np.concatenate(weights[-parts:])
    means = [
        float(np.average(np.concatenate(one[-parts:]), weights=weight)) for one in (losses, hits)
    ]
    return len(weight), means[0], means[1]


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
    deadline: float = math.inf,
) -> dict[str, Replay]:
    """Replay every policy over the same nights. `frozen` is always among them.

    At the `deadline` of `time.monotonic` no policy begins another night.
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
    base = fitted_base(algorithm, history.features[start], history.labels[start], settings)
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
            deadline=deadline,
        )
        for name in wanted
    ]
    advance, replays = progress("policies", len(tasks)), {}
    for name, replayed in zip(wanted, spread(replay_policy, tasks), strict=True):
        replays[name] = replayed
        advance()
    return replays
