"""Which models answered what stands in the log: registered ones, and those nobody here trained."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from textwrap import shorten
from typing import Any, Final, Self

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import NotFound
from ml_pipeline.evaluation_log.frames import since, sum_file
from ml_pipeline.evaluation_log.loading import TABLE
from ml_pipeline.store.alerts import TOGETHER, DailyAccuracy
from ml_pipeline.store.contract import ModelRegistry, Store
from ml_pipeline.store.inputs.labels import Labels

# The id under which answers without one are summed.
UNNAMED: Final = "unknown"
# How runs (`adaptive-20260314-020000-0f3a5c7e`) and `train` (`logisticregression_20260314_…`) name
# the models that they make.
_OF_OUR_SHAPE: Final = re.compile(
    r"[a-z]+(?:[-_][a-z]+)*[-_][0-9]{8}[-_][0-9]{6}[-_][0-9a-f]{8}", re.IGNORECASE
)
# As many ids are asked for in the registry; of a log that names more the newest.
MOST_ASKED: Final = 100
_SHOWN: Final = 3
_LONGEST: Final = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedModels:
    """The models that gave answers with a known outcome; of each kind the last to answer first.

    `ours` are registered. `theirs` are not: a classifier that somebody trained elsewhere, UNNAMED
    for answers that name no model. `resembling` are not registered either, but called as our own
    training calls its models: they are of another store, or were never brought back into this one.
    `rows` counts the results of `theirs`.
    """

    ours: tuple[str, ...] = ()
    theirs: tuple[str, ...] = ()
    resembling: tuple[str, ...] = ()
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
        """From sums by day and model. Ids that the settings name are theirs, whatever their shape.

        A registered model is ours even if the settings name it. What is called as ours are is taken
        for ours unasked, but where it is to be told apart from those of other stores.
        """
        ids, rows = _newest_first(days)
        named = settings.incumbent.model_ids
        ours, theirs, resembling = [], [], []
        asked = 0
        for model_id in ids:
            is_named, is_like = model_id in (named or ()), bool(_OF_OUR_SHAPE.fullmatch(model_id))
            is_asked = model_id != UNNAMED and (is_named or tell_apart or not is_like)
            asked += is_asked
            if is_asked and asked <= MOST_ASKED:
                is_ours = is_registered(store, settings.model_name, model_id)
            else:
                is_ours = is_like and not is_named and not tell_apart
            if is_ours:
                ours.append(model_id)
            elif is_like and not is_named:
                resembling.append(model_id)
            elif is_named or named is None:
                theirs.append(model_id)
        return cls(
            ours=tuple(ours),
            theirs=tuple(theirs),
            resembling=tuple(resembling),
            rows=sum(rows[model_id] for model_id in theirs),
        )

    @property
    def counted_ids(self) -> tuple[str, ...] | None:
        """Whose errors count where theirs are asked for; None, which is everybody's, if all are.

        Beside answers of others those that name no model do not count.
        """
        if self.theirs and not (self.ours or self.resembling):
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


def is_registered(store: ModelRegistry, model_name: str, model_id: str) -> bool:
    """Whether the registry knows a model of that id."""
    try:
        store.get_model(model_name, model_id)
    except NotFound:
        return False
    return True


def _newest_first(days: Iterable[DailyAccuracy]) -> tuple[list[str], dict[str, int]]:
    """The ids with results, the last to answer first, and how many results each has."""
    rows: dict[str, int] = {}
    last: dict[str, int] = {}
    for day in days:
        if day.model_id != TOGETHER and day.evaluated:
            rows[day.model_id] = rows.get(day.model_id, 0) + day.evaluated
            last[day.model_id] = max(last.get(day.model_id, 0), day.day.toordinal())
    return sorted(rows, key=lambda name: (-last[name], -rows[name], name)), rows


# ---------------------------------------------------------------------------------- in words


def shown(model_ids: Sequence[str]) -> str:
    """Ids for a sentence, a few of them."""
    names = [
        shorten(name, _LONGEST) if name != UNNAMED else "a model that is not named"
        for name in model_ids
    ]
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def answering(settings: Settings, theirs: Collection[str]) -> str | None:
    """Who answers, where that is a classifier of the person's own: `theirs` as the log has them."""
    if not settings.incumbent.serves:
        return None
    known = list(theirs) or settings.incumbent.model_ids or []
    return f"Answering: {shown(known) if known else 'a classifier of your own'} (yours)."


def proposal(settings: Settings, theirs: Sequence[str], rows: int) -> str | None:
    """That somebody else's answers stand in the log, and the setting that says so; None if told."""
    if settings.incumbent.serves or not theirs:
        return None
    results = "1 result" if rows == 1 else f"{rows:,} results"
    return (
        f"{results} of the log were answered by {shown(theirs)}, which the registry does not know. "
        "If that is a classifier of your own that goes on answering people, say so in the "
        "settings: `incumbent: {serves: true}`. It is watched then, and no model replaces it "
        "unasked."
    )
