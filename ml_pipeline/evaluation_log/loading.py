"""Load the evaluation log: the confident errors, and every labelled row to learn.

Errors are the trigger, the seeds' CSV and the diagnosis; what is learned is every labelled row.
The log is the store's table or a file (`log.source`); both pass the same validation.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pandas as pd

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.duckdb_session import as_data_error
from ml_pipeline.errors import ConfigError, DataError, StoreCorrupt
from ml_pipeline.evaluation_log import fold, scan
from ml_pipeline.evaluation_log.classes.counting import count_by_class
from ml_pipeline.evaluation_log.classes.counts import ClassCount
from ml_pipeline.evaluation_log.feature_rules import inputs_hint
from ml_pipeline.evaluation_log.fold import NO_CLASS, UNUSABLE, Counts
from ml_pipeline.evaluation_log.rules import GUESS, REASON_HINTS, LogRequest
from ml_pipeline.evaluation_log.stage import MEMORY_STEPS, LogFiles, Scanned, Stage, open_stage
from ml_pipeline.store.contract import Store
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.lineage.open_rows import OpenRows
from ml_pipeline.store.records import LookbackWindow, ModelVersion, day_start

log = logging.getLogger("data_loader")

TABLE: Final = "table"
STORAGE: Final = "storage"
STORED_LOG: Final = ("model-artifacts", "evaluation_log.csv")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_REASONS_SHOWN: Final = 3
_CHUNK: Final = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadReport:
    """What every row of the log became.

    `outside`: outcomes known outside the time to learn; old errors among them still count as
    errors. `labelled` rows are learned, but for the `unusable` ones among them, which have no
    features to learn from or an outcome that the model does not know. `reasons` counts bad and
    unusable rows, `examples` names an event for each reason where one is known; the bad ones stand
    in the file at `rejects_path`, the unusable ones in that at `unusable_path`.
    """

    source: str
    rows: int
    bad: int
    folded: int
    other_model: int
    pending: int
    outside: int
    labelled: int
    unusable: int
    errors: int
    reasons: dict[str, int]
    rejects_path: str | None
    examples: dict[str, str] = field(default_factory=dict)
    unusable_path: str | None = None

    def __post_init__(self) -> None:
        parts = ("bad", "folded", "other_model", "pending", "outside", "labelled")
        counted = sum(getattr(self, part) for part in parts)
        if counted != self.rows:
            numbers = ", ".join(f"{part} {getattr(self, part)}" for part in parts)
            raise StoreCorrupt(
                f"The rows of {self.source} do not add up: {numbers} make {counted}, "
                f"not {self.rows}.",
                hint="The log changed while it was read, or this is a fault of the program.",
            )

    def as_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return asdict(self)

    def unusable_words(self) -> str:
        """What is wrong with the rows that cannot be learned, each fault with an event for it."""
        found = {
            reason: count for reason, count in self.reasons.items() if reason.startswith(UNUSABLE)
        }
        shown = [
            f"{reason.removeprefix(UNUSABLE)} ({count}, for example event {self.examples[reason]})"
            for reason, count in list(found.items())[:_REASONS_SHOWN]
        ]
        return ", ".join(shown)

    @property
    def of_new_classes(self) -> int:
        """Rows of a class that the model does not know: they wait for one that does."""
        return self.reasons.get(UNUSABLE + NO_CLASS, 0)

    def is_usable(self, settings: Settings) -> bool:
        """Whether few enough rows cannot be learned; those of new classes wait and do not count."""
        faulty = self.unusable - self.of_new_classes
        return faulty <= 1 or faulty / self.labelled <= settings.log.max_bad_rows

    def require_usable(self, settings: Settings) -> None:
        """Raise DataError when too much cannot be learned; a single row is only set aside."""
        faulty = self.unusable - self.of_new_classes
        if self.is_usable(settings):
            return
        raise DataError(
            f"{faulty} of {self.labelled} results to learn from {self.source} cannot be "
            f"learned ({faulty / self.labelled:.1%}, log.max_bad_rows allows "
            f"{settings.log.max_bad_rows:.1%}): {self.unusable_words()}.",
            hint=f"Correct what logs them, or raise log.max_bad_rows to learn the rest: they are "
            f"listed in {self.unusable_path}.{inputs_hint(self.reasons)}",
        )


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
    _check_names(settings)
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


def read_labelled(store: Store, settings: Settings, folder: Path, *, now: datetime) -> pd.DataFrame:
    """Every usable labelled row known until `now`, numbers as floats, everything else as text.

    `confidence` is a float and `is_error` a boolean. All rows are held in memory.
    """
    path = load_known(store, settings, None, folder, now=now)
    return _read_csv(path, settings.data.number_features)


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
) -> Path:
    """Every labelled row until `now` that `model` can learn, in order; those `since` a day.

    `read_at` and `also` as in `LogRequest`.
    """
    request = LogRequest(
        now=now,
        window=LookbackWindow.ending(now, days=settings.run.lookback_days),
        learn_from=None if since is None else day_start(since),
        model_ids=None,
        classes=None if model is None else model.lineage.classes,
        read_at=read_at,
        also=tuple(also),
    )
    return load_log(store, settings, request, folder).labelled_path


def _source(settings: Settings) -> str:
    return "the table" if settings.log.source == TABLE else settings.log.source


def _check_names(settings: Settings) -> None:
    names = fold.table_names(settings)
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
    scanned = _scan(stage, store, settings, request, with_metadata=request.with_guesses)
    with as_data_error(_source(settings)):
        settings = fold.with_kinds(stage, scanned, settings)
        counts = fold.fold(stage, scanned, settings, request)
        if not scanned.columns.leave_out_metadata or not fold.needs_metadata(stage, settings):
            return counts, settings
        log.info("What some events lack may stand in their metadata: reading it")
        scanned = _scan(stage, store, settings, request, with_metadata=True)
        settings = fold.with_kinds(stage, scanned, settings)
        return fold.fold(stage, scanned, settings, request), settings


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
        stage.write(fold.rejected_query(), files.rejected)
    files.unusable.unlink(missing_ok=True)
    if counts.unusable:
        stage.write(fold.unusable_query(), files.unusable)
    report = LoadReport(
        source=settings.log.source,
        rejects_path=str(files.rejected) if counts.bad else None,
        unusable_path=str(files.unusable) if counts.unusable else None,
        **{name: getattr(counts, name) for name in Counts.__slots__},
    )
    _check_share(report, settings)
    stage.write(fold.table_query(settings, "is_error"), files.errors, fold.table_names(settings))
    learned, also, guesses = "to_learn AND fault IS NULL", request.also, request.with_guesses
    query = fold.table_query(settings, learned, also, with_guesses=guesses)
    names = [*fold.table_names(settings, also), *([GUESS] if guesses else [])]
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


def _check_share(report: LoadReport, settings: Settings) -> None:
    if not report.rows or report.bad / report.rows <= settings.log.max_bad_rows:
        return
    bad = {
        reason: count for reason, count in report.reasons.items() if not reason.startswith(UNUSABLE)
    }
    commonest = ", ".join(f"{reason} ({n})" for reason, n in list(bad.items())[:_REASONS_SHOWN])
    raise DataError(
        f"{report.bad} of {report.rows} rows of {report.source} are bad "
        f"({report.bad / report.rows:.1%}, log.max_bad_rows allows "
        f"{settings.log.max_bad_rows:.1%}): {commonest}.",
        hint=f"They are listed in {report.rejects_path}.{reasons_hint(bad, settings)}",
    )


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
