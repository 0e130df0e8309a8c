"""The features and the text of an event as SQL: read from JSON, and why they cannot be used."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import pandas as pd

from ml_pipeline.config.data import DataSettings
from ml_pipeline.config.kind import Kind
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.features import LARGEST
from ml_pipeline.datasets.texts import MAX_CHARACTERS
from ml_pipeline.store.inputs.cells import FALSE, MAX_LEVEL_CHARACTERS, TRUE
from ml_pipeline.store.inputs.label_sql import is_blank, listing
from ml_pipeline.store.inputs.labels import NO_VALUES
from ml_pipeline.store.inputs.times import time_sql
from ml_pipeline.store.sql_text import literal

NO_FEATURES: Final = "no features"
# What to do where the log holds other features than the settings name, by the end of a fault.
_KIND_HINT: Final = (
    "If it is something else now, say its kind in data.features, as {name: category}: the results "
    "then wait for a base that `ml-pipeline train --register` makes."
)
_INPUT_HINTS: Final = {
    " is absent": "If it is gone or has another name now, change data.features: the results then "
    "wait for a base that `ml-pipeline train --register` makes.",
    " is not a number": _KIND_HINT,
    " is no truth": _KIND_HINT,
    " is not an ISO 8601 time": _KIND_HINT,
}

_OBJECT: Final = "CASE WHEN json_valid(features) THEN features END"
# What Python's `strip` leaves of a text that is not empty.
_VISIBLE: Final = r"[^\s\p{Z}\x{0b}\x{1c}-\x{1f}\x{85}]"


def feature_lists(settings: Settings) -> tuple[str, str, str, str]:
    """SQL over `features` of the lists `found`, `texts` and `numbers`, and of `input_text`.

    The lists are in the order of the configured features; `input_text` is the text of
    `data.text_column`, NULL where there is none.
    """
    features, column = settings.data.features, settings.data.text_column
    input_text = "NULL::VARCHAR"
    if column is not None:
        input_text = f"json_extract_string({_OBJECT}, {literal(_pointer(column))})"
    if not features:
        return "NULL::VARCHAR[]", "NULL::VARCHAR[]", "NULL::DOUBLE[]", input_text
    pointers = listing(map(_pointer, features))
    found = f"json_extract({_OBJECT}, {pointers})"
    written = f"json_extract_string({_OBJECT}, {pointers})"
    places = enumerate(features, 1)
    levels = [str(n) for n, name in places if settings.data.kind(name) is Kind.CATEGORY]
    missing = is_blank("x", NO_VALUES)
    if levels:
        missing = (
            f"CASE WHEN place IN ({', '.join(levels)}) THEN {is_blank('x')} ELSE {missing} END"
        )
    texts = f"[CASE WHEN {missing} THEN NULL ELSE x END FOR x, place IN {written}]"
    return found, texts, "[TRY_CAST(x AS DOUBLE) FOR x IN texts]", input_text


def written_features(names: Sequence[str]) -> str:
    """SQL over `features` of the list of what they hold of some names, as texts."""
    if not names:
        return "NULL::VARCHAR[]"
    return f"json_extract_string({_OBJECT}, {listing(map(_pointer, names))})"


def feature_frame(written: Iterable[str | None], data: DataSettings) -> pd.DataFrame:
    """The features of events, from their JSON, as a frame of texts; what is no object is left out.

    Of settings that name no features it has everything that one of them holds.
    """
    rows = list[dict[str, object]]()
    for text in written:
        try:
            found = json.loads(text or "null")
        except ValueError:
            continue
        if isinstance(found, dict):
            rows.append({name: _written(value) for name, value in found.items()})
    names = data.features or list(dict.fromkeys(name for row in rows for name in row))
    return pd.DataFrame({name: [row.get(name, "") for row in rows] for name in names}, dtype=object)


def _written(value: object) -> str:
    return "" if value is None else str(value)


def feature_fault(settings: Settings) -> str:
    """SQL over `features` and the columns of `feature_lists`: why an event is unusable, or NULL."""
    features, column = settings.data.features, settings.data.text_column

    def first(condition: str, complaint: str, kind: Kind | None = None) -> str:
        places = [
            n for n, name in enumerate(features, 1) if kind in {None, settings.data.kind(name)}
        ]
        if not places:
            return ""
        bad = f"list_position([{condition} FOR x IN {places}], true)"
        names = listing(features[place - 1] for place in places)
        return f"WHEN {bad} IS NOT NULL THEN 'feature ' || ({names})[{bad}] || {literal(complaint)}"

    truths = ", ".join(map(literal, sorted(TRUE | FALSE)))
    numbers = (
        first("found[x] IS NULL", " is absent"),
        first("texts[x] IS NOT NULL AND numbers[x] IS NULL", " is not a number", Kind.NUMBER),
        first("NOT isfinite(numbers[x])", " is not finite", Kind.NUMBER),
        first(f"abs(numbers[x]) > {LARGEST!r}::DOUBLE", f" is beyond {LARGEST:g}", Kind.NUMBER),
        first(f"lower(trim(texts[x])) NOT IN ({truths})", " is no truth", Kind.BOOLEAN),
        first(f"texts[x] IS NOT NULL AND {time_sql('trim(texts[x])')} IS NULL",
              " is not an ISO 8601 time", Kind.DATETIME),
        first(f"length(trim(texts[x])) > {MAX_LEVEL_CHARACTERS}",
              f" has more than {MAX_LEVEL_CHARACTERS} characters", Kind.CATEGORY),
        first("contains(texts[x], chr(0))", " holds a NUL character", Kind.CATEGORY),
        "WHEN list_aggregate(texts, 'count') = 0 THEN 'all features are missing'",
    )  # fmt: skip
    return f"""CASE
        WHEN features IS NULL THEN {literal(NO_FEATURES)}
        WHEN NOT json_valid(features) THEN 'features are not JSON'
        WHEN json_type(features) <> 'OBJECT' THEN 'features are not a JSON object'
        {" ".join(numbers) if features else ""}
        {" ".join(_text_faults(column)) if column else ""} END"""


def inputs_hint(faults: Iterable[str]) -> str:
    """What to do about faults where features have changed, as sentences after others."""
    found = [hint for fault in faults for end, hint in _INPUT_HINTS.items() if fault.endswith(end)]
    return "".join(f" {hint}" for hint in dict.fromkeys(found))


def _text_faults(column: str) -> Iterator[str]:
    """The faults of `texts.fault` but the one of Unicode: no database holds half a letter."""

    def when(condition: str, complaint: str) -> str:
        return f"WHEN {condition} THEN {literal(f'text {column} {complaint}')}"

    yield when("input_text IS NULL", "is absent")
    yield when(f"NOT regexp_matches(input_text, {literal(_VISIBLE)})", "is empty")
    yield when(
        f"length(input_text) > {MAX_CHARACTERS}", f"has more than {MAX_CHARACTERS} characters"
    )
    yield when("contains(input_text, chr(0))", "holds a NUL character")


def _pointer(name: str) -> str:
    """A JSON pointer: unlike a path, it can hold any name."""
    return "/" + name.replace("~", "~0").replace("/", "~1")
