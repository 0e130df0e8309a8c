"""The finished CSVs of a load as SQL over the relations that `fold` makes."""

# ruff: noqa: S608 - every value in a statement is a number or quoted by RowRules

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ml_pipeline.config.kind import Kind
from ml_pipeline.config.settings import Settings
from ml_pipeline.evaluation_log.rules import GUESS, LABELLED_COLUMNS
from ml_pipeline.evaluation_log.stage import with_line_numbers
from ml_pipeline.store.inputs.incumbent_columns import LOGGED_ANSWER
from ml_pipeline.store.sql_text import identifier, literal

_TEXT_SHOWN: Final = 2000
_WRITTEN_TIME: Final = "'%Y-%m-%dT%H:%M:%S.%f+00:00'"
_NOT_KEPT: Final = "(settled row, text not kept)"


def rejected_query() -> str:
    """Bad rows with the number of their row in the log, the header not counted."""
    cell = (
        "CASE WHEN contains(x, ',') OR contains(x, '\"') OR contains(x, chr(10)) "
        "THEN '\"' || replace(x, '\"', '\"\"') || '\"' ELSE coalesce(x, '') END"
    )
    rows = f"""(SELECT b.row_no, b.reason,
        coalesce(array_to_string([{cell} FOR x IN w.r], ','), {literal(_NOT_KEPT)}) AS text
        FROM bad_rows b LEFT JOIN whole w ON w.row_no = b.row_no)"""
    return f"""SELECT row, reason, left(text, {_TEXT_SHOWN}) AS text FROM (
        SELECT line AS row, reason, text FROM malformed
        UNION ALL SELECT row, reason, text FROM ({with_line_numbers(rows)})) ORDER BY row, reason"""


def first_rejected_query(count: int) -> str:
    """The first bad rows as `rejected_query` numbers them: row, event id (if any), reason."""
    rows = """(SELECT b.row_no, b.reason, k.event_id
        FROM bad_rows b LEFT JOIN kept k ON k.row_no = b.row_no)"""
    return f"""SELECT row, event_id, reason FROM (
        SELECT line AS row, NULL AS event_id, reason FROM malformed
        UNION ALL SELECT row, event_id, reason FROM ({with_line_numbers(rows)}))
        ORDER BY row, reason LIMIT {count}"""


def unusable_query() -> str:
    """The events that were to be learned and cannot be, with the reason and the outcome."""
    return """SELECT event_id, fault AS reason, outcome FROM events
        WHERE to_learn AND fault IS NOT NULL ORDER BY event_id"""


def table_names(
    settings: Settings, also: Sequence[str] = (), *, of_incumbent: bool = False
) -> list[str]:
    """The columns of the finished CSVs."""
    answer = [LOGGED_ANSWER] if of_incumbent else []
    return [*LABELLED_COLUMNS, *settings.data.inputs, *also, *answer, settings.data.target]


def _cells(settings: Settings, name: str) -> str:
    return "numbers" if settings.data.kind(name) is Kind.NUMBER else "texts"


def table_query(
    settings: Settings,
    condition: str,
    also: Sequence[str] = (),
    *,
    of_incumbent: bool = False,
    with_guesses: bool = False,
) -> str:
    """Events as rows of the finished CSVs, in the order in which they are learned."""
    cells = {
        "event_id": "event_id",
        "match_id": "match_id",
        "known_at": f"strftime(known, {_WRITTEN_TIME})",
        "model_id": "model_id",
        "prediction": "prediction",
        "confidence": "confidence",
        "is_error": "is_error",
        "predicted_at": f"strftime(made, {_WRITTEN_TIME})",
        "probabilities": "probabilities",
        "of_line": "of_line",
    }
    columns = [f"{cells[name]} AS {identifier(name)}" for name in LABELLED_COLUMNS]
    columns += [
        f"CASE WHEN fault IS NULL THEN {_cells(settings, name)}[{place}] END AS {identifier(name)}"
        for place, name in enumerate(settings.data.features, 1)
    ]
    if settings.data.text_column is not None:
        name = identifier(settings.data.text_column)
        columns.append(f"CASE WHEN fault IS NULL THEN input_text END AS {name}")
    columns += [f"also[{place}] AS {identifier(name)}" for place, name in enumerate(also, 1)]
    columns += [f"incumbent AS {identifier(LOGGED_ANSWER)}"] if of_incumbent else []
    columns.append(f"outcome AS {identifier(settings.data.target)}")
    if with_guesses:
        columns.append(f"guess AS {identifier(GUESS)}")
    # Named in full, for a feature may be called `day`.
    order = "events.day, events.event_id"
    return f"SELECT {', '.join(columns)} FROM events WHERE {condition} ORDER BY {order}"
