"""Labels in SQL of DuckDB: read as `labels` reads them, and written as small numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ml_pipeline.config.data import DataSettings
from ml_pipeline.store.event_row import CORRECTIONS, UNCERTAIN
from ml_pipeline.store.inputs.labels import BLANKS, SPACE, Labels
from ml_pipeline.store.sql_text import literal

# Codes of labels: 23 bits. In between stand the classes, or the hashes of open labels.
NO_LABEL = 0
OTHER_MODEL = 0x7FFFFE
UNKNOWN_LABEL = 0x7FFFFF
_HASHES = 0x3FFFFF


def listing(values: Iterable[str]) -> str:
    """Texts as an SQL list."""
    return "[" + ", ".join(literal(value) for value in values) + "]"


def is_blank(x: str, blanks: Sequence[str] = BLANKS) -> str:
    """SQL: whether a cell is empty or stands for a missing value."""
    spellings = ", ".join(map(literal, blanks))
    return f"lower(trim({x})) IN ({spellings})"


def corrections(metadata: str) -> str:
    """SQL: how many former outcomes an event's metadata lists."""
    return (
        f"CASE WHEN NOT contains(coalesce({metadata}, ''), {literal(CORRECTIONS)}) THEN 0 "
        f"WHEN json_valid({metadata}) THEN "
        f"coalesce(json_array_length({metadata}, '$.{CORRECTIONS}'), 0)::BIGINT ELSE 0 END"
    )


def _case(x: str, values: Mapping[str, int]) -> str:
    return _branches(x, {text: str(code) for text, code in values.items()})


def _name_case(x: str, values: Mapping[str, str]) -> str:
    return _branches(x, {text: literal(name) for text, name in values.items()})


def _branches(x: str, values: Mapping[str, str]) -> str:
    if not values:
        return "NULL"
    branches = " ".join(f"WHEN {literal(text)} THEN {value}" for text, value in values.items())
    return f"CASE {x} {branches} END"


def _trimmed(x: str) -> str:
    return f"trim(nfc_normalize({x}), {literal(SPACE)})"


def _plain(x: str) -> str:
    """As `labels.fold`: in lower case, a whole number without its point."""
    return f"regexp_replace(lower({_trimmed(x)}), '^(-*[0-9]+)[.]0+$', '\\1')"


def label_of(labels: Labels, x: str) -> str:
    """SQL: the label that a text means; the trimmed text where it is none of those known."""
    trimmed = _trimmed(x)
    if not labels.exact:
        return trimmed
    known = _name_case(trimmed, labels.exact), _name_case(_plain(x), labels.folded)
    return f"coalesce({', '.join(known)}, {trimmed})"


class LabelCodes:
    """Labels as codes, by SQL that reads them as `store.labels` does."""

    def __init__(self, data: DataSettings) -> None:
        self._labels = labels = Labels.of(data)
        # Classes first: they are what most rows hold, and a CASE is searched in order.
        self.names = [*dict.fromkeys([*(data.classes or ()), *labels.names])]
        codes = {name: code for code, name in enumerate(self.names, 1)}
        self._exact = {**codes, **{text: codes[name] for text, name in labels.exact.items()}}
        self._folded = {text: codes[name] for text, name in labels.folded.items()}
        if not labels.is_open:
            self.names.append(UNCERTAIN)

    def code(self, x: str, *, is_prediction: bool) -> str:
        """The code of a label: NO_LABEL when empty, UNKNOWN_LABEL when it is none of ours."""
        if self._labels.is_open:
            return self._open_code(x, is_prediction=is_prediction)
        exact, folded = dict(self._exact), dict(self._folded)
        if is_prediction:
            exact.setdefault(UNCERTAIN, len(self.names))
            folded.setdefault(UNCERTAIN.lower(), len(self.names))
        trimmed = _trimmed(x)
        slow = (
            f"coalesce({_case(trimmed, exact)}, {_case(_plain(x), folded)}, "
            f"CASE WHEN {is_blank(trimmed)} THEN {NO_LABEL} ELSE {UNKNOWN_LABEL} END)"
        )
        branches = " ".join(f"WHEN {literal(text)} THEN {code}" for text, code in exact.items())
        fast = f"CASE {x} {branches} ELSE {slow} END"
        return f"(CASE WHEN {x} IS NULL THEN {NO_LABEL} ELSE {fast} END)::UINTEGER"

    def _open_code(self, x: str, *, is_prediction: bool) -> str:
        label, trimmed = label_of(self._labels, x), _trimmed(x)
        refused = "false" if is_prediction else f"{label} = {literal(UNCERTAIN)}"
        is_blank_text = is_blank(trimmed)
        if self._exact:
            is_blank_text += f" AND {label} = {trimmed}"
        return (
            f"(CASE WHEN {x} IS NULL OR ({is_blank_text}) THEN {NO_LABEL} WHEN {refused} "
            f"THEN {UNKNOWN_LABEL} ELSE 1 + (hash({label}) & {_HASHES}) END)::UINTEGER"
        )

    def name(self, code: str, x: str) -> str:
        """The label with that code; `x` is the cell."""
        if self._labels.is_open:
            label = label_of(self._labels, x)
            return f"CASE WHEN {code} BETWEEN 1 AND {OTHER_MODEL - 1} THEN {label} END"
        return f"({listing(self.names)})[{code}]"
