"""Training data: a CSV (also gzip) or a frame with the configured columns, checked."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml_pipeline.config.data import DataSettings
from ml_pipeline.config.defaults import MATCH_ID
from ml_pipeline.config.kind import Kind
from ml_pipeline.datasets.csv_file import CsvFile
from ml_pipeline.datasets.duckdb_session import connect, exact_file, parquet_names
from ml_pipeline.datasets.features import (
    SHOWN,
    Inputs,
    check_usable,
    content,
    joined,
    matrix,
    parted,
    read_rows,
)
from ml_pipeline.datasets.kinds import resolved
from ml_pipeline.datasets.served.answers import (
    Answers,
    answers_of,
    predicted_days,
    rows_of_line,
)
from ml_pipeline.datasets.served.incumbents import with_shares
from ml_pipeline.datasets.times import read_times
from ml_pipeline.errors import DataError
from ml_pipeline.store.inputs.columns import listed, named
from ml_pipeline.store.inputs.incumbent_columns import classes_read, is_answer_column, share_columns
from ml_pipeline.store.inputs.labels import Labels, is_blank

BUILTIN = "builtin"
# The results of the store's log, which `train` reads from the store.
LOG = "log"
PARQUET = (".parquet", ".pq")
EVENT_ID, KNOWN_AT = "event_id", "known_at"
# A row without a group is a group of its own, by a name that no group has.
ALONE = "\0row "
# The router's example of 0.1.0 names a time that its prompts do not have; settings that are in use
# go on working.
_OF_AN_EXAMPLE = ("time_column", "created_at")

log = logging.getLogger("dataset")


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """Inputs to train on: `features` as `features.read_rows` has them, `labels` n texts.

    `times` (n,) UTC or None, `groups` (n,) texts or None (rows of one group stay together; a name
    that starts with ALONE is that of a row without a group). `kinds` are those of the features by
    name, in their order; empty where nobody has read them from a frame: then all are numbers.

    Of rows that a run writes from the log also: `predicted` (n,) the UTC days on which they were
    predicted, proleptic ordinals, that of the outcome where it is not known; `of_line` (n,) whether
    the line that learns them answered; `answers`, which `served` reads. None of other files.
    """

    features: Inputs
    labels: NDArray[np.str_]
    times: pd.Series | None
    groups: NDArray[np.str_] | None
    frame: pd.DataFrame
    source: str
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    predicted: NDArray[np.int64] | None = None
    of_line: NDArray[np.bool_] | None = None
    answers: Answers | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def served(self, classes: Sequence[str]) -> NDArray[np.float64] | None:
        """What people were answered, (n, K) in the order of `classes`; see `Answers.table`.

        NaN in rows of which it was not logged; None where the file has no such column.
        """
        return None if self.answers is None else self.answers.table(classes)

    @property
    def column_kinds(self) -> tuple[Kind, ...]:
        """The kind of each column of numbers; empty where all are numbers."""
        return tuple(self.kinds.values())

    def digest(self) -> str:
        """`sha256:` + hex over features and labels in their order."""
        chain = hashlib.sha256(content(self.features))
        chain.update("\n".join(self.labels.tolist()).encode())
        return "sha256:" + chain.hexdigest()

    def take(self, rows: NDArray[np.int64]) -> Dataset:
        """Some of the rows, in that order."""
        return replace(
            self,
            features=self.features[rows],
            labels=self.labels[rows],
            times=None if self.times is None else self.times.iloc[rows].reset_index(drop=True),
            groups=None if self.groups is None else self.groups[rows],
            frame=self.frame.iloc[rows].reset_index(drop=True),
            predicted=None if self.predicted is None else self.predicted[rows],
            of_line=None if self.of_line is None else self.of_line[rows],
            answers=None if self.answers is None else self.answers.take(rows),
        )

    def preceded_by(self, past: Dataset | None) -> Dataset:
        """The rows to learn with those of another file before them.

        Times, groups and all else that is known of single rows are gone.
        """
        if past is None:
            return self
        return replace(
            self,
            features=np.vstack([past.features, self.features]),
            labels=np.concatenate([past.labels, self.labels]),
            times=None,
            groups=None,
            frame=pd.DataFrame(index=range(len(past) + len(self))),
            predicted=None,
            of_line=None,
            answers=None,
        )


def read_dataset(dataset: str | Path, settings: DataSettings) -> Dataset:
    """Read a training CSV; `builtin` is the bundled sample.

    Raises DataError naming what is missing or wrong and in which rows.
    """
    return from_frame(read_frame(dataset), settings, source=source_name(dataset))


def source_name(dataset: str | Path) -> str:
    """What training data is called in messages."""
    return "the bundled sample" if str(dataset) == BUILTIN else str(Path(dataset))


def read_frame(dataset: str | Path) -> pd.DataFrame:
    """Every cell of training data as text. Raises DataError."""
    if str(dataset) == BUILTIN:
        packaged = resources.files("ml_pipeline") / "data" / "training_dataset.csv"
        with resources.as_file(packaged) as path:
            return read_csv(path)
    if str(dataset) == LOG:
        raise DataError(
            "data.training_dataset is the store's log, which only `train` reads.",
            hint="`ml-pipeline train --register` makes a first model of it.",
        )
    return read_csv(Path(dataset))


def read_csv(path: Path) -> pd.DataFrame:
    """Read every cell as text; raise DataError for a file that is missing, empty or broken.

    A Parquet file does as well as a CSV.
    """
    if path.suffix in PARQUET and path.exists():
        return _read_parquet(path)
    frame = CsvFile.opened(path).frame()
    if frame.empty:
        raise DataError(f"{path} has a header and no rows.")
    return frame


def _read_parquet(path: Path) -> pd.DataFrame:
    import duckdb

    try:
        with connect() as database:
            database.execute("SET TimeZone = 'UTC'")
            cells = f"coalesce(COLUMNS(*)::VARCHAR, '') FROM read_parquet({exact_file(path)})"
            frame: pd.DataFrame = database.execute(f"SELECT {cells}").df()
            frame.columns = pd.Index(parquet_names(database, path))
    except duckdb.Error as error:
        raise DataError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if frame.empty:
        raise DataError(f"{path} holds no rows.")
    return frame


def from_frame(
    frame: pd.DataFrame, settings: DataSettings, *, source: str, whole: bool = True
) -> Dataset:
    """Check a frame of texts and turn it into a Dataset.

    A feature without any value is refused only in a `whole` file.
    """
    wanted = (settings.target, settings.time_column, settings.group_column, *settings.inputs)
    wanted = wanted if settings.id_column == MATCH_ID else (*wanted, settings.id_column)
    frame = named(frame, wanted, source)
    if settings.target not in frame.columns:
        raise DataError(
            f"{source} has no column {settings.target!r} (data.target).",
            hint=f"It has: {listed(list(frame.columns))}.",
        )
    time_column = _named(frame, "time_column", settings.time_column, source)
    group_column = _named(frame, "group_column", settings.group_column, source)
    if group_column is None and settings.group_column == MATCH_ID != settings.id_column:
        # Nobody says otherwise: the rows of one id belong together.
        group_column = settings.id_column if settings.id_column in frame.columns else None
    if settings.unlabelled_rows == "skip":
        frame = _labelled(frame, settings, source)
    settings = resolved(settings, frame, source)
    incumbents = classes_read(settings.features)
    if incumbents:
        frame = with_shares(frame, incumbents, Labels.of(settings), source)
    features = read_rows(frame, settings.features, settings.text_column, settings.kinds)
    if whole:
        check_usable(parted(features)[0], settings.features)
    times = _times(frame, time_column, source)
    # Another file may have columns of these names that mean something else.
    is_log = time_column == KNOWN_AT and EVENT_ID in frame.columns
    return Dataset(
        features=features,
        labels=read_labels(frame[settings.target], settings, source),
        times=times,
        groups=groups_of(frame, group_column),
        frame=frame,
        source=source,
        kinds=settings.kinds,
        predicted=predicted_days(frame, times, source) if is_log and times is not None else None,
        of_line=rows_of_line(frame) if is_log else None,
        answers=answers_of(frame, settings, source) if is_log else None,
    )


def _labelled(frame: pd.DataFrame, settings: DataSettings, source: str) -> pd.DataFrame:
    """The rows that have a label, of which there has to be one."""
    names = set(Labels.of(settings).names)
    texts = frame[settings.target].fillna("").astype(str)
    empty = [text for text in texts.unique() if is_blank(text) and text.strip() not in names]
    has_label = ~texts.isin(empty)
    if not has_label.any():
        raise DataError(f"{source}: {settings.target} is empty in every row.")
    skipped = int((~has_label).sum())
    if skipped:
        log.warning("%s: %d rows have no %s and are not learned", source, skipped, settings.target)
    return frame[has_label].reset_index(drop=True)


def read_labels(column: pd.Series, settings: DataSettings, source: str) -> NDArray[np.str_]:
    """The labels of a column, as the classes are called.

    Raises DataError naming what is no label, in which rows, and the labels that are known.
    """
    labels = Labels.of(settings)
    texts = column.fillna("").astype(str)
    known = texts.map({text: labels.find(text) or "" for text in texts.unique()})
    bad = (known == "").to_numpy()
    if bad.any():
        rows = ", ".join(str(row) for row in np.flatnonzero(bad)[:SHOWN] + 1)
        shown = ", ".join(sorted({repr(text) for text in texts[bad].head(50)})[:SHOWN])
        has_empty = any(is_blank(text) for text in texts[bad].unique())
        skip = " data.unlabelled_rows: skip leaves out rows without a label." if has_empty else ""
        raise DataError(
            f"{source}: {column.name} is {shown} in {int(bad.sum())} rows (row {rows}).",
            hint=labels.hint() + skip,
        )
    return np.asarray(known.to_numpy(dtype=str))


def _times(frame: pd.DataFrame, column: str | None, source: str) -> pd.Series | None:
    if column is None:
        return None
    return read_times(frame[column], source)


def _named(frame: pd.DataFrame, setting: str, column: str | None, source: str) -> str | None:
    """The column that a setting names, None for one that is there by default and not in the data.

    Nor has a training file the log's event_id, which says that each row is a group of its own.

    Raises DataError for one that somebody has named and the data lacks: rows would be held out by
    chance in place of by time, or a group would be both learned and judged on.
    """
    if column is None or column in frame.columns:
        return column
    if column == DataSettings.model_fields[setting].default or column == EVENT_ID:
        return None
    if (setting, column) == _OF_AN_EXAMPLE:
        log.warning(
            "%s has no column %s (data.%s): rows are not cut in time", source, column, setting
        )
        return None
    raise DataError(
        f"{source} has no column {column!r} (data.{setting}).",
        hint=f"It has: {listed(list(frame.columns))}. Name one of them, or set "
        f"data.{setting} to null.",
    )


def groups_of(frame: pd.DataFrame, column: str | None) -> NDArray[np.str_] | None:
    """The group of each row, (n,), or None where the frame has no such column."""
    if column is None or column not in frame.columns:
        return None
    texts = frame[column].fillna("").astype(str)
    alone = pd.Series([f"{ALONE}{number}" for number in range(len(texts))], index=texts.index)
    return np.asarray(texts.where(texts != "", alone).to_numpy(dtype=str))


def with_incumbent(
    data: Dataset, settings: DataSettings, classes: Sequence[str] | None = None
) -> Dataset:
    """The rows with the incumbent's probabilities of the classes after their features.

    The classes are those of `class_order` where none are given. Raises DataError where the file
    does not tell them, see `with_shares`.
    """
    names = list(data.kinds) or settings.features
    if classes_read(names):
        return data
    classes = class_order(data.labels.tolist(), settings) if classes is None else classes
    frame = with_shares(data.frame, classes, Labels.of(settings), data.source)
    numbers, written = parted(data.features)
    own = [place for place, name in enumerate(names) if not is_answer_column(name)]
    wide = np.hstack([numbers[:, own], matrix(frame, share_columns(classes))])
    kinds = {names[place]: data.kinds.get(names[place], Kind.NUMBER) for place in own}
    kinds |= dict.fromkeys(share_columns(classes), Kind.NUMBER)
    return replace(data, features=joined(wide, written), frame=frame, kinds=kinds)


def class_order(labels: Sequence[str], settings: DataSettings) -> list[str]:
    """The model's class set: the configured one, else the labels found, sorted."""
    if settings.classes is not None:
        return list(settings.classes)
    return sorted(set(labels))
