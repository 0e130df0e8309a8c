"""How a labelled row is written: as a line of CSV or JSON, or as a conversation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ml_pipeline.config.data import DataSettings
from ml_pipeline.config.kind import Kind
from ml_pipeline.printable import as_cell, printable

# What is known of a row beside its inputs and its label.
KNOWN: Final = (
    "event_id",
    "match_id",
    "known_at",
    "predicted_at",
    "model_id",
    "prediction",
    "confidence",
    "probabilities",
    "is_error",
)

Row = Mapping[str, str]


def csv_cells(row: Row, names: Sequence[str]) -> list[str]:
    """The cells of a line, for spreadsheets and terminals.

    `'` stands before what would be calculated, a substitute for each control character.
    """
    return [as_cell(printable(row[name], lines=True)) for name in names]


def json_line(row: Row, data: DataSettings) -> str:
    """One object: what is known of the row, its `features`, its `text`, its `label`.

    The `probabilities` are an object as well, numbers are numbers, what is missing is null.
    """
    line: dict[str, Any] = {name: row[name] or None for name in KNOWN}
    line["confidence"] = number(row["confidence"])
    line["probabilities"] = json.loads(row["probabilities"]) if row["probabilities"] else None
    line["is_error"] = row["is_error"] == "true"
    line["features"] = {name: _value(row[name], data.kind(name)) for name in data.features}
    if data.text_column is not None:
        line["text"] = row[data.text_column]
    line["label"] = row[data.target]
    return json.dumps(line, allow_nan=False)


def chat_line(row: Row, data: DataSettings, system_prompt: str | None) -> str:
    """One conversation: the settings' system prompt if there is one, the input, the right answer.

    The input is the text as it stands; the features stand before it, a line each.
    """
    lines = [f"{name}: {row[name]}" for name in data.features if row[name]]
    if data.text_column is not None:
        lines += [*([""] if lines else []), row[data.text_column]]
    turns = [("user", "\n".join(lines)), ("assistant", row[data.target])]
    if system_prompt is not None:
        turns.insert(0, ("system", system_prompt))
    messages = [{"role": role, "content": content} for role, content in turns]
    return json.dumps({"messages": messages})


def number(text: str) -> float | int | None:
    """The number in a cell, a whole one as such; None for an empty cell and for what is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and text.lstrip("-").isdecimal() else value


def _value(text: str, kind: Kind) -> object:
    if not text:
        return None
    if kind is Kind.NUMBER:
        # Whose kind nobody named may turn out to be a text.
        found = number(text)
        return text if found is None else found
    return text == "true" if kind is Kind.BOOLEAN and text in {"true", "false"} else text
