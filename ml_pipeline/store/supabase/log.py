"""The evaluation log on Supabase: frames to pages of JSON and back."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import numpy as np
import pandas as pd

from ml_pipeline.errors import StoreCorrupt, StoreRefused
from ml_pipeline.store.contract import EXPORT_DELIMITER, EXPORT_QUOTE
from ml_pipeline.store.event_frames import EVENT_TIMES, event_frame, event_rows
from ml_pipeline.store.event_row import brings_outcome, contradicts, refuse_early_outcomes, some
from ml_pipeline.store.records import EVENT_COLUMNS, EVER, LookbackWindow, parse_utc
from ml_pipeline.store.rows import Row, time_text
from ml_pipeline.store.supabase.tables import UUID_TEXT, chosen, within
from ml_pipeline.store.supabase.transport import Project

# Both are done well within the 8 seconds that a hosted project gives a statement.
PAGE: Final = 5_000
APPENDED_AT_ONCE: Final = 10_000
# A hundred ids of usual length fit into an address, of which gateways take 8 KiB. Each such
# question reads the table once, as it has no index by match, so that many are answered sooner by
# reading all of it.
NAMED_AT_ONCE: Final = 100
NAMED_BYTES: Final = 4_000
NAMED_AT_MOST: Final = 1000
FOUND_AT_ONCE: Final = 500
_JSON: Final = ("features", "probabilities", "metadata")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]+")
_WRITTEN_TIME: Final = "%Y-%m-%dT%H:%M:%S.%f+00:00"
_PAGE_COLUMNS: Final = (*EVENT_COLUMNS, "known_at")


class SupabaseLog:
    """`EvaluationLog` by database functions."""

    _project: Project

    def append_events(self, events: pd.DataFrame) -> int:
        """Add events; return how many were new.

        More than `APPENDED_AT_ONCE` events are written by several calls, after all of them were
        checked. When the answer to a write was lost, the events of that call count as known.
        """
        return self._append_chunks(list(event_rows(events, APPENDED_AT_ONCE)))

    def append_rows(self, rows: Sequence[Row]) -> int:
        """Add events given as rows; return how many were new."""
        refuse_early_outcomes(rows)
        size = APPENDED_AT_ONCE
        return self._append_chunks([rows[at : at + size] for at in range(0, len(rows), size)])

    def _append_chunks(self, chunks: Sequence[Sequence[Row]]) -> int:
        for chunk in chunks:
            _check_numbers(chunk)
        if len(chunks) > 1:
            _check_repeated(chunks)
            for chunk in chunks:
                self._append(chunk, check_only=True)
        return sum(self._append(chunk, check_only=False) for chunk in chunks)

    def _append(self, rows: Sequence[Row], *, check_only: bool) -> int:
        added = self._project.call(
            "append_evaluation_events", p_events=rows, p_check_only=check_only
        )
        return _count(added, "append_evaluation_events")

    def record_outcomes(self, outcomes: Mapping[str, str], *, evaluated_at: datetime) -> int:
        """Set `actual_result` by event id; return how many were new."""
        written = self._project.call(
            "record_evaluation_outcomes",
            p_outcomes=dict(outcomes),
            p_evaluated_at=time_text(evaluated_at),
        )
        return _count(written, "record_evaluation_outcomes")

    def read_events(
        self, window: LookbackWindow, *, model_name: str, labelled_only: bool = True
    ) -> Iterator[pd.DataFrame]:
        """Events of the window in order, in frames; one empty frame when there are none.

        Pages are read one after the other, so what is written behind the reader is not seen.
        """
        pages = self._pages(
            "read_evaluation_events",
            within(window, model_name)
            | {"p_labelled_only": labelled_only, "p_probabilities": True},
        )
        frames = map(_event_frame, _once(pages))
        yield next(frames, _event_frame([]))
        yield from frames

    def find_events(
        self, *, model_name: str, event_ids: Collection[str], match_ids: Collection[str]
    ) -> pd.DataFrame:
        """The events with those ids and of those matches, ordered by event id."""
        ids = [event_id.lower() for event_id in event_ids if UUID_TEXT.fullmatch(event_id)]
        match_ids = [name for name in match_ids if name == _sendable(name)]
        widest = max(map(_width, match_ids), default=0)
        if len(ids) + len(match_ids) > NAMED_AT_MOST or widest > NAMED_BYTES:
            found = [
                frame[frame["event_id"].isin(ids) | frame["match_id"].isin(list(match_ids))]
                for frame in self.read_events(EVER, model_name=model_name, labelled_only=False)
            ]
            events = pd.concat(found)
        else:
            named = [*_named("event_id", ids), *_named("match_id", match_ids)]
            rows = [row for narrow in named for row in self._found(model_name, narrow)]
            events = _event_frame([{name: row[name] for name in EVENT_COLUMNS} for row in rows])
        events = events.drop_duplicates("event_id").sort_values("event_id")
        return events.reset_index(drop=True)

    def models_of_events(self, event_ids: Collection[str]) -> dict[str, str]:
        """The name of the model of each of those events that there is, of whatever model."""
        ids = [event_id.lower() for event_id in event_ids if UUID_TEXT.fullmatch(event_id)]
        return {
            str(row["event_id"]): str(row["model_name"])
            for narrow in _named("event_id", ids)
            for row in self._found(None, narrow, columns="event_id, model_name")
        }

    def _found(
        self, model_name: str | None, narrow: Callable[[Any], Any], *, columns: str = "*"
    ) -> Iterator[Row]:
        """Rows of the table, a page after the other: the server cuts long answers.

        Without a `model_name` they are those of every model.
        """
        after = ""

        def page(query: Any) -> Any:  # noqa: ANN401 - the library's own
            query = narrow(query).order("event_id")
            query = query if model_name is None else query.eq("model_name", model_name)
            query = query.gt("event_id", after) if after else query
            return query.limit(FOUND_AT_ONCE)

        while rows := self._project.select("evaluation_log", page, columns=columns):
            for row in rows:
                texts = {name: _json_text(row.get(name)) for name in _JSON}
                yield {**row, **texts}
            before, after = after, str(rows[-1]["event_id"])
            if after <= before:
                raise StoreCorrupt("evaluation_log answered with rows that were read already.")

    def export_events(self, folder: Path, *, model_name: str) -> Iterator[Path]:
        """Write every event as a line of text, see the store's contract."""
        path = folder / "page.events"
        with path.open("w", encoding="utf-8", newline="") as file:
            for frame in self.read_events(EVER, model_name=model_name, labelled_only=False):
                times = {name: frame[name].dt.strftime(_WRITTEN_TIME) for name in EVENT_TIMES}
                frame.assign(**times).to_csv(
                    file, header=False, index=False, lineterminator="\n", sep=EXPORT_DELIMITER,
                    quotechar=EXPORT_QUOTE, quoting=csv.QUOTE_NONNUMERIC,
                )  # fmt: skip
        yield path

    def read_error_samples(
        self,
        window: LookbackWindow,
        *,
        model_name: str,
        confidence_threshold: float,
        model_ids: Sequence[str] | None,
    ) -> pd.DataFrame:
        """Labelled events that are wrong with confidence strictly over the threshold."""
        asked = chosen(window, model_name, model_ids) | {
            "p_confidence": float(confidence_threshold),
            "p_probabilities": True,
        }
        pages = self._pages("read_error_samples", asked)
        return _event_frame([row for page in pages for row in page])

    def _pages(self, function: str, parameters: Mapping[str, Any]) -> Iterator[list[Row]]:
        """Pages by key, each after the last row of the one before; an empty page is the end."""
        after: dict[str, Any] = {}
        reached: tuple[datetime, str] | None = None
        while page := _page(
            self._project.call(function, **parameters, **after, p_rows=PAGE), function
        ):
            last = page[-1]
            place = _place(last, function)
            if reached is not None and place <= reached:
                raise StoreCorrupt(f"{function} answered with rows that were read already.")
            yield page
            after = {"p_after_known_at": last["known_at"], "p_after_event_id": last["event_id"]}
            reached = place

    def count_labelled(self, window: LookbackWindow, *, model_name: str) -> dict[date, int]:
        """Labelled events per UTC day of the time they became known."""
        days = self._project.call("count_labelled_by_day", **within(window, model_name))
        if not isinstance(days, list):
            message = f"count_labelled_by_day answered {type(days).__name__}, not days."
            raise StoreCorrupt(message)
        try:
            return {date.fromisoformat(row["day"]): int(row["labelled"]) for row in days}
        except (KeyError, TypeError, ValueError) as error:
            message = f"count_labelled_by_day answered something else than days: {error}."
            raise StoreCorrupt(message) from error


def _named(column: str, values: Collection[str]) -> Iterator[Callable[[Any], Any]]:
    """Questions for the rows with those values, as many values in each as may be."""
    part, width = list[str](), 0
    for value in values:
        if not _PLAIN.fullmatch(value):
            continue
        if len(part) == NAMED_AT_ONCE or width + _width(value) > NAMED_BYTES:
            yield partial(_is_among, column, part)
            part, width = [], 0
        part.append(value)
        width += _width(value)
    if part:
        yield partial(_is_among, column, part)
    # Commas and quotes mean something in a list.
    for value in values:
        if not _PLAIN.fullmatch(value):
            yield partial(_is, column, value)


def _sendable(value: str) -> str:
    """A text as it can be sent, which no text of the table differs from."""
    return value.encode(errors="replace").decode().replace("\0", "?")


def _width(value: str) -> int:
    """What an id takes of an address, with the comma behind it, in bytes."""
    return len(quote(value, safe="")) + len("%2C")


def _is_among(column: str, values: Sequence[str], query: Any) -> Any:  # noqa: ANN401 - the library's
    return query.in_(column, values)


def _is(column: str, value: str, query: Any) -> Any:  # noqa: ANN401 - the library's own
    return query.eq(column, value)


def _json_text(value: object) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _count(answer: object, function: str) -> int:
    if not isinstance(answer, int):
        message = f"{function} answered {type(answer).__name__}, not a count."
        raise StoreCorrupt(message)
    return answer


def _page(answer: object, function: str) -> list[Row]:
    rows: list[Any] = answer if isinstance(answer, list) else [None]
    width = len(_PAGE_COLUMNS)
    if not all(isinstance(row, list) and len(row) == width for row in rows):
        message = f"{function} answered something else than events."
        raise StoreCorrupt(message)
    return [dict(zip(_PAGE_COLUMNS, row, strict=True)) for row in rows]


def _place(row: Row, function: str) -> tuple[datetime, str]:
    """Where a row stands in the order in which events are read."""
    try:
        return parse_utc(str(row["known_at"])), str(row["event_id"])
    except ValueError:
        raise StoreCorrupt(f"{function} answered something else than events.") from None


def _once(pages: Iterable[Sequence[Row]]) -> Iterator[list[Row]]:
    """An event that gets its outcome meanwhile moves on in the order, and is met again."""
    pending = set[str]()
    for page in pages:
        yield [row for row in page if row["event_id"] not in pending]
        pending.update(row["event_id"] for row in page if row["actual_result"] is None)


def _check_numbers(rows: Sequence[Row]) -> None:
    """JSON has no infinity; the database would refuse it as well."""
    strange = [row["event_id"] for row in rows if row["confidence"] in {np.inf, -np.inf}]
    if strange:
        message = f"Confidences must be numbers from 0 to 1: {some(strange)}."
        raise StoreRefused(message, hint="Nothing was written.")


def _check_repeated(chunks: Sequence[Sequence[Row]]) -> None:
    """Refuse events that come twice with other content; the database sees one chunk at a time."""
    times = Counter(row["event_id"] for chunk in chunks for row in chunk)
    known: dict[str, dict[str, Any]] = {}
    refused = set[str]()
    for row in (row for chunk in chunks for row in chunk if times[row["event_id"]] > 1):
        first = known.setdefault(row["event_id"], dict(row))
        if _other_content(row, first):
            refused.add(str(row["event_id"]))
        elif brings_outcome(row, first):
            first |= {name: row[name] for name in ("actual_result", "metadata")}
    if refused:
        message = f"Events came twice with other content: {some(list(refused))}."
        raise StoreRefused(message, hint="Nothing was written.")


def _other_content(row: Row, first: Row) -> bool:
    try:
        return contradicts(row, first)
    except json.JSONDecodeError:
        return True


def _event_frame(rows: Sequence[Row]) -> pd.DataFrame:
    return event_frame([tuple(row.values()) for row in rows], times)


def times(name: str, values: Sequence[Any]) -> pd.Series[Any]:
    """A column of UTC times from the texts of PostgREST. Raises StoreCorrupt."""
    try:
        moments = pd.to_datetime(pd.Series(values, dtype=object), utc=True, format="ISO8601")
    except (TypeError, ValueError) as error:
        message = f"An event's {name} is not a time: {error}."
        raise StoreCorrupt(message) from error
    return moments.astype("datetime64[us, UTC]")
