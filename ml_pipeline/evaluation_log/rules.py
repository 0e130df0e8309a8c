"""What is asked of an evaluation log, and what its rows mean: columns, labels, times, numbers.

Rows are text until here. The rules are expressions of SQL, which `scan` and `fold` run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from ml_pipeline.config.data import DEFAULT_COLUMNS
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.csv_file import COMMA_HINT
from ml_pipeline.errors import DataError
from ml_pipeline.store.event_row import MOST_AHEAD
from ml_pipeline.store.inputs.columns import column_places, listed
from ml_pipeline.store.inputs.incumbent_columns import ANSWER
from ml_pipeline.store.inputs.label_sql import (
    NO_LABEL,
    OTHER_MODEL,
    UNKNOWN_LABEL,
    LabelCodes,
    corrections,
    is_blank,
)
from ml_pipeline.store.inputs.labels import BLANKS
from ml_pipeline.store.inputs.probabilities import CONFIDENCE_WITHIN
from ml_pipeline.store.inputs.probability_sql import probability_fault
from ml_pipeline.store.inputs.times import NO_TIMES, NO_ZONE
from ml_pipeline.store.records import EVENT_COLUMNS, UNCERTAIN, LookbackWindow, require_utc
from ml_pipeline.store.sql_text import literal

# What the trainer reads: one labelled row each, then the configured features, then the target.
LABELLED_COLUMNS = (
    "event_id",
    "match_id",
    "known_at",
    "model_id",
    "prediction",
    "confidence",
    "is_error",
    "predicted_at",
    "probabilities",
    "of_line",
)

UNKNOWN_OUTCOME = "unknown outcome label"
# By a name that hardly a feature has.
GUESS = "best guess"

REQUIRED = ("event_id", "prediction", "actual_result", "confidence")
TIMES = ("timestamp", "evaluated_at")
# What to do about rows that are bad for a reason that begins so.
REASON_HINTS = {
    "known_at is in the future": f"Of times: {NO_ZONE}.",
    "timestamp is in the future": "It is when a prediction was made, or the day of a match that is "
    "to be played within a year.",
    "time is not ISO 8601": "Write times as 2026-03-14T15:00:00Z: 03/04/2026 may be two days.",
    "confidence is not a number": "Write confidences with a decimal point; " + COMMA_HINT,
    "probabilities ": 'Write probabilities as a JSON object, {"H": 0.5, "D": 0.3, "A": 0.2}; a '
    "column that holds something else needs another name.",
    "confidence contradicts": "The confidence is the probability of the prediction, of an "
    f"UNCERTAIN one the largest; they may differ by {CONFIDENCE_WITHIN:g}.",
    "malformed: ": "Put a cell that holds a comma or a line break between double quotes, and "
    "double the quotes inside.",
}
_UNREAD = ("event_type", "accuracy", "status")

# Days since 1970 must fit in 16 bits.
_EARLIEST = "TIMESTAMPTZ '1970-01-01 00:00:00+00'"
_LATEST = "TIMESTAMPTZ '2149-01-01 00:00:00+00'"
_DAY_US = 86_400_000_000
# A log may have the day of the match for the time of a prediction; this is beyond any fixture list.
_FAR_AHEAD = timedelta(days=366)
_NEVER = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class LogRequest:
    """What a run wants from the log.

    Errors count inside `window` when one of `model_ids` made them (None: anybody's). Rows are
    learned from `learn_from` until `now` (None: from the first). `anchor_id` is the one of
    `model_ids` that their line began with: what the others answered is the line's. `count_from`
    asks the table for labelled rows per day since then, and how often rows changed. `classes` are
    those of the model that is to learn, where any label may stand in the log: rows of another one
    are set aside. `with_guesses` asks for the column GUESS beside the labelled rows: what an
    UNCERTAIN answer would have been. `read_at` is when the log is read, by default `now`: what is
    known in between has not happened for the run, and is no row of the future. `also` names further
    features to write beside the labelled rows as they were logged: what the champion reads.
    `of_incumbent` asks for the answer of a classifier that is not ours beside each labelled row,
    and sets aside those of which there is none. `keeps_files` says that the folder outlives the
    command: an error names the list in it then, and else the first bad rows.
    """

    now: datetime
    window: LookbackWindow
    learn_from: datetime | None
    model_ids: tuple[str, ...] | None
    anchor_id: str | None = None
    count_from: datetime | None = None
    classes: tuple[str, ...] | None = None
    with_guesses: bool = False
    read_at: datetime | None = None
    also: tuple[str, ...] = ()
    of_incumbent: bool = False
    keeps_files: bool = True

    def __post_init__(self) -> None:
        for name in ("now", "learn_from", "count_from", "read_at"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, require_utc(value, name))

    @property
    def today(self) -> datetime:
        """After which everything is the future."""
        return self.now if self.read_at is None else max(self.now, self.read_at)

    @property
    def ahead(self) -> LookbackWindow:
        """When nothing can be known to have happened yet."""
        return LookbackWindow(start=self.today + MOST_AHEAD, end=_NEVER)

    @property
    def far_ahead(self) -> LookbackWindow:
        """When nothing that has been predicted happens."""
        return LookbackWindow(start=self.today + _FAR_AHEAD, end=_NEVER)

    @property
    def settled_before(self) -> datetime | None:
        """Rows known before this are neither learned nor errors; None when all may be."""
        return None if self.learn_from is None else min(self.learn_from, self.window.start)


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Where a log has what: column numbers by canonical name and by configured feature."""

    names: tuple[str, ...]
    places: Mapping[str, int]
    features: Mapping[str, int]
    leave_out_metadata: bool = False

    def without_metadata(self) -> Columns:
        """The same log when features need not be looked for in `metadata`."""
        places = {name: place for name, place in self.places.items() if name != "metadata"}
        is_less = len(places) < len(self.places)
        return replace(self, places=places, leave_out_metadata=is_less)

    def kept(self) -> list[int]:
        """Numbers of the columns that are read, in order."""
        read = (place for name, place in self.places.items() if name not in _UNREAD)
        return sorted({*read, *self.features.values()})


def find_columns(names: Sequence[str], settings: Settings, source: str) -> Columns:
    """Find the canonical columns in a header.

    Raises DataError naming the missing column, the spellings tried and the columns found.
    """
    spellings = {column: settings.spellings(column) for column in DEFAULT_COLUMNS}
    found = column_places(spellings, names, source)
    missing = [name for name in REQUIRED if name not in found]
    if not any(name in found for name in TIMES):
        missing.append(TIMES[0])
    if missing:
        raise _missing(missing, names, settings, source)
    features = column_places({name: (name,) for name in settings.data.inputs}, names, source)
    return Columns(names=tuple(names), places=found, features=features)


def event_columns() -> Columns:
    """The columns of the store's own frames."""
    places = {name: place for place, name in enumerate(EVENT_COLUMNS)}
    return Columns(names=EVENT_COLUMNS, places=places, features={})


def _missing(
    missing: Sequence[str], names: Sequence[str], settings: Settings, source: str
) -> DataError:
    tried = "; ".join(f"{name} (tried {', '.join(_tried(name, settings))})" for name in missing)
    message = f"{source} lacks {tried}. It has: {listed(names)}."
    return DataError(message, hint="Name its columns under log.columns in the settings.")


def _tried(column: str, settings: Settings) -> list[str]:
    also = settings.log.spellings(TIMES[1]) if column == TIMES[0] else []
    return [*settings.log.spellings(column), *also]


def instant(moment: datetime) -> str:
    """A time as an SQL literal."""
    return f"TIMESTAMPTZ {literal(moment.astimezone(UTC).isoformat(sep=' '))}"


def _text(x: str, blanks: Sequence[str] = BLANKS) -> str:
    # Most texts are longer than any blank, so that they need not be folded to lower case.
    longest = max(map(len, blanks))
    return (
        f"CASE WHEN strlen(trim({x})) > {longest} THEN trim({x}) "
        f"WHEN {is_blank(x, blanks)} THEN NULL ELSE trim({x}) END"
    )


def _farthest(now: datetime) -> str:
    return f"least({instant(now + _FAR_AHEAD)}, {_LATEST})"


def day_number(moment: str) -> str:
    """Days since 1970 in UTC."""
    return f"(epoch_us({moment}) // {_DAY_US})"


class RowRules:
    """The rules of one row for one log; `column` gives the SQL of a column by its number."""

    def __init__(self, settings: Settings, columns: Columns, column: Callable[[int], str]) -> None:
        self._settings = settings
        self._columns = columns
        self._column = column
        self.labels = LabelCodes(settings.data)

    def raw(self, name: str) -> str:
        """The text of a canonical column; NULL for one that the log does not have."""
        place = self._columns.places.get(name)
        return "NULL::VARCHAR" if place is None else self._column(place)

    def text(self, name: str) -> str:
        """The trimmed text, NULL when it is blank."""
        return _text(self.raw(name))

    def code(self, name: str) -> str:
        """The code of a label column."""
        return self.labels.code(self.raw(name), is_prediction=name == "prediction")

    def is_other_model(self) -> str:
        """Whether another model's name stands in the row."""
        name, own = self.raw("model_name"), literal(self._settings.model_name)
        if "model_name" not in self._columns.places:
            return "false"
        return (
            f"CASE WHEN {name} IS NULL OR {name} = {own} THEN false "
            f"ELSE trim({name}) <> {own} AND NOT {is_blank(name)} END"
        )

    @property
    def _most(self) -> int:
        return 100 if self._settings.log.confidence_unit == "percent" else 1

    # A row is settled when it is complete, sound and too old to matter: the common case, so it
    # is decided by cheap expressions. Everything else is kept whole and examined.

    def plain_time(self) -> str:
        """The time the row became known, if it is written as usual."""
        written = f"coalesce({self.raw('evaluated_at')}, {self.raw('timestamp')})"
        return f"TRY_CAST({written} AS TIMESTAMPTZ)"

    def plain_confidence(self) -> str:
        """The confidence as a number as it is written."""
        return f"TRY_CAST({self.raw('confidence')} AS DOUBLE)"

    def is_settled(self, before: datetime | None) -> str:
        """Over `id, p, a, known, confidence`: labelled, sound, and known before that time."""
        if before is None:
            return "false"
        return (
            f"a BETWEEN 1 AND {OTHER_MODEL - 1} "
            f"AND known < least({instant(before)}, {_LATEST}) AND {self._is_sound()}"
        )

    def past(self) -> str:
        """How many former outcomes the row lists; 0 where metadata is not read."""
        if "metadata" not in self._columns.places:
            return "0"
        return corrections(self.raw("metadata"))

    def is_waiting(self, now: datetime) -> str:
        """Over the same: a sound prediction without an outcome."""
        return f"a = {NO_LABEL} AND known <= {_farthest(now)} AND {self._is_sound()}"

    def _is_sound(self) -> str:
        blanks = ", ".join(map(literal, BLANKS))
        return (
            f"p BETWEEN 1 AND {OTHER_MODEL - 1} AND confidence >= 0 AND confidence <= {self._most} "
            f"AND known >= {_EARLIEST} "
            f"AND CASE WHEN strlen(id) > 4 THEN true ELSE lower(id) NOT IN ({blanks}) END"
        )

    # The rules for a row that is examined.

    def guess_text(self) -> str:
        """What an answer that was not given would have been, as the row says it, if it does."""
        meta = self.text("metadata")
        guess = f"CASE WHEN json_valid({meta}) THEN json_extract_string({meta}, '$.best_guess') END"
        return f"CASE WHEN trim({self.raw('prediction')}) = {literal(UNCERTAIN)} THEN {guess} END"

    def best_guess(self, x: str) -> str:
        """The label of `x`, a column: its text stands at each spelling that it is compared with."""
        return self.labels.name(self.labels.code(x, is_prediction=False), x)

    def original(self) -> str:
        """What an incumbent answered whose answer was corrected, as the row says it, if it does."""
        meta = self.text("metadata")
        answer = f"json_extract({meta}, {literal('$.' + ANSWER)})::VARCHAR"
        return f"CASE WHEN json_valid({meta}) THEN nullif({answer}, 'null') END"

    def made_text(self) -> str:
        """The text of the time of the prediction."""
        return _text(self.raw("timestamp"), NO_TIMES)

    def time_text(self) -> str:
        """The text of the time the row became known."""
        texts = [_text(self.raw(name), NO_TIMES) for name in reversed(TIMES)]
        return f"coalesce({', '.join(texts)})"

    def confidence_text(self) -> str:
        """The text of the confidence; NaN beside no prediction is an empty cell."""
        x = self.raw("confidence")
        cell = f"lower(trim({x}))"
        return (
            f"CASE WHEN {cell} IN ('', 'none', 'null') OR (p = {NO_LABEL} AND {cell} = 'nan') "
            f"THEN NULL ELSE trim({x}) END"
        )

    def confidence(self, x: str) -> str:
        """The number in 0..1."""
        number = f"TRY_CAST({x} AS DOUBLE)"
        return f"{number} / 100" if self._most > 1 else number

    def features(self) -> str:
        """The features as JSON text: own column, else in metadata, else columns of their names."""
        own, meta = _text(self.raw("features"), (*BLANKS, "{}")), self.text("metadata")
        inner = (
            f"CASE WHEN json_valid({meta}) THEN "
            f"nullif(json_extract({meta}, '$.features')::VARCHAR, 'null') END"
        )
        return f"coalesce({own}, {inner}, {self._feature_columns()})"

    def _feature_columns(self) -> str:
        text = self._settings.data.text_column
        cells = {
            f: self._column(n) if f == text else _text(self._column(n))
            for f, n in self._columns.features.items()
        }
        if not cells:
            return "NULL"
        pairs = ", ".join(f"{literal(name)}, {cell}" for name, cell in cells.items())
        filled = " AND ".join(f"({cell}) IS NULL" for cell in cells.values())
        return f"CASE WHEN {filled} THEN NULL ELSE json_object({pairs})::VARCHAR END"

    def fault(self, now: datetime) -> str:
        """Why a row is bad, or NULL.

        Over `p, a, event_id, made, time_text, known, confidence_text, confidence`, and what
        `probability_fault` asks for.
        """
        tolerance = timedelta(minutes=self._settings.log.future_tolerance_minutes)
        return f"""coalesce(CASE
            WHEN event_id IS NULL THEN 'event_id is empty'
            WHEN p = {UNKNOWN_LABEL} THEN 'unknown prediction label'
            WHEN a = {UNKNOWN_LABEL} THEN {literal(UNKNOWN_OUTCOME)}
            WHEN p = {NO_LABEL} AND a = {NO_LABEL} THEN 'neither prediction nor outcome'
            WHEN time_text IS NULL THEN 'no time'
            WHEN known IS NULL THEN 'time is not ISO 8601'
            WHEN a > {NO_LABEL} AND known > {instant(now + tolerance)}
                THEN 'known_at is in the future'
            WHEN (a > {NO_LABEL} AND made > {instant(now + MOST_AHEAD)})
                OR (a = {NO_LABEL} AND known > {_farthest(now)}) THEN 'timestamp is in the future'
            WHEN NOT (known >= {_EARLIEST} AND known < {_LATEST}) THEN 'time is out of range'
            {self._confidence_faults()} END, {probability_fault(self._settings.data)})"""

    def _confidence_faults(self) -> str:
        over = (
            "confidence is over 100 percent"
            if self._most > 1
            else "confidence is over 1 (percent? set log.confidence_unit: percent)"
        )
        return f"""WHEN confidence_text IS NULL THEN NULL
            WHEN confidence IS NULL THEN 'confidence is not a number'
            WHEN isnan(confidence) THEN 'confidence is NaN'
            WHEN isinf(confidence) THEN 'confidence is infinite'
            WHEN confidence < 0 THEN 'confidence is negative'
            WHEN confidence > 1 THEN {literal(over)}"""
