"""Which kind each column of a person's data is, told by its values, and what speaks against it.

`infer_kinds(frame, names)` is what training uses for features whose kind nobody names;
`inferences(frame, names)` says the same with reasons and doubts, for a person. A doubt is something
that only a person can know: whether few whole numbers are codes, whether one text among numbers is
a slip. The kind that is taken all the same is the one that loses least when it is wrong.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from ml_pipeline.config.data import DataSettings
from ml_pipeline.config.kind import Kind
from ml_pipeline.datasets.times import parsed_times
from ml_pipeline.errors import DataError
from ml_pipeline.store.inputs.cells import FALSE, TRUE
from ml_pipeline.store.inputs.columns import listed
from ml_pipeline.store.inputs.incumbent_columns import LOGGED_ANSWER, PREFIX
from ml_pipeline.store.inputs.labels import BLANKS, NO_VALUES
from ml_pipeline.store.inputs.times import time_hint

__all__ = ["Inference", "Kind", "free_columns", "infer", "infer_kinds", "inferences", "resolved"]

log = logging.getLogger("dataset")

# Values of which so large a share are numbers (times) are numbers (times) with slips among them.
MOSTLY: Final = 0.9
# Numbers with a text among them are levels where they are no more than so many.
FEW_NUMBERS: Final = 20
# A text that stands there so often is no slip.
LEVEL_ROWS: Final = 3
# In fewer rows a text among numbers is a slip, however many there are.
FEWEST_ROWS: Final = 50
# Whole numbers of which there are no more than so many may be codes.
FEW_CODES: Final = 12
# Texts of which more than this share differ are names or sentences, not levels.
DIFFERENT: Final = 0.5
FEW_LEVELS: Final = 50
# Distinct texts that are tried as times.
_TRIED: Final = 1_000
# What stands beside the features in a file of logged rows.
_OF_THE_LOG: Final = frozenset(
    (
        "event_id",
        "match_id",
        "known_at",
        "model_id",
        "prediction",
        "confidence",
        "is_error",
        LOGGED_ANSWER,
    )
)
# What pandas calls a column without a name, and the index that it writes into a Parquet file.
_NO_NAME: Final = re.compile(r"\s*|Unnamed: \d+|__index_level_\d+__")
_SENTENCE_WORDS: Final = 6
_COMMAS: Final = re.compile(r"[-+]?\d[\d.' ]*,[\d.,' ]*\d")
_SHOWN: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Inference:
    """The kind of a column, the `reason` as a clause, and the `doubt`, if any, as another one.

    `levels` is how many different values there are, missing ones left out.
    """

    kind: Kind
    reason: str
    levels: int
    doubt: str | None = None

    @property
    def is_sure(self) -> bool:
        """Whether nothing speaks for another kind."""
        return self.doubt is None


def infer_kinds(frame: pd.DataFrame, names: Sequence[str]) -> dict[str, Kind]:
    """The kind of each named column of a frame, by its name. Raises KeyError for one it lacks."""
    return {
        # Most are numbers, which is seen much faster than counted.
        name: Kind.NUMBER if _are_numbers(frame[name]) else infer(frame[name]).kind
        for name in names
    }


def _are_numbers(column: pd.Series) -> bool:
    if not is_numeric_dtype(column) or is_bool_dtype(column):
        column = column.astype(str)
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    rest = column[np.isnan(numbers)]
    if len(rest) == len(column):
        return False
    return bool((rest.isna() | rest.astype(str).str.strip().str.lower().isin(NO_VALUES)).all())


def resolved(data: DataSettings, frame: pd.DataFrame, source: str) -> DataSettings:
    """The settings with the features and kinds of a frame, where they do not say them themselves.

    Of features that the frame lacks nothing is said here. Raises DataError when `auto` finds none.
    """
    if data.kinds:
        return data
    if not data.is_auto:
        present = [name for name in data.features if name in frame.columns]
        found = infer_kinds(frame, present)
        return data.with_features({n: found.get(n, Kind.NUMBER) for n in data.features})
    free = free_columns(frame, data)
    left_out = [n for n in free if infer(frame[n]).levels in {0, 1} or _is_id(frame[n])]
    names = [name for name in free if name not in left_out]
    if left_out:
        log.info("%s: %s are no features: an id, or one value alone", source, ", ".join(left_out))
    if not names and data.text_column is None:
        raise DataError(
            f"{source} has no column that could be a feature (data.features: auto).",
            hint=f"It has: {listed(list(frame.columns))}.",
        )
    return data.with_features(infer_kinds(frame, names))


def free_columns(frame: pd.DataFrame, data: DataSettings) -> list[str]:
    """The columns that are neither the target nor an id, a time, a text or the log's own."""
    used = {data.target, data.text_column, data.time_column, data.group_column, data.id_column}
    if {"event_id", "known_at"} <= set(frame.columns):
        used |= _OF_THE_LOG
    names = [str(name) for name in frame.columns]
    used |= {name for name in names if name.startswith(PREFIX)}
    return [name for name in names if name not in used and not _NO_NAME.fullmatch(name)]


def _is_id(column: pd.Series) -> bool:
    """Whether every row has another text."""
    found = infer(column)
    return found.kind is Kind.CATEGORY and found.levels == column.notna().sum() > FEW_LEVELS


def inferences(frame: pd.DataFrame, names: Sequence[str]) -> dict[str, Inference]:
    """The same with reasons and doubts."""
    return {name: infer(frame[name]) for name in names}


def infer(column: pd.Series) -> Inference:
    """The kind of a column of texts, numbers, truths or times (n,).

    Empty cells and `nan`, `none`, `null` say nothing; nor does `NA` among numbers, truths or times.
    Numbers that are all 0 or 1 stay numbers.
    """
    texts, counts = _levels(column)
    is_value = np.asarray([str(text).lower() not in NO_VALUES for text in texts], dtype=bool)
    if is_value.any() and not is_value.all():
        found = _kind_of(texts[is_value], counts[is_value])
        return found if found.kind is not Kind.CATEGORY else _kind_of(texts, counts)
    return _kind_of(texts, counts)


def _kind_of(texts: np.ndarray, counts: np.ndarray) -> Inference:
    """The kind of a column by its different values, the commonest first, and their numbers."""
    if not len(texts):
        return Inference(
            kind=Kind.NUMBER, reason="it has no value at all", levels=0, doubt="it has no value"
        )
    numbers = pd.to_numeric(pd.Series(texts), errors="coerce").to_numpy(dtype=float)
    # Also one that is not finite, which is refused with its row.
    is_number = ~np.isnan(numbers)
    if is_number.all():
        return _of_numbers(texts, numbers, int(counts.sum()))
    folded = {str(text).lower() for text in texts}
    if folded <= TRUE | FALSE:
        return Inference(
            kind=Kind.BOOLEAN, reason=f"its values are {_shown(texts)}", levels=len(texts)
        )
    return (
        _mostly_numbers(texts, counts, is_number)
        or _with_commas(texts, counts, is_number)
        or _of_times(texts)
        or _of_levels(texts, int(counts.sum()))
    )


def _levels(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """The different values as texts, the commonest first, and how often each occurs."""
    texts = column.dropna().astype(str).str.strip()
    counted = texts[~texts.str.lower().isin(BLANKS)].value_counts()
    return counted.index.to_numpy(dtype=object), counted.to_numpy(dtype=np.int64)


def _of_numbers(texts: np.ndarray, numbers: np.ndarray, rows: int) -> Inference:
    doubt = None
    is_whole = bool((numbers % 1 == 0).all())
    if any(text[0] == "0" and text.isdigit() and len(text) > 1 for text in texts):
        doubt = "numbers with leading zeros are mostly codes: then it is a category"
    elif is_whole and len(texts) == rows > FEW_LEVELS:
        doubt = "every row has another whole number: it may be an id"
    elif is_whole and 2 < len(texts) <= FEW_CODES:  # noqa: PLR2004 - 0 and 1 are alike either way
        doubt = f"{len(texts)} whole numbers may be codes: then it is a category"
    return Inference(kind=Kind.NUMBER, reason="all are numbers", levels=len(texts), doubt=doubt)


def _mostly_numbers(
    texts: np.ndarray, counts: np.ndarray, is_number: np.ndarray
) -> Inference | None:
    share = float(counts[is_number].sum() / counts.sum())
    are_few = share > 0 and counts.sum() < FEWEST_ROWS
    is_level = is_number.sum() <= FEW_NUMBERS and counts[~is_number].max() >= LEVEL_ROWS
    if not are_few and (share < MOSTLY or is_level):
        return None
    strange = texts[~is_number]
    return Inference(
        kind=Kind.NUMBER,
        reason=f"{share:.1%} are numbers",
        levels=len(texts),
        doubt=f"{_shown(strange)} is no number: repair such rows, or make it a category",
    )


def _with_commas(texts: np.ndarray, counts: np.ndarray, is_number: np.ndarray) -> Inference | None:
    """Numbers with commas in them, which whoever reads them refuses with what to do."""
    has_commas = np.asarray([_COMMAS.fullmatch(str(text)) is not None for text in texts])
    if counts[is_number | has_commas].sum() < MOSTLY * counts.sum() or not has_commas.any():
        return None
    return Inference(
        kind=Kind.NUMBER, reason="they are numbers with commas", levels=len(texts),
        doubt="whether its commas are decimal ones has to be settled in the file",
    )  # fmt: skip


def _of_times(texts: np.ndarray) -> Inference | None:
    tried = pd.Series(texts[:_TRIED], dtype=object)
    is_time = parsed_times(tried).notna().to_numpy()
    if is_time.mean() < MOSTLY:
        return None
    strange = tried.to_numpy()[~is_time]
    doubt = f"{_shown(strange)} is no time: repair such rows" if len(strange) else None
    return Inference(
        kind=Kind.DATETIME, reason="its values are times", levels=len(texts), doubt=doubt
    )


def _of_levels(texts: np.ndarray, rows: int) -> Inference:
    doubt, first = None, str(texts[0])
    words = float(np.mean([len(str(text).split()) for text in texts[:_TRIED]]))
    if "which the month" in time_hint(first):
        doubt = f"its values look like dates: {time_hint(first)}"
    elif words >= _SENTENCE_WORDS:
        doubt = "its values are sentences: name it in data.text_column to have them read"
    elif len(texts) > FEW_LEVELS and len(texts) > DIFFERENT * rows:
        doubt = f"{len(texts):,} different values in {rows:,} rows: it may be an id or a name"
    return Inference(
        kind=Kind.CATEGORY,
        reason=f"{len(texts):,} different texts, such as {_shown(texts)}",
        levels=len(texts),
        doubt=doubt,
    )


def _shown(texts: np.ndarray) -> str:
    """The first texts, quoted and cut, for a sentence."""
    cut = [text if len(text) <= 40 else text[:40] + "…" for text in map(str, texts[:_SHOWN])]  # noqa: PLR2004
    return ", ".join(map(repr, cut)) + (", …" if len(texts) > _SHOWN else "")
