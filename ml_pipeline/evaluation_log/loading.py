"""Load the evaluation log: the confident errors, and every labelled row to learn.

Errors are the trigger, the seeds' CSV and the diagnosis; what is learned is every labelled row.
The log is the store's table or a file (`log.source`); both pass the same validation.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pandas as pd

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.duckdb_session import as_data_error
from ml_pipeline.errors import ConfigError, DataError
from ml_pipeline.evaluation_log import fold, scan
from ml_pipeline.evaluation_log.answering.registered import is_registered
from ml_pipeline.evaluation_log.classes.counting import count_by_class
from ml_pipeline.evaluation_log.classes.counts import ClassCount
from ml_pipeline.evaluation_log.fold import UNUSABLE, Counts
from ml_pipeline.evaluation_log.incumbent.answers import own_settings
from ml_pipeline.evaluation_log.known import files as written
from ml_pipeline.evaluation_log.known.report import REASONS_SHOWN, LoadReport
from ml_pipeline.evaluation_log.rules import GUESS, REASON_HINTS, LogRequest
from ml_pipeline.evaluation_log.stage import MEMORY_STEPS, LogFiles, Scanned, Stage, open_stage
from ml_pipeline.store.contract import Store
from ml_pipeline.store.inputs.incumbent_columns import own_features
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.lineage.open_rows import OpenRows
from ml_pipeline.store.records import LookbackWindow, ModelVersion, day_start

log = logging.getLogger("data_loader")

TABLE: Final = "table"
STORAGE: Final = "storage"
STORED_LOG: Final = ("model-artifacts", "evaluation_log.csv")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CHUNK: Final = 100_000
ROWS_SHOWN: Final = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedLog:
    """The two CSVs of a load and what is known about them; the days as the store counts them.

    `features` are those that are numbers.
    """

    errors_path: Path
    labelled_path: Path
    labelled_rows: int
    report: LoadReport
    labelled_by_day: dict[date, int]
    features: tuple[str, ...]
    changes_by_day: dict[date, int] = field(default_factory=dict)
    by_class: tuple[ClassCount, ...] = ()

    @property
    def errors(self) -> pd.DataFrame:
        """The error samples, read from their CSV."""
        return _read_csv(self.errors_path, self.features)

    def fresh_rows(self, learned: OpenRows) -> int:
        """Rows to learn that are not among those."""
        if not learned.rows:
            return self.labelled_rows
        chunks = pd.read_csv(
            self.labelled_path, usecols=["event_id"], dtype=str, chunksize=_CHUNK, na_filter=False
        )
        return learned.unlearned(event_id for chunk in chunks for event_id in chunk["event_id"])


def load_log(store: Store, settings: Settings, request: LogRequest, folder: Path) -> LoadedLog:
    """Read the configured log and write its error samples and its rows to learn as CSVs.

    Raises DataError when the log cannot be read or too much of it is bad; then only the file of
    rejected rows is written.
    """
    settings, request = _of_incumbent(settings, request)
    _check_names(settings, request)
    folder.mkdir(parents=True, exist_ok=True)
    files = LogFiles.at(folder, request.now)
    # Counted before it is read: a row that arrives in between is missed by the count alone, and
    # the next run finds one row more than was counted. The other way round it would be lost.
    counted = _count_table(store, settings, request) if settings.log.source == TABLE else None
    name = settings.model_name
    changes = {} if request.count_from is None else store.count_changes(model_name=name)
    for memory in MEMORY_STEPS:
        try:
            loaded = _load(store, settings, request, files, memory)
            break
        except duckdb.OutOfMemoryException:
            log.info("The rows are long: %d MB for each thread were too little", memory)
    else:
        raise DataError(
            f"{_source(settings)} needs more than {MEMORY_STEPS[-1]} MB for each thread.",
            hint="Its rows must be very long; learn from less of it at once.",
        )
    _log_report(loaded.report)
    return LoadedLog(
        errors_path=files.errors,
        labelled_path=files.labelled,
        labelled_rows=loaded.labelled_rows,
        report=loaded.report,
        labelled_by_day=loaded.days if counted is None else counted,
        changes_by_day=changes,
        features=tuple(settings.data.number_features),
        by_class=loaded.by_class,
    )


def _load(
    store: Store, settings: Settings, request: LogRequest, files: LogFiles, memory: int
) -> _Written:
    with open_stage(files.errors.parent, memory) as stage:
        counts, settings = _read(stage, store, settings, request)
        with as_data_error(_source(settings)):
            return _write(stage, settings, counts, files, request)


def read_labelled(
    store: Store, settings: Settings, folder: Path, *, now: datetime, of_incumbent: bool = False
) -> pd.DataFrame:
    """Every usable labelled row known until `now`, numbers as floats, everything else as text.

    `confidence` is a float and `is_error` a boolean; `of_incumbent` as in `LogRequest`. All rows
    are held in memory, and `folder` is needed no longer than the call.
    """
    known = load_known(
        store, settings, None, folder, now=now, of_incumbent=of_incumbent, keeps_files=False
    )
    return _read_csv(known.labelled_path, settings.data.number_features)


def load_known(  # noqa: PLR0913 - what is loaded, for whom and where to
    store: Store,
    settings: Settings,
    model: ModelVersion | None,
    folder: Path,
    *,
    now: datetime,
    since: date | None = None,
    read_at: datetime | None = None,
    also: Sequence[str] = (),
    of_incumbent: bool = False,
    keeps_files: bool = True,
) -> LoadedLog:
    """Every labelled row until `now` that `model` can learn, in order; those `since` a day.

    `read_at`, `also`, `of_incumbent` and `keeps_files` as in `LogRequest`.
    """
    request = LogRequest(
        now=now,
        window=LookbackWindow.ending(now, days=settings.run.lookback_days),
        learn_from=None if since is None else day_start(since),
        model_ids=None,
        classes=None if model is None else model.lineage.classes,
        read_at=read_at,
        also=tuple(also),
        of_incumbent=of_incumbent,
        keeps_files=keeps_files,
    )
    return load_log(store, settings, request, folder)


def _source(settings: Settings) -> str:
    return "the table" if settings.log.source == TABLE else settings.log.source


def _of_incumbent(settings: Settings, request: LogRequest) -> tuple[Settings, LogRequest]:
    """What is asked of the log where the model reads an incumbent's answers."""
    own, also = own_settings(settings), tuple(own_features(request.also))
    if own is settings and also == request.also:
        return settings, request
    return own, replace(request, of_incumbent=True, also=also)


def _check_names(settings: Settings, request: LogRequest) -> None:
    names = written.table_names(settings, of_incumbent=request.of_incumbent)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"Features, text and data.target cannot be called {', '.join(twice)}: a column of the "
            "training CSV has that name already."
        )


def _read(
    stage: Stage, store: Store, settings: Settings, request: LogRequest
) -> tuple[Counts, Settings]:
    """Scan and fold; once more with metadata when features may be there.

    Returns the settings with the kinds of the features, where they did not say them.
    """
    with_metadata = request.with_guesses or request.of_incumbent
    scanned = _scan(stage, store, settings, request, with_metadata=with_metadata)

    is_known = partial(is_registered, store, settings.model_name)
    with as_data_error(_source(settings)):
        settings = fold.with_kinds(stage, scanned, settings)
        counts = fold.fold(stage, scanned, settings, request, is_known)
        if not scanned.columns.leave_out_metadata or not fold.needs_metadata(stage, settings):
            return counts, settings
        log.info("What some events lack may stand in their metadata: reading it")
        scanned = _scan(stage, store, settings, request, with_metadata=True)
        settings = fold.with_kinds(stage, scanned, settings)
        return fold.fold(stage, scanned, settings, request, is_known), settings


def _scan(
    stage: Stage, store: Store, settings: Settings, request: LogRequest, *, with_metadata: bool
) -> Scanned:
    source = settings.log.source
    if source == STORAGE:
        source = str(store.download(STORED_LOG[0], STORED_LOG[1], stage.folder / STORED_LOG[1]))
    if source == TABLE:
        return scan.scan_frames(stage, _frames(store, settings, request), settings, request)
    return scan.scan_file(stage, Path(source), settings, request, with_metadata=with_metadata)


def _frames(store: Store, settings: Settings, request: LogRequest) -> Iterator[pd.DataFrame]:
    """The rows to learn, the error samples that are older than those, and rows of the future."""
    tolerance = timedelta(minutes=settings.log.future_tolerance_minutes)
    end = request.now + tolerance + timedelta(microseconds=1)
    start, model_name = request.learn_from or _EPOCH, settings.model_name
    if start < end:
        window = LookbackWindow(start=start, end=end)
        yield from store.read_events(window, model_name=model_name)
    yield from store.read_events(request.ahead, model_name=model_name)
    yield from store.read_events(request.far_ahead, model_name=model_name, labelled_only=False)
    older_until = min(start, request.window.end)
    if older_until <= request.window.start:
        return
    percent = settings.log.confidence_unit == "percent"
    yield store.read_error_samples(
        LookbackWindow(start=request.window.start, end=older_until),
        model_name=model_name,
        confidence_threshold=settings.run.confidence_threshold * (100 if percent else 1),
        model_ids=request.model_ids,
    )


def _count_table(store: Store, settings: Settings, request: LogRequest) -> dict[date, int]:
    if request.count_from is None or request.count_from >= request.now:
        return {}
    window = LookbackWindow(start=request.count_from, end=request.now + timedelta(microseconds=1))
    return store.count_labelled(window, model_name=settings.model_name)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Written:
    labelled_rows: int
    report: LoadReport
    days: dict[date, int]
    by_class: tuple[ClassCount, ...]


def _write(
    stage: Stage, settings: Settings, counts: Counts, files: LogFiles, request: LogRequest
) -> _Written:
    files.rejected.unlink(missing_ok=True)
    if counts.bad:
        stage.write(written.rejected_query(), files.rejected)
    files.unusable.unlink(missing_ok=True)
    if counts.unusable:
        stage.write(written.unusable_query(), files.unusable)
    report = LoadReport(
        source=settings.log.source,
        rejects_path=str(files.rejected) if counts.bad else None,
        unusable_path=str(files.unusable) if counts.unusable else None,
        **{name: getattr(counts, name) for name in Counts.__slots__},
    )
    if _has_too_many_bad(report, settings):
        raise _too_many_bad(stage, report, settings, keeps_files=request.keeps_files)
    stage.write(
        written.table_query(settings, "is_error"), files.errors, written.table_names(settings)
    )
    learned, also, guesses = "to_learn AND fault IS NULL", request.also, request.with_guesses
    of_incumbent = request.of_incumbent
    query = written.table_query(
        settings, learned, also, of_incumbent=of_incumbent, with_guesses=guesses
    )
    names = written.table_names(settings, also, of_incumbent=of_incumbent)
    names += [GUESS] if guesses else []
    stage.write(query, files.labelled, names)
    return _Written(
        labelled_rows=counts.labelled - counts.unusable,
        report=report,
        days={} if settings.log.source == TABLE else fold.labelled_by_day(stage),
        by_class=count_by_class(stage, request.now),
    )


def _read_csv(path: Path, features: Sequence[str]) -> pd.DataFrame:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    for name in ("confidence", *features):
        # DuckDB writes the shortest text that reads back as the same number; so must we read.
        numbers = [float(text) if text else np.nan for text in frame[name]]
        frame[name] = np.asarray(numbers, dtype=np.float64)
    return frame.assign(is_error=frame["is_error"] == "true")


def _has_too_many_bad(report: LoadReport, settings: Settings) -> bool:
    return report.rows > 0 and report.bad / report.rows > settings.log.max_bad_rows


def _too_many_bad(
    stage: Stage, report: LoadReport, settings: Settings, *, keeps_files: bool
) -> DataError:
    bad = {
        reason: count for reason, count in report.reasons.items() if not reason.startswith(UNUSABLE)
    }
    commonest = ", ".join(f"{reason} ({n})" for reason, n in list(bad.items())[:REASONS_SHOWN])
    if keeps_files:
        where = f"They are listed in {report.rejects_path}."
    else:
        where = _first_bad(stage, is_table=settings.log.source == TABLE)
    return DataError(
        f"{report.bad} of {report.rows} rows of {report.source} are bad "
        f"({report.bad / report.rows:.1%}, log.max_bad_rows allows "
        f"{settings.log.max_bad_rows:.1%}): {commonest}.",
        hint=where + reasons_hint(bad, settings),
    )


def _first_bad(stage: Stage, *, is_table: bool) -> str:
    """Which rows to look at, of a load whose list goes with its folder."""
    shown = []
    for row, event_id, reason in stage.run(written.first_rejected_query(ROWS_SHOWN)):
        event = "" if event_id is None else f"event {event_id}"
        name = f"row {row} ({event})" if event else f"row {row}"
        # The rows of a table have no numbers of their own.
        shown.append(f"{event if is_table and event else name}: {reason}")
    return f"The first of them: {'; '.join(shown)}."


def reasons_hint(reasons: Collection[str], settings: Settings) -> str:
    """What to do about bad rows, for the reasons of which the cause is known."""
    hints = [text for start, text in REASON_HINTS.items()
             if any(reason.startswith(start) for reason in reasons)]  # fmt: skip
    if any(reason.endswith(" label") for reason in reasons):
        hints.append(Labels.of(settings.data).hint())
    return "".join(f" {hint}" for hint in hints)


def _log_report(report: LoadReport) -> None:
    log.info(
        "%s: %d rows: %d labelled, %d error samples, %d pending, %d outside, %d folded, "
        "%d of other models, %d bad",
        report.source,
        report.rows,
        report.labelled,
        report.errors,
        report.pending,
        report.outside,
        report.folded,
        report.other_model,
        report.bad,
    )
    for reason, count in report.reasons.items():
        example = report.examples.get(reason)
        shown = "" if example is None else f", for example event {example}"
        log.warning("%d rows: %s%s", count, reason, shown)
