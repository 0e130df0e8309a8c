"""Training rows from labels that people gave: the configured table, never the inference log."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from ml_pipeline.config.kind import Kind
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets import dataset, texts
from ml_pipeline.datasets.dataset import Dataset
from ml_pipeline.datasets.features import LARGEST, numbers_of
from ml_pipeline.datasets.kinds import infer_kinds, resolved
from ml_pipeline.datasets.times import parsed_times
from ml_pipeline.errors import DataError
from ml_pipeline.store.contract import GroundTruth as GroundTruthStore
from ml_pipeline.store.inputs.labels import Labels, is_blank

log = logging.getLogger("ground_truth")

_SHOWN: Final = 3
_BLANK: Final = {"", "nan", "none", "null"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TruthReport:
    """What every row of the table became. `unlabelled` rows wait for a person."""

    source: str
    rows: int
    other_model: int
    unlabelled: int
    bad: int
    usable: int
    reasons: dict[str, int]


def read_truth(
    store: GroundTruthStore, settings: Settings, *, also: Sequence[str] = ()
) -> tuple[Dataset, TruthReport]:
    """Every usable row of the configured table, in the order of its time.

    `also` names further columns to take out of the features' JSON. Raises DataError when more than
    `log.max_bad_rows` of the labelled rows are bad, or fewer than
    `training.min_training_samples` are left.
    """
    truth = settings.ground_truth
    frames = list(store.read_table(truth.table, key=truth.id_column))
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    source = f"table {truth.table}"
    least = settings.training.min_training_samples
    if frame.empty:
        raise DataError(f"Insufficient training data: {source} is empty, {least} rows are needed.")
    _require(frame, settings, source)
    rows = len(frame)
    if truth.model_column is not None:
        frame = frame[frame[truth.model_column] == settings.model_name]
    other = rows - len(frame)
    frame = _expanded(frame.reset_index(drop=True), [*settings.data.inputs, *also])
    if settings.data.is_auto and "features" in frame.columns:
        names = list(dict.fromkeys(name for text in frame["features"] for name in _object(text)))
        frame = _expanded(frame, names)
        settings = settings.reading(infer_kinds(frame, names))
    settings = settings.reading(resolved(settings.data, frame, source).kinds)
    faults = _faults(frame, settings)
    bad = faults[(faults != "") & (faults != _UNLABELLED)]
    good = frame[faults == ""].reset_index(drop=True)
    report = TruthReport(
        source=source,
        rows=rows,
        other_model=other,
        unlabelled=int((faults == _UNLABELLED).sum()),
        bad=len(bad),
        usable=len(good),
        reasons=dict(Counter(bad.tolist()).most_common()),
    )
    _check(report, settings, least)
    return dataset.from_frame(good, _data_settings(good, settings), source=source), report


def _require(frame: pd.DataFrame, settings: Settings, source: str) -> None:
    truth = settings.ground_truth
    wanted = {
        "ground_truth.target": truth.target,
        "ground_truth.time_column": truth.time_column,
        "ground_truth.model_column": truth.model_column,
    }
    for name, column in wanted.items():
        if column is not None and column not in frame.columns:
            raise DataError(
                f"{source} has no column {column} ({name}).",
                hint=f"It has: {', '.join(frame.columns)}.",
            )


def _expanded(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The features as columns: those of their own names, else out of `features` (JSON)."""
    missing = [name for name in dict.fromkeys(names) if name not in frame.columns]
    if not missing or "features" not in frame.columns:
        return frame
    objects = [_object(text) for text in frame["features"]]
    wide = frame.copy()
    for name in missing:
        cells = [None if o.get(name) is None else str(o[name]) for o in objects]
        wide[name] = pd.Series(cells, index=frame.index, dtype=object)
    return wide


def _object(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


_UNLABELLED: Final = "no label yet"
_NO_FEATURES: Final = "no features"


def _faults(frame: pd.DataFrame, settings: Settings) -> pd.Series:
    """Why a row cannot be used, '' for a good one."""
    truth, data = settings.ground_truth, settings.data
    faults = pd.Series("", index=frame.index)
    for name in data.features:
        if name not in frame.columns:
            continue
        kind = data.kind(name)
        if kind is not Kind.NUMBER:
            _, is_fault = numbers_of(frame[name], kind)
            faults[is_fault] = f"{name} is no {kind}"
        else:
            numbers = pd.to_numeric(frame[name], errors="coerce")
            written = frame[name].fillna("").str.strip().str.lower()
            is_usable = numbers.astype(float).abs() <= LARGEST
            faults[~is_usable & ~written.isin(_BLANK)] = f"{name} is not a finite number"
    if data.text_column is None:
        faults[_say_nothing(frame, data.features)] = _NO_FEATURES
    if data.text_column is not None and data.text_column in frame.columns:
        unusable = frame[data.text_column].fillna("").map(texts.fault)
        faults[unusable != ""] = f"{data.text_column} " + unusable[unusable != ""]
    if truth.time_column is not None:
        times = parsed_times(frame[truth.time_column])
        faults[times.isna()] = f"{truth.time_column} is not an ISO 8601 time"
    unusable = _label_faults(frame, settings)
    faults[unusable != ""] = unusable[unusable != ""]
    return faults


def _say_nothing(frame: pd.DataFrame, names: Sequence[str]) -> list[bool]:
    """Which rows have no feature at all, neither in a column of its own nor in the JSON.

    Of them a model would learn how often each label is. What is there and empty is a missing value.
    """
    named = [name for name in names if name in frame.columns]
    if not named or "features" not in frame.columns:
        return [False] * len(frame)
    is_empty = (frame[named].fillna("") == "").all(axis=1)
    return [
        empty and _object(text).keys().isdisjoint(named)
        for empty, text in zip(is_empty, frame["features"], strict=True)
    ]


def _label_faults(frame: pd.DataFrame, settings: Settings) -> pd.Series:
    """What is wrong with the labels, '' where nothing is."""
    labels = Labels.of(settings.data)
    written = frame[settings.ground_truth.target].fillna("").astype(str)

    def fault(text: str) -> str:
        if labels.find(text) is not None:
            return ""
        return _UNLABELLED if is_blank(text) else "unknown label"

    return written.map({text: fault(text) for text in written.unique()})


def _data_settings(frame: pd.DataFrame, settings: Settings) -> Any:  # noqa: ANN401 - DataSettings
    truth = settings.ground_truth
    changed = settings.changed(
        {
            "data.target": truth.target,
            "data.time_column": truth.time_column,
            "data.group_column": truth.group_column,
        }
    )
    if truth.group_column is not None and truth.group_column not in frame.columns:
        raise DataError(
            f"table {truth.table} has no column {truth.group_column} (ground_truth.group_column).",
            hint=f"It has: {', '.join(frame.columns)}.",
        )
    return changed.data


def _check(report: TruthReport, settings: Settings, least: int) -> None:
    commonest = ", ".join(f"{why} ({n})" for why, n in list(report.reasons.items())[:_SHOWN])
    labelled = report.bad + report.usable
    if labelled and report.bad / labelled > settings.log.max_bad_rows:
        raise DataError(
            f"{report.bad} of {labelled} labelled rows of {report.source} are bad "
            f"(log.max_bad_rows allows {settings.log.max_bad_rows:.1%}): {commonest}.",
            hint=f"Repair them in the table. {Labels.of(settings.data).hint()}",
        )
    if report.usable < least:
        raise DataError(
            f"Insufficient training data: {report.usable} usable rows of {report.source} "
            f"({report.unlabelled} have no label yet), {least} are needed.",
            hint="Collect more labels, or lower training.min_training_samples.",
        )
    if report.bad:
        log.warning("%d rows of %s are left out: %s", report.bad, report.source, commonest)
