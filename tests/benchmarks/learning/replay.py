"""A stream replayed night by night, with labels that come late or for errors above all."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import DataError
from ml_pipeline.evaluation.ledger import COLUMN
from ml_pipeline.evaluation.metrics import Floats, row_losses
from ml_pipeline.training import algorithms
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.backtest import Replay, grouped
from ml_pipeline.training.online.rows import Rows, by_day
from ml_pipeline.training.policies import (
    ANCHOR,
    Adaptive,
    History,
    Policy,
    as_model,
    build_policy,
)
from tests.benchmarks.learning import peers

# The chance of a right answer to get a label, by the name of the condition; wrong ones always do.
# Only `tenth` is known to those who learn: each row then weighs 1 over its chance.
LABELS = {"all": 1.0, "errors": 0.0, "tenth": 0.1}


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What one replay measures: `labels` of LABELS, `delay_days` from answer to label."""

    stream: str
    policy: str
    seed: int = 0
    delay_days: int = 0
    labels: str = "all"


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """What all policies of a stream begin with: the fitted base, and the nights to come."""

    model: AdaptiveClassifier
    history: History
    settings: Settings
    nights: Sequence[tuple[int, Rows]]


def started(history: History, seed: int) -> Start:
    """The base on the initial rows, as `backtest` fits it with the default settings."""
    settings = Settings().changed(
        {
            "data.features": history.names,
            "data.classes": history.classes,
            "training.random_seed": seed,
        }
    )
    first, algorithm = slice(0, history.initial), settings.training.algorithm
    features, labels = history.features[first], history.labels[first]
    base = algorithms.fit(algorithm, features, labels, settings.training)
    model = as_model(base, features, history.classes, settings)
    days = by_day(history.nights[history.initial :], history.rows(model))
    nights = grouped(days, settings.training.adaptive.min_night_rows)
    if not nights:
        raise DataError("No night has enough rows.")
    return Start(model=model, history=history, settings=settings, nights=nights)


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


def labelled(rows: Rows, probabilities: Floats, draws: Floats, labels: str) -> Rows:
    """The rows that get a label after such answers, with their weights.

    `draws` (n,) in [0, 1) decide for right answers, alike for every policy.
    """
    chance = LABELS[labels]
    is_wrong = probabilities.argmax(axis=1) != rows.actual
    kept = np.flatnonzero(is_wrong | (draws < chance))
    found = rows.take(kept)
    if labels == "tenth":
        found = replace(found, weights=np.where(is_wrong[kept], 1.0, 1 / chance))
    return found


def replayed(case: Case, start: Start) -> tuple[Replay, float | None]:
    """Predict each night from the labels that were there, then go on to the next.

    Every answer is scored, whether anybody gets to see its label or not. Labels of fewer rows than
    a night needs wait for those of the next. The processor's time is that of learning alone.
    Beside it the mean loss that the line's own ledger tells of what it served; None for a peer.
    """
    least = start.settings.training.adaptive.min_night_rows
    numbers = [night for night, _ in start.nights]
    random = np.random.default_rng(case.seed)
    draws = [random.random(len(rows)) for _, rows in start.nights]
    answers: dict[int, tuple[Floats, Floats]] = {}
    losses, hits, per_night, waiting, spent = [], [], [], Rows.none(start.model), 0.0
    with threadpool_limits(1):
        policy = policy_of(case, start)
        for event, place in in_order(numbers, case.delay_days):
            night, rows = start.nights[place]
            if event == "predict":
                shares = policy.predict(rows)
                answers[place] = shares, served(policy, shares)
                losses.append(row_losses(rows.actual, shares))
                hits.append(shares.argmax(axis=1) == rows.actual)
                means = float(losses[-1].mean()), float(hits[-1].mean())
                per_night.append((night, len(rows), *means))
                continue
            shares, by_line = answers.pop(place)
            known = replace(rows, predicted=np.full(len(rows), night), served=by_line)
            waiting = waiting.followed_by(labelled(known, shares, draws[place], case.labels))
            if len(waiting) >= least:
                began = time.process_time()
                policy.learn(night + case.delay_days, waiting)
                spent += time.process_time() - began
                waiting = Rows.none(start.model)
    replay = Replay(
        losses=np.concatenate(losses),
        hits=np.concatenate(hits),
        train_cpu_s=spent,
        promotions=policy.promotions,
        per_night=per_night,
    )
    return replay, told_loss(policy) if isinstance(policy, Adaptive) else None


def told_loss(policy: Adaptive) -> float:
    """The mean loss, in nats, of what was served, as the ledger has it; NaN without a row."""
    ledger = policy.state.ledger
    rows = ledger[:, COLUMN["rows"]].sum()
    return float(ledger[:, COLUMN["live_loss"]].sum() / rows) if rows else np.nan


def served(policy: Policy, shares: Floats) -> Floats:
    """What the online model itself answered, NaN where another model did, as the log has it."""
    is_of_line = isinstance(policy, Adaptive) and policy.served_id != ANCHOR
    return shares if is_of_line else np.full(shares.shape, np.nan)


def policy_of(case: Case, start: Start) -> Policy:
    """One of the loop's own policies, or a peer.

    Raises DataError for experts without all labels: the backtest fits them on rows by their night.
    """
    if case.policy in peers.PEERS:
        return peers.build(case.policy, start.history, case.seed)
    if case.policy == "experts" and case.labels != "all":
        raise DataError("The backtest's experts see every label.")
    chance = LABELS["tenth"] if case.labels == "tenth" else 1.0
    settings = start.settings.changed({"training.adaptive.label_probability_right": chance})
    return build_policy(case.policy, start.model, start.history, settings)
