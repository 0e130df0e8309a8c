"""Times as people and programs write them: one reading, in Python and in SQL of DuckDB.

ISO 8601 in all its usual forms, also with a space, a slash, one digit, `UTC` or the name of a zone.
A time without a zone is UTC. `03/04/2026` may be two days and is none here.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from ml_pipeline.store.inputs.labels import BLANKS
from ml_pipeline.store.sql_text import literal

# What programs write for a missing time; a label may be called "nat", a time may not.
NO_TIMES = (*BLANKS, "nat")
_WRITTEN = re.compile(
    r"(\d{4}[-/]\d{1,2}[-/]\d{1,2})(?:[T\s]+(\d{1,2})(?::(\d{2})(?::(\d{2})(?:[.,](\d+))?)?)?)?"
    r"\s*(Z|[+-]\d{2}(?::?\d{2})?|[A-Z]+(?:/[A-Z_]+)*)?",
    re.IGNORECASE,
)
_DAY_OR_MONTH = r"^\d{1,2}[./-]\d{1,2}[./-]\d{2,4}"
_BASIC = ("%Y%m%dT%H%M%S%z", "%Y%m%dT%H%M%SZ", "%Y%m%dT%H%M%S", "%Y%m%d")
NO_ZONE = "a time without a zone is read as UTC; write local times with theirs, as +02:00"


def read_time(text: str) -> datetime:
    """The moment, in UTC. Raises ValueError that says what is wrong with the text."""
    text = text.strip()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = _written(text)
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text!r} is in no year from 1 to 9999 in UTC") from None


def is_no_time(text: str) -> bool:
    """Whether a cell stands for a missing time."""
    return text.strip().lower() in NO_TIMES


def _written(text: str) -> datetime:
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not an ISO 8601 time")
    day, hour, minute, second, fraction, zone = found.groups()
    year, month, number = map(int, re.split("[-/]", day))
    micros = int(((fraction or "") + "000000")[:6])
    hours, minutes, seconds = (int(part or 0) for part in (hour, minute, second))
    try:
        moment = datetime(year, month, number, hours, minutes, seconds, micros, tzinfo=UTC)
        return moment if zone is None else _in_zone(moment, zone)
    except ValueError as error:
        raise ValueError(f"{text!r} is not an ISO 8601 time: {error}") from None


def _in_zone(moment: datetime, zone: str) -> datetime:
    if zone.upper() in {"Z", "UTC", "GMT"}:
        return moment
    if zone[0] in "+-":
        minutes = zone[3:].removeprefix(":") or "00"
        return datetime.fromisoformat(f"{moment.isoformat()[:-6]}{zone[:3]}:{minutes}")
    from zoneinfo import ZoneInfo

    try:
        return moment.replace(tzinfo=ZoneInfo(zone))
    except (OSError, LookupError):
        raise ValueError(f"there is no zone {zone}") from None


def time_hint(text: str) -> str:
    """What to do about a text that is no time."""
    text = text.strip()
    if re.match(_DAY_OR_MONTH, text):
        return (
            f"Of {text} it cannot be told which number is the day and which the month: "
            "write 2026-03-14T15:00:00Z."
        )
    if re.fullmatch(r"\d+([.,]\d+)?", text):
        return (
            f"{text} is a spreadsheet's own number of a day, or a count of seconds: "
            "write 2026-03-14T15:00:00Z."
        )
    return "Write 2026-03-14T15:00:00Z."


def time_sql(x: str) -> str:
    """SQL of the moment in a text, NULL for none."""
    basic = f"try_strptime({x}, [{', '.join(map(literal, _BASIC))}])::TIMESTAMPTZ"
    tidy = f"replace(upper({x}), ',', '.')"
    tidy = f"regexp_replace({tidy}, '\\s*([+-]\\d\\d):?(\\d\\d)$', '\\1:\\2')"
    tidy = f"regexp_replace({tidy}, '([T ]\\d\\d)(Z?)$', '\\1:00\\2')"
    return f"coalesce(TRY_CAST({x} AS TIMESTAMPTZ), {basic}, TRY_CAST({tidy} AS TIMESTAMPTZ))"
