"""One value of a feature as the number that stands for it, by the feature's kind.

A row is numbers, whatever it is made of: a truth is 0 or 1, an instant its seconds since 1970, a
level a number of 52 bits that its name always has (of 10,000 levels two share one in a hundred
millionth of all data sets). So rows of every kind go where rows of numbers go. Nothing heavy is
loaded here: a cold prediction reads its row by this.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, date, datetime
from math import isnan, nan

from ml_pipeline.config.kind import Kind
from ml_pipeline.errors import InputError
from ml_pipeline.store.inputs.labels import BLANKS, NO_VALUES, SPACE
from ml_pipeline.store.inputs.times import read_time, time_hint
from ml_pipeline.store.inputs.values import is_missing, scalar

# Both in any case; of two columns that hold them one may well be written in several ways.
TRUE = frozenset({"true", "t", "yes", "y", "on", "1", "1.0"})
FALSE = frozenset({"false", "f", "no", "n", "off", "0", "0.0"})
# What is longer is a text or a blob, no name.
MAX_LEVEL_CHARACTERS = 1_000
# Squares of larger numbers overflow when features are standardised.
LARGEST = 1e150
_SHOWN = 60
_HEX_DIGITS = 13  # of four bits: whole numbers up to there are exact in a float
_TRUTHS = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}
_WHOLE = re.compile(r"(-?\d+)\.0+")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def no_values(kind: Kind) -> tuple[str, ...]:
    """What stands for a missing value of that kind, in lower case and without space around it.

    One list for training data, `init`, log, batch and Python.
    """
    return BLANKS if kind is Kind.CATEGORY else NO_VALUES


def level_name(value: object, feature: str = "A category") -> str:
    """The name of a category's level, '' for a missing one; `feature` is for what is none.

    One name however a program writes it: without the space around it, `1` for `1.0`, `true` for
    Python's True. Case counts. What stands for no value anywhere (`labels.BLANKS`) names no level.
    """
    if not isinstance(value, str):
        value = "" if is_missing(value) else scalar(value, feature)
        value = str(value)
    text = value.strip(SPACE)
    if not text.isascii():
        from unicodedata import normalize

        # An accent may be a letter of its own, and means the same.
        text = normalize("NFC", text)
    if text.lower() in BLANKS:
        return ""
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else _TRUTHS.get(text, text)


def level_fault(name: str) -> str:
    """What is wrong with a level's name, as the end of a sentence; '' for a good one."""
    if len(name) > MAX_LEVEL_CHARACTERS:
        return f"has {len(name):,} characters, a category at most {MAX_LEVEL_CHARACTERS:,}"
    if "\0" in name:
        return "holds a NUL character"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return ""


def level_code(name: str) -> float:
    """The number that stands for a level, in [0, 2^52); NaN for a missing one."""
    if not name:
        return nan
    digest = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()
    return float(int(digest[:_HEX_DIGITS], 16))


def truth(text: str) -> float:
    """1.0 or 0.0 of a text, NaN of a missing one. Raises ValueError for another text."""
    folded = text.strip(SPACE).lower()
    if folded in TRUE:
        return 1.0
    if folded in FALSE:
        return 0.0
    if folded in NO_VALUES:
        return nan
    message = f"{text!r} is neither true nor false"
    raise ValueError(message)


def seconds(moment: datetime) -> float:
    """Seconds since 1970 in UTC, to the microsecond; a time without a zone is UTC."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def moment_of(number: float) -> datetime:
    """The inverse of `seconds`."""
    from datetime import timedelta

    return _EPOCH + timedelta(seconds=number)


def read_cell(kind: Kind, value: object, name: str) -> tuple[float, object]:
    """A value that is no number as the number that stands for it, and as the log keeps it.

    A missing one is NaN and None. Raises InputError naming what cannot be read.
    """
    if kind is Kind.CATEGORY:
        level = level_name(value, name)
        fault = level_fault(level)
        if fault:
            raise InputError(f"{name} {fault}.", hint="Name it in data.text_column, or shorten it.")
        return level_code(level), level or None
    if is_missing(value) or (isinstance(value, str) and value.strip(SPACE).lower() in NO_VALUES):
        return nan, None
    if kind is Kind.BOOLEAN:
        try:
            number = truth(str(scalar(value, name)))
        except ValueError:
            shown = repr(str(value)[:_SHOWN])
            raise InputError(f"{name} = {shown} is neither true nor false.") from None
        return number, bool(number)
    moment = _moment(value, name)
    return seconds(moment), moment.isoformat()


def _moment(value: object, name: str) -> datetime:
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    text = value.isoformat() if isinstance(value, date) else str(scalar(value, name))
    try:
        return read_time(text)
    except ValueError:
        shown = repr(text[:_SHOWN])
        raise InputError(
            f"{name} = {shown} is not an ISO 8601 time.", hint=time_hint(text[:_SHOWN])
        ) from None


def logged(kind: Kind, number: float) -> object:
    """A truth or an instant as the log keeps it, from the number that stands for it."""
    if isnan(number):
        return None
    return bool(number) if kind is Kind.BOOLEAN else moment_of(number).isoformat()
