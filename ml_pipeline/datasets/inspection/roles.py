"""Which column is the time, which the id, and which ones say nothing: told by names and values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from ml_pipeline.config.kind import Kind
from ml_pipeline.datasets.kinds import FEW_LEVELS, Inference
from ml_pipeline.datasets.times import parsed_times
from ml_pipeline.store.inputs.labels import NO_VALUES

_PARTS_OF_A_NAME: Final = re.compile(
    r"[A-Z]+(?=[A-Z][a-z]|\b|_)|[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\d_a-zA-Z]+"
)
_ID: Final = frozenset({"id", "ids", "uuid", "guid", "identifier"})
_CODE: Final = frozenset({"zip", "postcode", "postal", "plz", "code", "id", "type", "category"})
# Times of something else than the row: of a birth, or of what comes after the result.
_OTHER_TIME: Final = frozenset(
    {"birth", "birthday", "dob", "born", "expiry", "expires", "expiration", "due", "end", "ended",
     "closed", "cancelled", "canceled", "resolved", "valid", "until", "paid", "returned", "updated",
     "modified", "deleted"}
)  # fmt: skip
# Columns of which more than this share of the values differ belong to single rows.
NEARLY_ALL: Final = 0.9
HALF: Final = 0.5
# An id of which the rows of one thing are found by has at least this share of different values.
_ENTITIES: Final = 0.02
_GAPS: Final = 1.5
# Spearman's rank correlation with the place in the file.
_IN_ORDER: Final = 0.9


def words(name: str) -> set[str]:
    """The words of a name in lower case, however they are joined."""
    return {word.lower() for word in _PARTS_OF_A_NAME.findall(name.replace("_", " "))}


def is_called_id(name: str) -> bool:
    """Whether a name says that it is an id."""
    return bool(words(name) & _ID)


def is_called_code(name: str) -> bool:
    """Whether a name says that its numbers count nothing."""
    return bool(words(name) & _CODE)


def times_of(frame: pd.DataFrame, found: Mapping[str, Inference]) -> list[str]:
    """Columns that may say when a row came up, the likeliest first.

    Every row has such a time, and it is neither of a birth nor of what comes after a result, unless
    the rows stand in its order: logs are mostly written so.
    """
    candidates = [
        name
        for name, inference in found.items()
        if inference.kind is Kind.DATETIME
        and inference.levels > 1
        and parsed_times(frame[name]).notna().all()
    ]
    in_order = [name for name in candidates if _is_in_order(frame[name])]
    if in_order:
        return in_order
    return [name for name in candidates if not words(name) & _OTHER_TIME]


def ids_of(frame: pd.DataFrame, found: Mapping[str, Inference]) -> list[str]:
    """Columns that may name the thing predicted, the likeliest first."""
    rows = len(frame)
    candidates = [
        name
        for name, inference in found.items()
        if is_called_id(name)
        and inference.kind in {Kind.NUMBER, Kind.CATEGORY}
        and inference.levels >= max(2, min(FEW_LEVELS, rows // 2), _ENTITIES * rows)
        and _are_names(frame[name])
    ]
    return sorted(candidates, key=lambda name: -found[name].levels)


def is_row_number(column: pd.Series, rows: int) -> bool:
    """Whether its values are the numbers of the rows: whole, all different, close together.

    `rows` is how many rows there are, of which these are a sample.
    """
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.isna().any() or (numbers % 1 != 0).any() or not numbers.is_unique:
        return False
    return bool(len(numbers) > FEW_LEVELS and numbers.max() - numbers.min() < _GAPS * rows)


def is_of_single_rows(inference: Inference, filled: int, name: str) -> bool:
    """Whether the values of `filled` rows are names of single rows and say nothing of others."""
    if inference.kind is Kind.DATETIME or inference.levels <= FEW_LEVELS:
        return False
    share = inference.levels / max(1, filled)
    if inference.kind is Kind.NUMBER:
        return is_called_id(name) and share > HALF
    return share > (HALF if is_called_id(name) else NEARLY_ALL)


def are_sentences(inference: Inference, filled: int) -> bool:
    """Whether the values of `filled` rows are sentences, which a model can read as its text."""
    return "sentences" in (inference.doubt or "") and inference.levels > HALF * filled


def has_only_gaps(column: pd.Series) -> bool:
    """Whether all that is no number in a column stands for a missing one."""
    texts = column.str.strip()
    rest = texts[pd.to_numeric(texts, errors="coerce").isna()].str.lower().unique()
    return set(rest) <= set(NO_VALUES)


def _is_in_order(column: pd.Series) -> bool:
    """Whether the rows stand in the order of these times, either way round, but for some."""
    ranks = parsed_times(column).rank().to_numpy()
    correlation = np.corrcoef(ranks, np.arange(len(ranks)))[0, 1]
    return bool(abs(correlation) > _IN_ORDER)


def _are_names(column: pd.Series) -> bool:
    """Whether no value has a fraction, as measurements have."""
    numbers = pd.to_numeric(column, errors="coerce").dropna()
    return bool((numbers % 1 == 0).all())
