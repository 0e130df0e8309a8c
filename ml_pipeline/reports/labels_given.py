"""Which answers got labels lately: counted in the table, or among the rows that a run reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml_pipeline.config.settings import Settings
from ml_pipeline.evaluation.label_sample import (
    MIN_LABELLED,
    AnswerShare,
    ConfidenceShare,
    LabelSample,
)
from ml_pipeline.evaluation_log.loading import TABLE, LoadedLog
from ml_pipeline.store.contract import Store
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.records import UNCERTAIN, LookbackWindow

ROWS_READ: Final = 200_000
# Of either kind of answers, with a label and without: a share is known to 3 points.
SAMPLED: Final = 1_000
EDGES: Final = (0.5, 0.6, 0.7, 0.8, 0.9)


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
    made = LabelSample(
        when=f"of the last {days:g} days",
        answers=sum(share.answers for share in shares.values()),
        confidence=confidence / scored / unit if scored else None,
        labelled=sum(day.answered for day in summed),
        right=sum(day.correct for day in summed),
        wrong_weight=settings.training.adaptive.wrong_weight,
        right_weight=settings.training.adaptive.right_weight,
        by_answer=shares,
    )
    if made.is_covered or made.labelled < MIN_LABELLED:
        return made
    counts = [sum(share.labelled for share in shares.values())]
    counts.append(sum(share.answers for share in shares.values()) - counts[0])
    sampled = [
        _confidences(store, settings, window, labelled=labelled) / unit
        for labelled in (True, False)
    ]
    return replace(made, by_confidence=_by_confidence(sampled, counts))


def _confidences(
    store: Store, settings: Settings, window: LookbackWindow, *, labelled: bool
) -> NDArray[np.float64]:
    """Those of a sample of the answers with, or without, a label; UNCERTAIN is no answer."""
    found = store.sample_events(
        window, model_name=settings.model_name, model_ids=None, labelled=labelled,
        rows=SAMPLED, with_features=False,
    )  # fmt: skip
    answers = found[found["prediction"] != UNCERTAIN]
    return answers["confidence"].dropna().to_numpy(dtype=float)


def _by_confidence(
    sampled: Sequence[NDArray[np.float64]], counts: Sequence[int]
) -> tuple[ConfidenceShare, ...]:
    """How many answers of each confidence there are, and which share of them got a label.

    `sampled` are confidences of answers with and without a label, of which there are `counts`.
    """
    edges = [0.0, *EDGES, 1.0]
    found = [
        np.histogram(np.clip(confidences, 0, 1), bins=edges)[0] / max(1, len(confidences)) * count
        for confidences, count in zip(sampled, counts, strict=True)
    ]
    return tuple(
        ConfidenceShare(
            low=low, high=high, answers=round(labelled + waiting),
            labelled=float(labelled / (labelled + waiting)),
        )
        for low, high, labelled, waiting in zip(edges, edges[1:], *found, strict=False)
        if labelled + waiting
    )  # fmt: skip


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
