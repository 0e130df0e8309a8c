"""One evaluation event as a row: its columns, its id, and what it becomes with an outcome.

A row is a dict with the keys `EVENT_COLUMNS`. Times are UTC text of one width, `features`,
`probabilities` and `metadata` JSON text, numbers floats, missing values None. This module and the
others that a cold `predict` loads keep to the quick parts of the standard library.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import isfinite

from ml_pipeline.config import defaults
from ml_pipeline.errors import InputError, StoreRefused

UNCERTAIN = defaults.UNCERTAIN
CORRECTIONS = defaults.CORRECTIONS

SEED_LOG_COLUMNS = (
    "timestamp",
    "event_id",
    "event_type",
    "model_id",
    "match_id",
    "prediction",
    "actual_result",
    "confidence",
    "accuracy",
    "metadata",
    "status",
)
EVENT_COLUMNS = (*SEED_LOG_COLUMNS, "model_name", "features", "probabilities", "evaluated_at")
TIME_WIDTH = 32
CLOCKS_DIFFER = timedelta(hours=1)
# No clock and no time zone puts what is made now so far into the future.
MOST_AHEAD = timedelta(days=1)

EventRow = dict[str, object]

_json_text = json.JSONEncoder(allow_nan=False, ensure_ascii=False).encode


def new_event_id() -> str:
    """A UUID of version 7 (RFC 9562, method 3): time in 60 bits, then 62 random ones.

    Ids of one time stand together in an index, so a thousand new ones touch a few of its pages and
    not a thousand. The module `uuid` would take a tenth of a cold prediction.
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    chance = int.from_bytes(os.urandom(8))
    return "%08x-%04x-7%03x-%04x-%012x" % (  # noqa: UP031 - takes less time
        milliseconds >> 16,
        milliseconds & 0xFFFF,
        (rest << 12) // 1_000_000,
        chance >> 50 | 0x8000,
        chance & 0xFFFF_FFFF_FFFF,
    )


def is_of_model(row: Mapping[str, object], model_name: str) -> bool:
    """Whether the event is that model's; one of a log without model names is everybody's."""
    return row["model_name"] in {None, model_name}


def utc_text(moment: datetime) -> str:
    """UTC text of one width, so that text order is time order. Raises InputError without a zone."""
    if moment.tzinfo is None:
        raise InputError(f"The time {moment.isoformat()} has no time zone.")
    try:
        moment = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
        return moment.isoformat("T", "microseconds")
    except OverflowError:
        message = f"The time {moment.isoformat()} is none in UTC: it ends with the year 9999."
        raise InputError(message) from None


# The rows of a batch share their time.
_shared_utc_text = lru_cache(maxsize=16)(utc_text)


def json_cell(value: Mapping[str, object] | None, name: str) -> str | None:
    """JSON text of an object, missing values as null. Raises InputError for what is no value."""
    if value is None:
        return None
    if type(value) is not dict:
        from ml_pipeline.store.inputs.values import mapping

        value = mapping(value, name)
    numbers = tuple(value.values())
    if set(map(type, numbers)) == {float} and isfinite(sum(numbers)):
        return _numbers_template(tuple(value)) % numbers
    try:
        text = _json_text(value)
    except (TypeError, ValueError):
        from ml_pipeline.store.inputs.values import plain

        text = _json_text(plain(value, name))
    try:
        text.encode()
    except ValueError as error:
        raise InputError(f"{name} cannot be written as JSON: {error}.") from error
    # PostgreSQL's JSON has no such character, so the table would refuse what the file has taken.
    if "\\u0000" in text.replace("\\\\", ""):
        raise InputError(f"{name} holds a NUL character.")
    return text


@lru_cache(maxsize=16)
def _numbers_template(names: tuple[str, ...]) -> str:
    """JSON with a gap for each number: most features are that, and an encoder takes longer."""
    pairs = (f"{_json_text(str(name))}: ".replace("%", "%%") + "%r" for name in names)
    return "{" + ", ".join(pairs) + "}"


def one_id(match_id: str | None, entity_id: str | None) -> str | None:
    """The id of what is predicted, by either of its names. Raises InputError for two of them."""
    if match_id is not None and entity_id is not None and match_id != entity_id:
        raise InputError(f"match_id is {match_id!r} and entity_id {entity_id!r}: give one of them.")
    return entity_id if match_id is None else match_id


def plain_text(value: object, name: str) -> str | None:
    """Text that fits into one line of a file, None when there is none.

    Raises InputError for control characters: a line break would tear the log's lines.
    """
    if type(value) is not str:
        if value is None:
            return None
        from ml_pipeline.store.inputs.values import id_text

        value = id_text(value, name) or ""
    text = value
    if not text.isprintable() and any(ord(letter) < ord(" ") for letter in text):
        raise InputError(f"{name} holds a control character: {text!r}.")
    if not text.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InputError(f"{name} is not valid Unicode: {text!r}.")
    return text or None


def prediction_row(  # noqa: PLR0913 - an event has that many parts
    *,
    event_id: str,
    timestamp: datetime,
    model_name: str,
    model_id: str | None,
    match_id: str | None,
    prediction: str,
    confidence: float | None,
    features: Mapping[str, object] | None = None,
    probabilities: Mapping[str, float] | None = None,
    metadata: Mapping[str, object] | None = None,
) -> EventRow:
    """A prediction whose outcome is not known yet. Raises InputError for what no log can hold.

    `probabilities` are those of the classes, as the classes are called, and sum to 1.
    """
    if not prediction:
        raise InputError("A prediction cannot be empty.")
    sure = confidence
    if sure is not None and not (type(sure) is float and 0 <= sure <= 1):
        from ml_pipeline.store.inputs.values import share

        sure = share(sure, "confidence")
    return {
        "timestamp": _shared_utc_text(timestamp),
        "event_id": plain_text(event_id, "event_id"),
        "event_type": "prediction",
        "model_id": plain_text(model_id, "model_id"),
        "match_id": plain_text(match_id, "match_id"),
        "prediction": plain_text(prediction, "prediction"),
        "actual_result": None,
        "confidence": sure,
        "accuracy": None,
        "metadata": json_cell(metadata, "metadata"),
        "status": "pending",
        "model_name": plain_text(model_name, "model_name"),
        "features": json_cell(features, "features"),
        "probabilities": json_cell(probabilities, "probabilities"),
        "evaluated_at": None,
    }


def known_after(row: Mapping[str, object], now: datetime) -> datetime:
    """The time of an outcome that is told now.

    Clocks of two machines differ a little, so a prediction that lies just ahead was made now.
    Raises InputError for one that lies further ahead: it cannot have come true.
    """
    try:
        made = datetime.fromisoformat(str(row["timestamp"]))
    except ValueError:
        return now
    made = made if made.tzinfo is not None else made.replace(tzinfo=UTC)
    if made > now + CLOCKS_DIFFER:
        raise InputError(
            f"Event {row['event_id']} was predicted at {made.isoformat()}, and it is "
            f"{now.isoformat()}: an outcome known before its prediction is not its outcome."
        )
    return max(made, now)


def refuse_early_outcomes(rows: Iterable[Mapping[str, object]]) -> None:
    """Raise StoreRefused when there are rows whose outcome was known before their prediction.

    The times are UTC text. Clocks of two machines differ a little.
    """
    early = [
        str(row["event_id"])
        for row in rows
        if (known := row["evaluated_at"]) is not None
        and row["actual_result"] is not None
        and str(known) < str(row["timestamp"])
        and _is_early(str(known), str(row["timestamp"]))
    ]
    if early:
        message = f"An outcome known before its prediction is not its outcome: {some(early)}."
        raise StoreRefused(message, hint="Nothing was written.")


def _is_early(known: str, made: str) -> bool:
    try:
        return datetime.fromisoformat(known) + CLOCKS_DIFFER < datetime.fromisoformat(made)
    except (TypeError, ValueError):
        return False


def with_outcome(
    row: Mapping[str, object],
    actual_result: str,
    evaluated_at: datetime,
    *,
    is_right: bool | None = None,
) -> EventRow:
    """The whole event again, now with its outcome; the accuracy follows from it.

    `is_right` says so where prediction and outcome may be spelt differently.
    """
    right = row["prediction"] == actual_result if is_right is None else is_right
    return {
        **row,
        "actual_result": plain_text(actual_result, "actual_result"),
        "evaluated_at": utc_text(evaluated_at),
        "accuracy": 1.0 if right else 0.0,
        "status": "evaluated",
    }


def best_guess(metadata: object) -> str | None:
    """What an UNCERTAIN answer would have been, by the event's metadata."""
    try:
        known = json.loads(metadata) if isinstance(metadata, str) else None
    except ValueError:
        return None
    guess = known.get("best_guess") if isinstance(known, dict) else None
    return guess if isinstance(guess, str) else None


def merge_rows(rows: Iterable[EventRow]) -> dict[str, EventRow]:
    """One row an event, by its id; a later row fills what an earlier one left empty.

    Where an outcome was corrected, the row with the last correction has it.
    """
    events: dict[str, EventRow] = {}
    for row in rows:
        known = events.setdefault(str(row["event_id"]), row)
        if known is not row:
            events[str(row["event_id"])] = _merged(known, row)
    return events


def _merged(known: EventRow, row: EventRow) -> EventRow:
    if was_corrected(row) or was_corrected(known):
        from ml_pipeline.store.inputs.outcome_history import history

        if len(history(row)) != len(history(known)):
            older, newer = sorted((known, row), key=lambda one: len(history(one)))
            filled = {name: value for name, value in newer.items() if value is not None}
            return {**older, **filled, **_outcome(newer)}
    filled = {name: value for name, value in known.items() if value is not None}
    settled = known["actual_result"] is not None
    return {**row, **filled, **({} if settled else _outcome(row))}


def was_corrected(row: Mapping[str, object]) -> bool:
    """Whether the event may list former outcomes: most do not, which a look at the text tells."""
    metadata = row["metadata"]
    return metadata is not None and CORRECTIONS in str(metadata)


def brings_outcome(row: Mapping[str, object], stored: Mapping[str, object]) -> bool:
    """Whether the row has an outcome that the stored event lacks, or that corrects its outcome."""
    if row["actual_result"] is None:
        return False
    if not (was_corrected(row) or was_corrected(stored)):
        return stored["actual_result"] is None
    from ml_pipeline.store.inputs.outcome_history import is_newer, is_older

    if stored["actual_result"] is None:
        return not is_older(row, stored)
    return is_newer(row, stored)


def _outcome(row: EventRow) -> EventRow:
    return {name: row[name] for name in ("actual_result", "evaluated_at", "accuracy", "status")}


WRITTEN_EVENT_COLUMNS = (
    "event_id",
    "timestamp",
    "event_type",
    "model_name",
    "model_id",
    "match_id",
    "prediction",
    "confidence",
    "features",
    "probabilities",
    "metadata",
    "actual_result",
    "evaluated_at",
)
_EVENT_FACTS = ("timestamp", "model_name", "model_id", "match_id", "prediction", "confidence")


def refuse_other_content(refused: Sequence[str]) -> None:
    """Raise StoreRefused when there are ids of known events that came with other content."""
    if refused:
        message = f"Known events came with other content: {some(refused)}."
        raise StoreRefused(message, hint="Nothing was written.")


def some(ids: Sequence[str]) -> str:
    """A few of the ids, and how many more there are."""
    more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""  # noqa: PLR2004
    return ", ".join(sorted(ids)[:5]) + more


def contradicts(row: Mapping[str, object], stored: Mapping[str, object]) -> bool:
    """Whether an event contradicts the stored one. What is missing contradicts nothing."""
    if any(_differs(row[name], stored[name]) for name in _EVENT_FACTS):
        return True
    if stored["actual_result"] is not None and _differs(
        row["actual_result"], stored["actual_result"]
    ):
        if not (was_corrected(row) or was_corrected(stored)):
            return True
        from ml_pipeline.store.inputs.outcome_history import is_newer, is_older

        if not (is_newer(row, stored) or is_older(row, stored)):
            return True
    if _differs_as_json(row, stored, "features"):
        return True
    return stored["probabilities"] is not None and _differs_as_json(row, stored, "probabilities")


def brings_probabilities(row: Mapping[str, object], stored: Mapping[str, object]) -> bool:
    """Whether the row says what was answered of an event that was stored without it."""
    return row["probabilities"] is not None and stored["probabilities"] is None


def _differs_as_json(row: Mapping[str, object], stored: Mapping[str, object], name: str) -> bool:
    value, known = row[name], stored[name]
    return _differs(value, known) and (
        known is None or json.loads(str(value)) != json.loads(str(known))
    )


def _differs(value: object, known: object) -> bool:
    return value is not None and value != known
