"""The features and the text of an event, out of its JSON, written as SQL."""

from __future__ import annotations

from collections.abc import Iterator

from ml_pipeline.config import Settings
from ml_pipeline.log_rules import NO_FEATURES, is_blank, listing, quote
from ml_pipeline.texts import MAX_CHARACTERS

_OBJECT = "CASE WHEN json_valid(features) THEN features END"
# What Python's `strip` leaves of a text that is not empty.
_SEEN = r"[^\s\p{Z}\x{0b}\x{1c}-\x{1f}\x{85}]"


def feature_lists(settings: Settings) -> tuple[str, str, str, str]:
    """SQL of `found`, `texts`, `numbers` (lists in order) and `said`, over the column `features`.

    `said` is the text of `data.text_column`, NULL where there is none.
    """
    features, column = settings.data.features, settings.data.text_column
    said = "NULL::VARCHAR"
    if column is not None:
        said = f"json_extract_string({_OBJECT}, {quote(_pointer(column))})"
    if not features:
        return "NULL::VARCHAR[]", "NULL::VARCHAR[]", "NULL::DOUBLE[]", said
    pointers = listing(map(_pointer, features))
    found = f"json_extract({_OBJECT}, {pointers})"
    written = f"json_extract_string({_OBJECT}, {pointers})"
    texts = f"[CASE WHEN {is_blank('x')} THEN NULL ELSE x END FOR x IN {written}]"
    return found, texts, "[TRY_CAST(x AS DOUBLE) FOR x IN texts]", said


def feature_fault(settings: Settings) -> str:
    """Over `features`, `found`, `texts`, `numbers`, `said`: why unusable, or NULL."""
    features, column = settings.data.features, settings.data.text_column
    names = listing(features)

    def first(condition: str, complaint: str) -> str:
        bad = f"list_position([{condition} FOR x IN range(1, {len(features) + 1})], true)"
        return f"WHEN {bad} IS NOT NULL THEN 'feature ' || ({names})[{bad}] || {quote(complaint)}"

    numbers = (
        first("found[x] IS NULL", " is absent"),
        first("texts[x] IS NOT NULL AND numbers[x] IS NULL", " is not a number"),
        first("NOT isfinite(numbers[x])", " is not finite"),
        "WHEN list_aggregate(texts, 'count') = 0 THEN 'all features are missing'",
    )
    return f"""CASE
        WHEN features IS NULL THEN {quote(NO_FEATURES)}
        WHEN NOT json_valid(features) THEN 'features are not JSON'
        WHEN json_type(features) <> 'OBJECT' THEN 'features are not a JSON object'
        {" ".join(numbers) if features else ""}
        {" ".join(_text_faults(column)) if column else ""} END"""


def _text_faults(column: str) -> Iterator[str]:
    """What `texts.fault` says, but of Unicode: no database holds half a letter."""

    def when(condition: str, complaint: str) -> str:
        return f"WHEN {condition} THEN {quote(f'text {column} {complaint}')}"

    yield when("said IS NULL", "is absent")
    yield when(f"NOT regexp_matches(said, {quote(_SEEN)})", "is empty")
    yield when(f"length(said) > {MAX_CHARACTERS}", f"has more than {MAX_CHARACTERS} characters")
    yield when("contains(said, chr(0))", "holds a NUL character")


def _pointer(name: str) -> str:
    """Unlike a path, a pointer can hold any name."""
    return "/" + name.replace("~", "~0").replace("/", "~1")
