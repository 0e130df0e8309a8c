"""Which models answered what stands in the log: registered ones, and those nobody here trained."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, Self

import pandas as pd

from ml_pipeline.config.settings import Settings
from ml_pipeline.evaluation_log.answering.registered import (
    MOST_ASKED,
    is_called_like_ours,
    is_registered,
)
from ml_pipeline.evaluation_log.answering.sentences import UNNAMED
from ml_pipeline.evaluation_log.frames import since, sum_file
from ml_pipeline.evaluation_log.loading import TABLE
from ml_pipeline.store.alerts import TOGETHER, DailyAccuracy
from ml_pipeline.store.contract import ModelRegistry, Store
from ml_pipeline.store.inputs.labels import Labels

_CHUNK: Final = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedModels:
    """The models that gave answers with a known outcome; of each kind the last to answer first.

    `ours` are registered. `theirs` are not: a classifier that somebody trained elsewhere, UNNAMED
    for answers that name no model. `resembling` are not registered either, but called as our own
    training calls its models: they are of another store, or were never brought back into this one.
    `others` are those whom settings that name some do not name.
    `rows` counts the results of `theirs`.
    """

    ours: tuple[str, ...] = ()
    theirs: tuple[str, ...] = ()
    resembling: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    rows: int = 0

    @classmethod
    def of(
        cls,
        store: ModelRegistry,
        settings: Settings,
        days: Iterable[DailyAccuracy],
        *,
        tell_apart: bool = False,
    ) -> Self:
        """From sums by day and model; see `of_counts`."""
        counts = ((day.model_id, day.day.toordinal(), day.evaluated) for day in days)
        return cls.of_counts(store, settings, counts, tell_apart=tell_apart)

    @classmethod
    def of_file(
        cls,
        store: ModelRegistry,
        settings: Settings,
        labelled: Path,
        *,
        left_out: Collection[str] = (),
    ) -> Self:
        """From a file of labelled rows as a run writes it; see `of_counts`.

        Rows of ids that are `left_out` are nobody's.

        Unless the settings say that a classifier of the person's own answers, whoever gave one and
        the same answer with one and the same confidence to everything is none: a filler. Ids that
        were given one answer each are looked at together.
        """
        counts: Counter[tuple[str, str]] = Counter()
        first: dict[str, list[str]] = {}
        classifiers: set[str] = set()
        columns = ["model_id", "known_at", "prediction", "confidence"]
        for chunk in pd.read_csv(
            labelled, usecols=columns, dtype=str, chunksize=_CHUNK, na_filter=False
        ):
            counts.update(zip(chunk["model_id"], chunk["known_at"].str[:10], strict=True))
            answers = chunk[["model_id", "prediction", "confidence"]].drop_duplicates()
            for name, *answer in answers.itertuples(index=False):
                if first.setdefault(name, answer) != answer:
                    classifiers.add(name)
        rows = Counter[str]()
        for (name, _), count in counts.items():
            rows[name] += count
        single = [name for name, count in rows.items() if count == 1]
        if any(first[name] != first[single[0]] for name in single):
            classifiers.update(single)
        return cls.of_counts(
            store,
            settings,
            (
                (model_id or UNNAMED, date.fromisoformat(day).toordinal(), count)
                for (model_id, day), count in counts.items()
                if (settings.incumbent.serves or model_id in classifiers)
                and (model_id or UNNAMED) not in left_out
            ),
        )

    @classmethod
    def of_counts(
        cls,
        store: ModelRegistry,
        settings: Settings,
        counts: Iterable[tuple[str, int, int]],
        *,
        tell_apart: bool = False,
    ) -> Self:
        """From ids, days (ordinals) and how many results each had on that day.

        Ids that the settings name are theirs, whatever their shape.

        A registered model is ours even if the settings name it. What is called as ours are is taken
        for ours unasked, but where it is to be told apart from those of other stores.
        """
        ids, rows = _newest_first(counts)
        named = settings.incumbent.model_ids
        like = {name for name in ids if name not in (named or ()) and is_called_like_ours(name)}
        asked = [name for name in ids if name != UNNAMED and (tell_apart or name not in like)]
        ours = {
            name for name in asked[:MOST_ASKED] if is_registered(store, settings.model_name, name)
        } | (set() if tell_apart else like)
        others = [name for name in ids if name not in ours | like]
        theirs = [name for name in others if named is None or name in named]
        return cls(
            ours=tuple(name for name in ids if name in ours),
            theirs=tuple(theirs),
            resembling=tuple(name for name in ids if name in like - ours),
            others=tuple(name for name in others if name not in theirs),
            rows=sum(rows[name] for name in theirs),
        )

    @property
    def counted_ids(self) -> tuple[str, ...] | None:
        """Whose errors count where theirs are asked for; None, which is everybody's, if all are.

        Beside answers of others those that name no model do not count.
        """
        if self.theirs and not (self.ours or self.resembling or self.others):
            return None
        return tuple(model_id for model_id in self.theirs if model_id != UNNAMED)

    def as_json(self) -> dict[str, Any]:
        """What a run keeps of it."""
        return {
            "theirs": list(self.theirs[:MOST_ASKED]),
            "resembling": list(self.resembling[:MOST_ASKED]),
            "rows": self.rows,
        }


def logged_models(  # noqa: PLR0913 - a log, a part of it, and how closely to look
    store: Store,
    settings: Settings,
    *,
    now: datetime,
    days: float,
    work_dir: Path | None = None,
    tell_apart: bool = False,
) -> LoggedModels:
    """Who answered what became known in the last `days`. Raises DataError, StoreError."""
    window = since(now, days)
    if settings.log.source == TABLE:
        summed = store.sum_days(
            window,
            model_name=settings.model_name,
            confidence_threshold=settings.run.confidence_threshold,
            labels=Labels.of(settings.data),
        )
    else:
        with tempfile.TemporaryDirectory(dir=work_dir) as folder:
            summed = sum_file(store, settings, window, work_dir=Path(folder))
    return LoggedModels.of(store, settings, summed, tell_apart=tell_apart)


def _newest_first(counts: Iterable[tuple[str, int, int]]) -> tuple[list[str], dict[str, int]]:
    """The ids with results, the last to answer first, and how many results each has."""
    rows: dict[str, int] = {}
    last: dict[str, int] = {}
    for model_id, day, count in counts:
        if model_id != TOGETHER and count:
            rows[model_id] = rows.get(model_id, 0) + count
            last[model_id] = max(last.get(model_id, 0), day)
    return sorted(rows, key=lambda name: (-last[name], -rows[name], name)), rows
