"""The page of a backtest: curves, a table, and a recommendation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ml_pipeline.config.settings import Settings
from ml_pipeline.evaluation.intervals import mean_bounds
from ml_pipeline.evaluation.metrics import Floats
from ml_pipeline.reports.charts import Axis, Chart, Series, days_axis, draw, percent_text
from ml_pipeline.reports.key_figures import KeyFigure
from ml_pipeline.reports.pages import percent, signed

FILE: Final = "comparison.html"
BASE: Final = "frozen"
WINDOWS: Final = 20
LEVEL: Final = 0.95
# The errors trigger is enough when it would have fired on this share of the days.
OFTEN: Final = 0.9
# A policy that ends so many times further away than the nearest one hides the others.
FLATTENS: Final = 10.0
STYLES: Final = {"adaptive": 0, "challengers": 4, "refit": 3, "frozen": 2, "seed": 1, "experts": 5}
STRATEGIES: Final = {
    "adaptive": "training.strategy: adaptive",
    "refit": "training.strategy: refit",
    "seed": "training.strategy: errors_only",
    "challengers": "training.strategy: adaptive with training.refit_every_days: 30",
    "experts": "training.strategy: adaptive with training.experts",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """How a policy did: `nights` are (night, rows, mean loss, accuracy), `losses` of each row.

    A night is a UTC day of rows, or what the history numbers as one. `confident_errors` counts the
    errors over the threshold by night.
    """

    name: str
    nights: Sequence[tuple[int, int, float, float]]
    losses: Floats
    confident_errors: Sequence[int]
    figures: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """What to set, and why."""

    policy: str
    strategy: str
    trigger: str
    fired: int
    sentences: tuple[str, ...]


def write(folder: Path, courses: Sequence[Course], settings: Settings) -> Path:
    """Write the page. `frozen` is among the courses."""
    from ml_pipeline.reports.pages import render

    path = folder / FILE
    base = next(course for course in courses if course.name == BASE)
    advice = advise(courses, settings)
    page = render(
        "comparison.html",
        courses=courses,
        advice=advice,
        key_figures=_key_figures(courses, base, advice),
        accuracy=_accuracy(courses),
        difference=_difference(courses, base),
        nights=len(base.nights),
        rows=len(base.losses),
    )
    path.write_text(page, encoding="utf-8")
    return path


def _key_figures(courses: Sequence[Course], base: Course, advice: Advice) -> list[KeyFigure]:
    chosen = next(course for course in courses if course.name == advice.policy)
    best = max(courses, key=lambda course: course.figures["accuracy"])
    gain = 100 * (best.figures["accuracy"] - base.figures["accuracy"])
    return [
        KeyFigure(name="Recommended", value=chosen.name, note=advice.strategy, is_long=True),
        KeyFigure(
            name=f"Right answers, {BASE}", value=percent(base.figures["accuracy"]),
            note="the model as it is, never trained again",
        ),
        KeyFigure(
            name=f"Right answers, {best.name}", value=percent(best.figures["accuracy"]),
            note="nothing was better" if best is base else f"{signed(gain, 1)} points on {BASE}",
            tone="good" if gain > 0 else "",
        ),
        KeyFigure(
            name="Processor time", value=f"{chosen.figures['train_cpu_s']:.1f} s",
            note=f"to train {chosen.name} on all {len(base.nights)} days",
        ),
    ]  # fmt: skip


# ---------------------------------------------------------------------------------- advice


def advise(courses: Sequence[Course], settings: Settings) -> Advice:
    """Which strategy and trigger, from the losses of each row.

    Of the policies that are not certainly worse than the best one, the cheapest is taken; the
    model stays as it is unless that one is certainly better than it.
    """
    by_loss = sorted(courses, key=lambda course: float(course.losses.mean()))
    best = by_loss[0]
    equal = [c for c in by_loss if c is best or _gain(c, best)[1] <= 0]
    chosen = min(equal, key=lambda course: course.figures["train_cpu_s"])
    base = next(course for course in courses if course.name == BASE)
    fired = _fired(chosen, settings)
    compared = [_compared(course, base) for course in by_loss if course is not base]
    if chosen is base or _gain(base, chosen)[1] <= 0:
        sentence = "Keep the model as it is: no policy was certainly better on these results."
        return Advice(
            policy=BASE, strategy="", trigger="", fired=fired, sentences=(sentence, *compared)
        )
    trigger = "errors" if fired >= OFTEN * len(chosen.nights) else "labels"
    sentences = (
        f"Use {STRATEGIES[chosen.name]} with run.trigger: {trigger}.",
        (
            f"The errors trigger ({settings.run.min_error_samples} confident errors within "
            f"{settings.run.lookback_days:g} days) would have started a run on {fired} of "
            f"{len(chosen.nights)} days"
            + (
                ", which is often enough."
                if trigger == "errors"
                else ": on the others nothing would have been learned."
            )
        ),
        (
            f"In the backtest it ran on {len(chosen.nights)} days and promoted "
            f"{chosen.figures['promotions']:g} times, with "
            f"{chosen.figures['train_cpu_s']:.1f} s of processor time in all."
        ),
        *compared,
    )
    return Advice(
        policy=chosen.name,
        strategy=STRATEGIES[chosen.name],
        trigger=trigger,
        fired=fired,
        sentences=sentences,
    )


def _gain(worse: Course, better: Course) -> tuple[float, float, float]:
    """Mean log loss that `better` saves over `worse`, with its lower and upper bound."""
    gains = worse.losses - better.losses
    return float(gains.mean()), *mean_bounds(gains, LEVEL)


def _compared(course: Course, base: Course) -> str:
    mean, low, high = _gain(base, course)
    accuracy, usual = (100 * it.figures["accuracy"] for it in (course, base))
    verdict = (
        "better than" if low > 0 else "worse than" if high < 0 else "not certainly different from"
    )
    return (
        f"{course.name} was {verdict} {BASE}: right {accuracy:.2f} % of the time against "
        f"{usual:.2f} %, log-loss gain {mean:+.4f} (95 % interval {low:+.4f} to {high:+.4f})."
    )


def _fired(course: Course, settings: Settings) -> int:
    """On how many days the errors of the last days would have been enough."""
    numbers = [night for night, *_ in course.nights]
    fired = 0
    for place, night in enumerate(numbers):
        recent = [
            count
            for earlier, count in zip(
                numbers[: place + 1], course.confident_errors[: place + 1], strict=True
            )
            if earlier > night - settings.run.lookback_days
        ]
        fired += sum(recent) >= settings.run.min_error_samples
    return fired


# ---------------------------------------------------------------------------------- curves


def _accuracy(courses: Sequence[Course]) -> Any:  # noqa: ANN401 - markup
    width = max(1, len(courses[0].nights) // WINDOWS)
    totals = ", ".join(
        f"{course.name} {100 * course.figures['accuracy']:.2f} %" for course in courses
    )
    return draw(
        Chart(
            name="accuracy",
            title=f"Accuracy, averaged over {width} days",
            summary=f"Over all days: {totals}.",
            series=[
                Series(name=c.name, points=_trailing(c.nights, width), style=STYLES[c.name])
                for c in courses
            ],
            x=_days_of(courses[0]),
            y=Axis(title="Right answers", text=percent_text),
            show_points=False,
        )
    )


def _days_of(course: Course) -> Axis:
    return days_axis(float(night) for night, *_ in course.nights)


def _losses_text(nats: float) -> str:
    return f"{nats:,.0f}" if abs(nats) >= 1000 else f"{nats:.4g}"  # noqa: PLR2004 - four digits


def _trailing(
    nights: Sequence[tuple[int, int, float, float]], width: int
) -> list[tuple[float, float]]:
    rows = np.array([night[1] for night in nights], dtype=np.float64)
    right = np.concatenate([[0.0], np.cumsum(rows * [night[3] for night in nights])])
    total = np.concatenate([[0.0], np.cumsum(rows)])
    places = range(width, len(nights) + 1)
    return [
        (
            float(nights[place - 1][0]),
            float((right[place] - right[place - width]) / (total[place] - total[place - width])),
        )
        for place in places
    ]


def _difference(courses: Sequence[Course], base: Course) -> Any:  # noqa: ANN401 - markup
    others = [course for course in courses if course is not base]
    if not others:
        return ""
    ends = [int(end) for end in np.cumsum([rows for _, rows, _, _ in base.nights])]
    sums = {course.name: np.cumsum(course.losses - base.losses) for course in others}
    totals = ", ".join(f"{name} {total[-1]:+,.0f}" for name, total in sums.items())
    ends_at = {name: abs(float(total[-1])) for name, total in sums.items()}
    drawn = [name for name in sums if ends_at[name] <= FLATTENS * min(ends_at.values())]
    left_out = [name for name in sums if name not in drawn]
    flattened = f" Not drawn, because it would flatten the rest: {', '.join(left_out)}."
    return draw(
        Chart(
            name="difference",
            title=f"Log loss summed up, minus that of {BASE} (below 0 is better)",
            summary=f"At the end: {totals}." + (flattened if left_out else ""),
            series=[
                Series(
                    name=name,
                    style=STYLES[name],
                    points=[
                        (float(night), float(sums[name][end - 1]))
                        for (night, *_), end in zip(base.nights, ends, strict=True)
                    ],
                )
                for name in drawn
            ],
            x=_days_of(base),
            y=Axis(title="Log loss, less is better", text=_losses_text),
            y_range=(0.0, 0.0),
            show_points=False,
        )
    )
