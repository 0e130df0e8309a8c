"""Training data: a CSV (also gzip) with the configured columns, checked and cut in time."""

from __future__ import annotations

import csv
import gzip
import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml_pipeline.config.data import DataSettings
from ml_pipeline.datasets.features import SHOWN, Inputs, check_usable, content, parted, read_rows
from ml_pipeline.errors import DataError

BUILTIN = "builtin"
PARQUET = (".parquet", ".pq")


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """Inputs to train on: `features` as `features.read_rows` has them, `labels` n texts.

    `times` (n,) UTC or None, `groups` (n,) texts or None (rows of one group stay together).
    """

    features: Inputs
    labels: NDArray[np.str_]
    times: pd.Series | None
    groups: NDArray[np.str_] | None
    frame: pd.DataFrame
    source: str

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """`sha256:` + hex over features and labels in their order."""
        chain = hashlib.sha256(content(self.features))
        chain.update("\n".join(self.labels.tolist()).encode())
        return "sha256:" + chain.hexdigest()

    def take(self, rows: NDArray[np.int64]) -> Dataset:
        """Some of the rows, in that order."""
        return Dataset(
            features=self.features[rows],
            labels=self.labels[rows],
            times=None if self.times is None else self.times.iloc[rows].reset_index(drop=True),
            groups=None if self.groups is None else self.groups[rows],
            frame=self.frame.iloc[rows].reset_index(drop=True),
            source=self.source,
        )


def read_dataset(dataset: str | Path, settings: DataSettings) -> Dataset:
    """Read a training CSV; `builtin` is the bundled sample.

    Raises DataError naming what is missing or wrong and in which rows.
    """
    if str(dataset) == BUILTIN:
        packaged = resources.files("ml_pipeline") / "data" / "training_dataset.csv"
        with resources.as_file(packaged) as path:
            return from_frame(read_csv(path), settings, source="the bundled sample")
    path = Path(dataset)
    return from_frame(read_csv(path), settings, source=str(path))


def read_csv(path: Path) -> pd.DataFrame:
    """Read every cell as text; raise DataError for a file that is missing, empty or broken.

    A Parquet file does as well as a CSV.
    """
    hint = "Give a CSV with a header line."
    if path.suffix in PARQUET and path.exists():
        return _read_parquet(path)
    try:
        frame = pd.read_csv(path, dtype=str, encoding="utf-8-sig", keep_default_na=False)
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.", hint=hint) from None
    except pd.errors.EmptyDataError:
        raise DataError(f"{path} is empty.", hint=hint) from None
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise DataError(f"{path} is a truncated or damaged gzip file.") from None
    except (pd.errors.ParserError, UnicodeDecodeError, csv.Error, OSError) as error:
        raise DataError(f"{path} cannot be read as CSV: {str(error).strip()}.") from None
    if not isinstance(frame.index, pd.RangeIndex):
        # pandas takes the surplus cells at the start of each row for row names.
        raise DataError(f"{path} has rows with more cells than its header has names.")
    if frame.empty:
        raise DataError(f"{path} has a header and no rows.")
    return frame


def _read_parquet(path: Path) -> pd.DataFrame:
    import duckdb

    try:
        with duckdb.connect() as database:
            database.execute("SET TimeZone = 'UTC'")
            rows = database.read_parquet(str(path))
            frame: pd.DataFrame = rows.project("coalesce(COLUMNS(*)::VARCHAR, '')").df()
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
    if settings.target not in frame.columns:
        raise DataError(
            f"{source} has no column {settings.target!r} (data.target).",
            hint=f"It has: {', '.join(map(str, frame.columns[:20]))}.",
        )
    features = read_rows(frame, settings.features, settings.text_column)
    if whole:
        check_usable(parted(features)[0], settings.features)
    return Dataset(
        features=features,
        labels=_labels(frame[settings.target], settings, source),
        times=_times(frame, settings.time_column, source),
        groups=_groups(frame, settings.group_column),
        frame=frame,
        source=source,
    )


def _labels(column: pd.Series, settings: DataSettings, source: str) -> NDArray[np.str_]:
    texts = column.fillna("").astype(str).str.strip()
    accepted = settings.label_map()
    # Another case is no other label, unless the config says that it is one.
    folded = {text.lower(): label for text, label in accepted.items()} | accepted
    known = texts.map(
        lambda text: folded.get(text) or folded.get(text.lower(), "" if settings.classes else text)
    )
    bad = (known == "").to_numpy()
    if bad.any():
        rows = ", ".join(str(row) for row in np.flatnonzero(bad)[:SHOWN] + 1)
        shown = ", ".join(sorted({repr(text) for text in texts[bad].head(50)})[:SHOWN])
        raise DataError(
            f"{source}: {settings.target} is {shown} in {int(bad.sum())} rows (row {rows}).",
            hint=f"Known labels: {', '.join(accepted)} (data.labels)."
            if settings.classes
            else "Any label will do, but not an empty one.",
        )
    return np.asarray(known.to_numpy(dtype=str))


def _times(frame: pd.DataFrame, column: str | None, source: str) -> pd.Series | None:
    if column is None or column not in frame.columns:
        return None
    times = pd.to_datetime(frame[column], utc=True, errors="coerce", format="ISO8601")
    if times.isna().any():
        rows = np.flatnonzero(times.isna().to_numpy())[:SHOWN]
        shown = ", ".join(f"{frame[column].iloc[row]!r} (row {row + 1})" for row in rows)
        raise DataError(f"{source}: {column} is not an ISO 8601 time: {shown}.")
    return times.reset_index(drop=True)


def _groups(frame: pd.DataFrame, column: str | None) -> NDArray[np.str_] | None:
    if column is None or column not in frame.columns:
        return None
    texts = frame[column].fillna("").astype(str)
    # A row without a group is a group of its own.
    alone = pd.Series([f"row {number}" for number in range(len(texts))], index=texts.index)
    return np.asarray(texts.where(texts != "", alone).to_numpy(dtype=str))


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Row numbers to train on and to hold out; no group is in both parts."""

    train: NDArray[np.int64]
    holdout: NDArray[np.int64]


def split(data: Dataset, *, test_size: float, seed: int) -> Split:
    """Hold out the last rows in time, or a stratified random part when there is no time.

    Whole groups move together. Raises DataError when one part would be empty.
    """
    count = max(1, round(len(data) * test_size))
    if len(data) - count < 1:
        raise DataError(f"{data.source} has {len(data)} rows: too few to hold any out.")
    held = np.zeros(len(data), dtype=bool)
    if data.times is not None:
        order = np.argsort(data.times.to_numpy(), kind="stable")
        held[order[-count:]] = True
    else:
        held = _drawn(data, count, seed)
    if data.groups is not None:
        held = _whole_groups(data.groups, held)
    parts = Split(train=np.flatnonzero(~held), holdout=np.flatnonzero(held))
    if not len(parts.train) or not len(parts.holdout):
        raise DataError(f"{data.source}: all rows belong to one group, none can be held out.")
    assert_disjoint(data.groups, parts)
    return parts


def _whole_groups(groups: NDArray[np.str_], held: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Rows of a group that is in both parts go where its first row is: to the past."""
    trained = set(groups[~held].tolist())
    return np.asarray(held & [group not in trained for group in groups])


def _drawn(data: Dataset, count: int, seed: int) -> NDArray[np.bool_]:
    """A random part of about `count` rows: single rows, or whole groups by their first label."""
    if data.groups is None:
        drawn = _stratified(data.labels, count, seed)
        return np.isin(np.arange(len(data)), drawn)
    names, first = np.unique(data.groups, return_index=True)
    share = max(1, round(count * len(names) / len(data)))
    drawn = _stratified(data.labels[first], share, seed)
    return np.isin(data.groups, names[drawn])


def _stratified(labels: NDArray[np.str_], count: int, seed: int) -> NDArray[np.int64]:
    """Row numbers of a random part of about `count` rows with every class in proportion.

    At least one row of each class stays outside.
    """
    chosen: list[NDArray[np.int64]] = []
    random = np.random.default_rng(seed)
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        share = min(round(count * len(rows) / len(labels)), len(rows) - 1)
        chosen.append(rows[:share])
    picked = np.concatenate(chosen)
    if len(picked):
        return picked
    largest = max(np.unique(labels), key=lambda label: int((labels == label).sum()))
    return np.flatnonzero(labels == largest)[-1:]


def without_shared_groups(groups: NDArray[np.str_] | None, parts: Split) -> Split:
    """Take rows of a group that is learned out of the holdout."""
    if groups is None:
        return parts
    kept = parts.holdout[~np.isin(groups[parts.holdout], groups[parts.train])]
    cleaned = Split(train=parts.train, holdout=kept)
    assert_disjoint(groups, cleaned)
    return cleaned


def assert_disjoint(groups: NDArray[np.str_] | None, parts: Split) -> None:
    """Raise DataError when a row or a group is both learned and judged on."""
    shared = set(parts.train.tolist()) & set(parts.holdout.tolist())
    if groups is not None:
        shared |= set(groups[parts.train].tolist()) & set(groups[parts.holdout].tolist())
    if shared:
        shown = ", ".join(map(str, sorted(map(str, shared))[:SHOWN]))
        raise DataError(f"Leakage: {shown} would be both learned and judged on.")


def class_order(labels: Sequence[str], settings: DataSettings) -> list[str]:
    """The model's class set: the configured one, else the labels found, sorted."""
    if settings.classes is not None:
        return list(settings.classes)
    return sorted(set(labels))
