"""The figures that a page begins with: of a store, of a run, of a backtest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import NormalDist
from typing import Final

from ml_pipeline.reports.overview import Overview
from ml_pipeline.reports.pages import number, percent
from ml_pipeline.store.alerts import TOGETHER
from ml_pipeline.store.records import RetrainingRun

LEVEL: Final = 0.95
NOT_YET: Final = "–"
COUNTED_BY: Final = "Not counted yet: `ml-pipeline decay` does it."


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyFigure:
    """A figure with its name and a note beside it.

    `tone` is "good", "bad", "wait" or nothing; `is_long` one is a name or a time, not a number.
    """

    name: str
    value: str | datetime
    note: str = ""
    tone: str = ""
    is_long: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """Outcomes that became known on some days: `right` of `answered`, and the UNCERTAIN beside."""

    answered: int
    right: int
    uncertain: int

    @property
    def outcomes(self) -> int:
        """All of them, also those of UNCERTAIN answers."""
        return self.answered + self.uncertain

    @property
    def share(self) -> float | None:
        """Of right answers among those that were no UNCERTAIN."""
        return self.right / self.answered if self.answered else None


def by_day(overview: Overview) -> dict[date, Counted]:
    """What became known by day, all models together, in the order of the days.

    A day is kept for each model and, by the watchdog, for all of them: that one counts alone.
    """
    whole = {row.day for row in overview.days if row.model_id == TOGETHER}
    sums: dict[date, Counted] = {}
    for row in sorted(overview.days, key=lambda row: row.day):
        if row.evaluated and (row.model_id == TOGETHER or row.day not in whole):
            found = Counted(answered=row.answered, right=row.correct, uncertain=row.uncertain)
            sums[row.day] = found if row.day not in sums else added([sums[row.day], found])
    return sums


def added(parts: Iterable[Counted]) -> Counted:
    """Several days as one."""
    some = list(parts)
    return Counted(
        answered=sum(part.answered for part in some),
        right=sum(part.right for part in some),
        uncertain=sum(part.uncertain for part in some),
    )


# ------------------------------------------------------------------------------------ a store


def of_store(overview: Overview) -> list[KeyFigure]:
    """Who answers, how well, what is waited for, when the next run is due."""
    days = by_day(overview)
    return [
        _answering(overview),
        *(_right(days, overview.at.date(), span=span) for span in (7, 30)),
        _waiting(overview.latest),
        _uncertain(days, overview.at.date()),
        _next_run(overview),
    ]


def _answering(overview: Overview) -> KeyFigure:
    champion = overview.champion
    if overview.yours is not None:
        here = "none yet" if champion is None else champion.model_id
        return KeyFigure(
            name="Answering model", value=overview.yours, note=f"Champion here: {here}",
            is_long=True,
        )  # fmt: skip
    if champion is None:
        note = "The first model that passes the checks will answer."
        return KeyFigure(name="Answering model", value="None yet", note=note, tone="wait")
    since = next(
        (it.created_at for it in overview.promotions if it.to_model_id == champion.model_id), None
    )
    note = champion.algorithm if since is None else f"since {since:%Y-%m-%d}, {champion.algorithm}"
    return KeyFigure(name="Answering model", value=champion.model_id, note=note, is_long=True)


def _right(days: dict[date, Counted], today: date, *, span: int) -> KeyFigure:
    """The share of right answers of the last days, and how it changed from as many before."""
    name = f"Right, last {span} days"
    start = today - timedelta(days=span - 1)
    recent = added(it for day, it in days.items() if day >= start)
    before = added(it for day, it in days.items() if start - timedelta(days=span) <= day < start)
    if recent.share is None:
        note = f"No outcome in the last {span} days." if days else COUNTED_BY
        return KeyFigure(name=name, value=NOT_YET, note=note)
    counted = f"of {number(recent.answered)} outcomes"
    if before.share is None:
        return KeyFigure(
            name=name, value=percent(recent.share), note=f"{counted}; none to compare with before"
        )
    words, tone = _change(recent, before)
    note = f"{counted}; {words} on the {span} days before"
    return KeyFigure(name=name, value=percent(recent.share), note=note, tone=tone)


def _change(recent: Counted, before: Counted) -> tuple[str, str]:
    """By how much a share changed, and whether that is good or bad: neither within noise."""
    change = (recent.share or 0.0) - (before.share or 0.0)
    is_certain = abs(change) > _noise(recent, before)
    words = f"{'+' if change >= 0 else '−'}{abs(100 * change):.1f} points"
    if not is_certain:
        return f"{words} (within noise)", ""
    return words, "good" if change > 0 else "bad"


def _noise(one: Counted, other: Counted) -> float:
    """How far two shares lie apart by chance in 95 of 100 cases (difference of proportions)."""
    together = (one.right + other.right) / (one.answered + other.answered)
    variance = together * (1 - together) * (1 / one.answered + 1 / other.answered)
    return NormalDist().inv_cdf(0.5 + LEVEL / 2) * math.sqrt(variance)


def _waiting(latest: RetrainingRun | None) -> KeyFigure:
    name = "Waiting for outcome"
    loaded = None if latest is None else latest.details.get("load_report")
    if latest is None or not loaded:
        return KeyFigure(name=name, value=NOT_YET, note="Counted by each run that reads the log.")
    note = f"of {number(loaded['rows'])} rows that the latest run read"
    return KeyFigure(name=name, value=number(loaded["pending"]), note=note)


def _uncertain(days: dict[date, Counted], today: date) -> KeyFigure:
    name = "UNCERTAIN, 30 days"
    recent = added(it for day, it in days.items() if day > today - timedelta(days=30))
    if not recent.outcomes:
        return KeyFigure(name=name, value=NOT_YET, note="Counted with the right answers.")
    note = f"of {number(recent.outcomes)} outcomes; they count neither as right nor as wrong"
    return KeyFigure(name=name, value=percent(recent.uncertain / recent.outcomes), note=note)


def _next_run(overview: Overview) -> KeyFigure:
    hours = overview.every / timedelta(hours=1)
    if overview.due_at is None:
        note = f"Then every {hours:g} hours: `ml-pipeline run`, by cron or by the worker."
        return KeyFigure(name="Next run expected by", value=NOT_YET, note=note)
    return KeyFigure(
        name="Late: expected by" if overview.is_late else "Next run expected by",
        value=overview.due_at,
        note=f"every {hours:g} hours, and two hours of grace",
        tone="bad" if overview.is_late else "",
        is_long=True,
    )


# -------------------------------------------------------------------------------------- a run


def _answering_after(run: RetrainingRun) -> str:
    kept = run.details.get("answering") or {}
    if kept.get("serves"):
        return str(kept["sentence"]).removeprefix("Answering: ").removesuffix(".")
    return run.champion_id or "none"


def of_run(run: RetrainingRun) -> list[KeyFigure]:
    """What a run found and what came of it."""
    found: Sequence[KeyFigure] = ()
    champion = run.details.get("champion_metrics", {}).get("accuracy")
    challenger = run.metrics.get("accuracy")
    if challenger is not None:
        rows = run.details.get("holdout_rows")
        other = "yours" if run.details.get("incumbent") else "the champion"
        note = "" if champion is None else f"{other} {percent(champion)}; "
        note += "on the same results" if rows is None else f"on {number(rows)} new results"
        found = [KeyFigure(name="Challenger right", value=percent(challenger), note=note)]
    took = None if run.completed_at is None else (run.completed_at - run.started_at)
    return [
        *found,
        KeyFigure(
            name="Confident errors", value=number(run.dataset_size),
            note=f"{number(run.training_rows)} labelled rows were learned",
        ),
        KeyFigure(
            name="Answering afterwards", value=_answering_after(run), is_long=True,
            note=f"Challenger: {run.challenger_id or 'none'}",
        ),
        KeyFigure(
            name="Started", value=run.started_at, is_long=True,
            note="still under way" if took is None else f"took {took.total_seconds():.1f} s",
        ),
    ]  # fmt: skip
