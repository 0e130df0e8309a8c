"""The features and the text of an event as SQL: read from JSON, and why they cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.features import LARGEST
from ml_pipeline.datasets.texts import MAX_CHARACTERS
from ml_pipeline.store.inputs.label_sql import is_blank, listing
from ml_pipeline.store.sql_text import literal

NO_FEATURES: Final = "no features"
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
    texts = f"[CASE WHEN {is_blank('x')} THEN NULL ELSE x END FOR x IN {written}]"
    return found, texts, "[TRY_CAST(x AS DOUBLE) FOR x IN texts]", input_text


def feature_fault(settings: Settings) -> str:
    """SQL over `features` and the columns of `feature_lists`: why an event is unusable, or NULL."""
    features, column = settings.data.features, settings.data.text_column
    names = listing(features)

    def first(condition: str, complaint: str) -> str:
        bad = f"list_position([{condition} FOR x IN range(1, {len(features) + 1})], true)"
        return f"WHEN {bad} IS NOT NULL THEN 'feature ' || ({names})[{bad}] || {literal(complaint)}"

    numbers = (
        first("found[x] IS NULL", " is absent"),
        first("texts[x] IS NOT NULL AND numbers[x] IS NULL", " is not a number"),
        first("NOT isfinite(numbers[x])", " is not finite"),
        first(f"abs(numbers[x]) > {LARGEST!r}::DOUBLE", f" is beyond {LARGEST:g}"),
        "WHEN list_aggregate(texts, 'count') = 0 THEN 'all features are missing'",
    )
    return f"""CASE
        WHEN features IS NULL THEN {literal(NO_FEATURES)}
        WHEN NOT json_valid(features) THEN 'features are not JSON'
        WHEN json_type(features) <> 'OBJECT' THEN 'features are not a JSON object'
        {" ".join(numbers) if features else ""}
        {" ".join(_text_faults(column)) if column else ""} END"""


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
