"""Which answers got labels lately: counted in the table, or among the rows that a run reads."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pandas as pd

from ml_pipeline.config.settings import Settings
from ml_pipeline.evaluation.label_sample import AnswerShare, LabelSample
from ml_pipeline.evaluation_log.loading import TABLE, LoadedLog
from ml_pipeline.store.contract import Store
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.records import UNCERTAIN, LookbackWindow

ROWS_READ: Final = 200_000


def label_samples(
    store: Store, settings: Settings, loaded: LoadedLog, *, now: datetime
) -> list[LabelSample]:
    """The answers of the last days as the table knows them, if it is read, and those to learn."""
    read = sample_of_file(loaded.labelled_path, settings)
    if settings.log.source != TABLE:
        return [replace(read, pending=loaded.report.pending)]
    return [sample_of_table(store, settings, now=now), read]


def sample_of_table(store: Store, settings: Settings, *, now: datetime) -> LabelSample:
    """All answers of the last days, and those among them whose outcome is known."""
    days, labels = settings.promotion.evaluation_window_days, Labels.of(settings.data)
    window = LookbackWindow(start=now - timedelta(days=days), end=now + timedelta(microseconds=1))
    shares: dict[str, AnswerShare] = {}
    confidence, scored = 0.0, 0
    for count in store.count_answers(window, model_name=settings.model_name):
        answer = labels.find_answer(count.prediction) or count.prediction
        if answer == UNCERTAIN:
            continue
        before = shares.get(answer, AnswerShare(answers=0, labelled=0))
        shares[answer] = AnswerShare(
            answers=before.answers + count.answers, labelled=before.labelled + count.labelled
        )
        confidence, scored = confidence + count.confidence_sum, scored + count.scored
    summed = store.sum_days(
        window,
        model_name=settings.model_name,
        confidence_threshold=settings.run.confidence_threshold,
        labels=labels,
    )
    unit = 100 if settings.log.confidence_unit == "percent" else 1
    return LabelSample(
        when=f"of the last {days:g} days",
        answers=sum(share.answers for share in shares.values()),
        confidence=confidence / scored / unit if scored else None,
        labelled=sum(day.answered for day in summed),
        right=sum(day.correct for day in summed),
        wrong_weight=settings.training.adaptive.wrong_weight,
        right_weight=settings.training.adaptive.right_weight,
        by_answer=shares,
    )


def sample_of_file(path: Path, settings: Settings) -> LabelSample:
    """The labelled rows of a file, of which nobody knows among how many answers they are."""
    columns = ["prediction", "confidence", settings.data.target]
    rows = pd.read_csv(path, dtype=str, keep_default_na=False, usecols=columns, nrows=ROWS_READ)
    rows = rows[~rows["prediction"].isin(["", UNCERTAIN])]
    confidence = pd.to_numeric(rows["confidence"], errors="coerce").dropna()
    return LabelSample(
        when="to learn from",
        answers=None,
        confidence=float(confidence.mean()) if len(confidence) else None,
        labelled=len(rows),
        right=int((rows["prediction"] == rows[settings.data.target]).sum()),
        wrong_weight=settings.training.adaptive.wrong_weight,
        right_weight=settings.training.adaptive.right_weight,
    )


def refusal_of(samples: list[LabelSample]) -> str | None:
    """Why nothing is promoted unasked on what they say, if so.

    Where the table knows that nearly every answer gets a label, a night of errors is one: the world
    has changed.
    """
    whole, read = samples[0], samples[-1]
    return whole.refusal() if whole.is_covered else whole.refusal() or read.refusal()
