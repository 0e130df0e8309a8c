"""What somebody else's classifier answered for the rows that a challenger is judged on."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.served.answers import PROBABILITIES, answers_of
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation.incumbent.record import LoggedAnswers
from ml_pipeline.evaluation_log.answering.sentences import UNNAMED
from ml_pipeline.store.records import UNCERTAIN

_CHUNK: Final = 100_000
_ID, _MODEL, _PREDICTION = "event_id", "model_id", "prediction"


def logged_answers(
    labelled: Path, settings: Settings, evidence: Evidence, theirs: Collection[str]
) -> LoggedAnswers:
    """What `theirs` answered for the rows of evidence, by a file of labelled rows of the run.

    An UNCERTAIN answer is the likeliest class of its probabilities; without these it is none.
    Raises DataError for probabilities that are none.
    """
    found = _rows_of(labelled, evidence.event_ids)
    frame = found.reindex(list(evidence.event_ids)).reset_index(drop=True)
    who = frame[_MODEL].where(frame[_MODEL] != "", UNNAMED)
    answered = np.array(who.isin(set(theirs)), dtype=np.bool_)
    frame = frame.fillna("").where(pd.Series(answered), "")
    answers = answers_of(frame, settings.data, str(labelled))
    shares = np.full((len(evidence), len(evidence.labels)), np.nan)
    if answers is not None:
        shares = answers.table(evidence.labels)
    labels = np.array(frame[_PREDICTION], dtype=object)
    unsure = (labels == UNCERTAIN) & np.isfinite(shares).all(axis=1)
    if unsure.any():
        names = np.asarray(evidence.labels, dtype=object)
        labels[unsure] = names[shares[unsure].argmax(axis=1)]
    answered &= (labels != "") & (labels != UNCERTAIN)
    right = answered & (labels == evidence.actual_labels().astype(object))
    return LoggedAnswers(
        answered=answered,
        right=right,
        probabilities=shares,
        model_ids=np.array(who.fillna(""), dtype=object),
    )


def _rows_of(labelled: Path, event_ids: Collection[str]) -> pd.DataFrame:
    """What was answered for those events, by their ids."""
    wanted, columns = set(event_ids), {_ID, _MODEL, _PREDICTION, PROBABILITIES}
    chunks = pd.read_csv(
        labelled, usecols=columns.__contains__, dtype=str, chunksize=_CHUNK, na_filter=False
    )
    none = pd.DataFrame(columns=sorted(columns), dtype=str)
    kept = [chunk[chunk[_ID].isin(wanted)] for chunk in chunks]
    found = pd.concat([none, *kept], ignore_index=True)
    return found.drop_duplicates(_ID).set_index(_ID)
