"""The evaluation log as frames for the watchdog: labelled and pending events, counts by day."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.weights import weights_of
from ml_pipeline.evaluation.calibration import WINDOW_ANSWERS, Answers
from ml_pipeline.evaluation_log.incumbent.answers import own_settings
from ml_pipeline.evaluation_log.loading import TABLE, load_log
from ml_pipeline.evaluation_log.rules import GUESS, LogRequest
from ml_pipeline.store.alerts import SAMPLE_COLUMNS, DailyAccuracy
from ml_pipeline.store.contract import Store
from ml_pipeline.store.event_row import best_guess
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.records import UNCERTAIN, LookbackWindow

# A thousand rows tell a distribution to about a hundredth of the population stability index; the
# answers of which only label and confidence are read, and those as one digit each, may be more.
SAMPLED_ROWS: Final = 1_000
SAMPLED_ANSWERS: Final = 4_000
ORDERED_ROWS: Final = 20_000
# Days in which the last answers are looked for, first in a few.
_ANSWER_DAYS = (7, 30, 90, 365)

COLUMNS = (
    "event_id",
    "timestamp",
    "known_at",
    "model_id",
    "prediction",
    "actual_result",
    "confidence",
    "features",
    "metadata",
)


def labelled_events(  # noqa: PLR0913 - a log, some of its rows, and where to work
    store: Store,
    settings: Settings,
    window: LookbackWindow,
    *,
    model_ids: Sequence[str] | None,
    work_dir: Path | None = None,
    with_guesses: bool = False,
) -> pd.DataFrame:
    """Labelled events that became known in the window, ordered by that time, as `COLUMNS`.

    `model_ids` keeps those models' predictions, None everybody's. From a file come the rows that
    have features, in columns of their own; their `timestamp` is `known_at`. `with_guesses` adds
    the column GUESS, what an UNCERTAIN answer would have been.
    Raises DataError when the log cannot be read.
    """
    if settings.log.source == TABLE:
        frames = list(store.read_events(window, model_name=settings.model_name))
        events = _read(pd.concat(frames, ignore_index=True), settings)
        events["known_at"] = events["evaluated_at"].fillna(events["timestamp"])
        if with_guesses:
            find = Labels.of(settings.data).find
            guesses = events["metadata"].where(events["prediction"] == UNCERTAIN).map(best_guess)
            events[GUESS] = guesses.map(lambda text: find(text) if text else None)
    else:
        events = _from_file(store, settings, window, work_dir, with_guesses=with_guesses)
    if model_ids is not None:
        events = events[events["model_id"].isin(list(model_ids))]
    return events.reset_index(drop=True)


def _read(events: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Table rows with their labels as the classes are called; those without such a label go."""
    labels = Labels.of(settings.data)
    readers = {"prediction": labels.find_answer, "actual_result": labels.find}
    for name, find in readers.items():
        texts = {text: find(text) for text in events[name].dropna().unique()}
        if any(text != label for text, label in texts.items()):
            strange = [text for text, label in texts.items() if label is None]
            events = events[~events[name].isin(strange)]
            events = events.assign(**{name: events[name].map(texts)})
    return events


def _from_file(
    store: Store,
    settings: Settings,
    window: LookbackWindow,
    work_dir: Path | None,
    *,
    with_guesses: bool,
) -> pd.DataFrame:
    if work_dir is not None:
        work_dir.mkdir(parents=True, exist_ok=True)
    settings = own_settings(settings)
    request = LogRequest(
        now=window.end,
        window=window,
        learn_from=window.start,
        model_ids=None,
        with_guesses=with_guesses,
        keeps_files=False,
    )
    with tempfile.TemporaryDirectory(dir=work_dir) as folder:
        loaded = load_log(store, settings, request, Path(folder))
        events = pd.read_csv(loaded.labelled_path, dtype=str, keep_default_na=False)
    for name in ("confidence", *settings.data.number_features):
        events[name] = pd.to_numeric(events[name], errors="coerce")
    events["known_at"] = pd.to_datetime(events["known_at"], utc=True, format="ISO8601")
    events["timestamp"] = events["known_at"]
    events["metadata"] = None
    events = events[events["known_at"] < window.end]
    return events.rename(columns={settings.data.target: "actual_result"})


def served_answers(
    store: Store, settings: Settings, *, model_ids: Sequence[str], now: datetime
) -> Answers:
    """The last answers of those models whose outcomes are known, of UNCERTAIN ones the best guess.

    Raises DataError when the log cannot be read.
    """
    for days in _ANSWER_DAYS:
        found = labelled_events(
            store, settings, since(now, days), model_ids=model_ids, with_guesses=True
        )
        if len(found) >= WINDOW_ANSWERS:
            break
    guesses = found[GUESS].where(found["prediction"] == UNCERTAIN, found["prediction"])
    usable = guesses.notna() & (guesses != "") & found["confidence"].notna()
    found = found.assign(**{GUESS: guesses})[usable].sort_values(["known_at", "event_id"])
    found = found.tail(WINDOW_ANSWERS)
    actual = found["actual_result"].to_numpy(dtype=str)
    return Answers(
        correct=found[GUESS].to_numpy(dtype=str) == actual,
        confidences=found["confidence"].to_numpy(dtype=float),
        weights=weights_of(
            found["prediction"].to_numpy(dtype=str), actual, settings.training.adaptive
        ),
    )


def sum_file(
    store: Store, settings: Settings, window: LookbackWindow, *, work_dir: Path | None = None
) -> list[DailyAccuracy]:
    """Sums by day and model of a file, as the store's `sum_days` gives them of its table."""
    events = labelled_events(store, settings, window, model_ids=None, work_dir=work_dir)
    models = events["model_id"].replace("", "unknown").fillna("unknown")
    groups = events.groupby([events["known_at"].dt.date, models], sort=True)
    return [
        _summed(rows, settings, day=day, model_id=model_id)  # type: ignore[arg-type]
        for (day, model_id), rows in groups
    ]


def _summed(rows: pd.DataFrame, settings: Settings, *, day: date, model_id: str) -> DailyAccuracy:
    is_uncertain = rows["prediction"] == UNCERTAIN
    answers = rows[~is_uncertain]
    right = answers["prediction"] == answers["actual_result"]
    scored = answers[answers["confidence"].notna()]
    hit = right[scored.index]
    confident = scored["confidence"] > settings.run.confidence_threshold
    chance = scored["confidence"].where(hit, 1 - scored["confidence"]).clip(0.001, 0.999)
    losses = -np.log(chance.to_numpy(dtype=float))
    return DailyAccuracy(
        model_name=settings.model_name,
        day=day,
        model_id=model_id,
        evaluated=len(rows),
        correct=int(right.sum()),
        uncertain=int(is_uncertain.sum()),
        scored=len(scored),
        scored_correct=int(hit.sum()),
        confident=int(confident.sum()),
        confident_errors=int((confident & ~hit).sum()),
        confidence_sum=float(scored["confidence"].sum()),
        loss_sum=float(losses.sum()),
        loss_square_sum=float((losses**2).sum()),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedRows:
    """What is checked once a day, as frames with the columns of `SAMPLE_COLUMNS`.

    Labelled events of the `before` and `after` windows, events of the latter that are `waiting`
    for their outcome (none of a file), and whether the answers of the latter were right, in their
    order.
    """

    before: pd.DataFrame
    after: pd.DataFrame
    waiting: pd.DataFrame
    in_order: list[bool]


def checked_rows(  # noqa: PLR0913 - two windows of one log
    store: Store,
    settings: Settings,
    *,
    before: LookbackWindow,
    after: LookbackWindow,
    model_ids: Sequence[str] | None,
    work_dir: Path | None = None,
) -> CheckedRows:
    """Read a bounded sample of either window, whatever their length. Raises DataError."""
    if settings.log.source == TABLE:
        return _sampled(store, settings, before, after, model_ids)
    window = LookbackWindow(start=before.start, end=after.end)
    events = labelled_events(store, settings, window, model_ids=model_ids, work_dir=work_dir)
    is_recent = events["known_at"] >= after.start
    recent = events[is_recent].tail(ORDERED_ROWS)
    answered = recent[(recent["prediction"] != UNCERTAIN) & recent["confidence"].notna()]
    answered = answered.sort_values(["timestamp", "event_id"])
    return CheckedRows(
        before=events[~is_recent].tail(ORDERED_ROWS),
        after=recent,
        waiting=pd.DataFrame(columns=list(SAMPLE_COLUMNS)),
        in_order=(answered["prediction"] == answered["actual_result"]).tolist(),
    )


def _sampled(
    store: Store,
    settings: Settings,
    before: LookbackWindow,
    after: LookbackWindow,
    model_ids: Sequence[str] | None,
) -> CheckedRows:
    name = settings.model_name

    def sample(window: LookbackWindow, rows: int, *, labelled: bool, inputs: bool) -> pd.DataFrame:
        events = store.sample_events(
            window, model_name=name, model_ids=model_ids, labelled=labelled, rows=rows,
            with_features=inputs,
        )  # fmt: skip
        return _read(events, settings).reset_index(drop=True)

    return CheckedRows(
        before=sample(before, SAMPLED_ANSWERS, labelled=True, inputs=False),
        after=sample(after, SAMPLED_ROWS, labelled=True, inputs=True),
        waiting=sample(after, SAMPLED_ROWS, labelled=False, inputs=True),
        in_order=store.answers_in_order(
            after, model_name=name, model_ids=model_ids, labels=Labels.of(settings.data),
            rows=ORDERED_ROWS,
        ),
    )  # fmt: skip


def since(now: datetime, days: float) -> LookbackWindow:
    """The window of the last `days`, the present instant included."""
    window = LookbackWindow.ending(now, days=days)
    return LookbackWindow(start=window.start, end=now + (now.resolution))
