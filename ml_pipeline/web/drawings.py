"""The charts of the page: right answers by day and by run, and how many outcomes came."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from ml_pipeline.reports.charts import (
    Axis,
    Chart,
    Mark,
    Series,
    count_text,
    day_text,
    days_axis,
    draw,
    percent_text,
    short_day,
)
from ml_pipeline.reports.key_figures import added, by_day
from ml_pipeline.reports.overview import Overview
from ml_pipeline.reports.pages import number, percent
from ml_pipeline.store.alerts import DailyAccuracy, DecayAlert
from ml_pipeline.store.records import RetrainingRun

RIGHT = Axis(title="Right answers", text=percent_text)
# Blue, orange and grey are told apart by everybody.
PARTS = (("right", 0), ("wrong", 1), ("UNCERTAIN", 2))


def charts(overview: Overview) -> list[Markup]:
    """All of them; empty ones have nothing to show."""
    return [days_chart(overview), volume_chart(overview), runs_chart(overview)]


def days_chart(overview: Overview) -> Markup:
    """The share of right answers by day, with the alerts; nothing of no days."""
    days = {day.toordinal(): it for day, it in by_day(overview).items() if it.answered}
    if not days:
        return Markup("")
    marks = [_alert_mark(alert) for alert in overview.alerts]
    whole = added(days.values())
    points = [(float(day), it.right / it.answered) for day, it in days.items()]
    return draw(
        Chart(
            name="days",
            title="Right answers by day",
            summary=(
                f"{number(whole.answered)} outcomes became known on {len(days)} days; the answers "
                f"were right {percent(whole.share)} of the time. {_counted(len(marks), 'alert')}."
            ),
            series=[Series(name="right", points=points)],
            x=days_axis(days),
            y=RIGHT,
            marks=marks,
            marks_name="alert",
        )
    )


def _alert_mark(alert: DecayAlert) -> Mark:
    return Mark(
        x=float(alert.detected_at.date().toordinal()),
        text=f"{alert.severity} {alert.metric}: {alert.message}",
    )


def volume_chart(overview: Overview) -> Markup:
    """How many outcomes became known by day, and what the answers were."""
    days = {day.toordinal(): it for day, it in by_day(overview).items()}
    if not days:
        return Markup("")
    whole = added(days.values())
    return draw(
        Chart(
            name="volume",
            title="Outcomes by day",
            summary=(
                f"{number(round(whole.outcomes / len(days)))} a day on average, on the days that "
                f"had any; {number(whole.uncertain)} of {number(whole.outcomes)} were of answers "
                "that were UNCERTAIN."
            ),
            series=[
                Series(
                    name=name,
                    style=style,
                    points=[
                        (float(day), (it.right, it.answered - it.right, it.uncertain)[place])
                        for day, it in days.items()
                    ],
                )
                for place, (name, style) in enumerate(PARTS)
            ],
            x=days_axis(days),
            y=Axis(title="Outcomes that became known", text=count_text),
            stacked=True,
        )
    )


def runs_chart(overview: Overview) -> Markup:
    """Both models of the last runs, each on the results of its run."""
    judged = [run for run in reversed(overview.runs) if "accuracy" in run.metrics]
    if not judged:
        return Markup("")
    champion = [
        (float(place), run.details["champion_metrics"]["accuracy"])
        for place, run in enumerate(judged)
        if run.details.get("champion_metrics", {}).get("accuracy") is not None
    ]
    challenger = [(float(place), run.metrics["accuracy"]) for place, run in enumerate(judged)]
    marks = [
        Mark(x=float(place), text=f"promoted {run.challenger_id}")
        for place, run in enumerate(judged)
        if run.outcome == "promoted"
    ]
    return draw(
        Chart(
            name="runs",
            title="Both models by run",
            summary=(
                f"On results that neither was trained on. {_counted(len(judged), 'run')} compared "
                f"models; the latest challenger was right {percent(challenger[-1][1])} of the "
                f"time. {_counted(len(marks), 'promotion')}."
            ),
            series=[
                Series(name="challenger", points=challenger),
                Series(name="champion", points=champion),
            ],
            x=_runs_axis(judged),
            y=RIGHT,
            marks=marks,
        )
    )


def _runs_axis(runs: Sequence[RetrainingRun]) -> Axis:
    """An axis of places in a list of runs, each told by its day."""

    def began(place: float) -> float:
        return float(runs[round(place)].started_at.toordinal())

    return Axis(
        title="Run",
        text=lambda place: day_text(began(place)),
        tick=lambda place: short_day(began(place)),
    )


def models_chart(days: Sequence[DailyAccuracy], model_ids: Sequence[str]) -> Markup:
    """The share of right answers by day of some models, each of its own answers."""
    series = [
        Series(
            name=model_id,
            points=[
                (float(row.day.toordinal()), row.correct / row.answered)
                for row in days
                if row.model_id == model_id and row.answered
            ],
        )
        for model_id in dict.fromkeys(model_ids)
    ]
    drawn = [one for one in series if one.points]
    if not drawn:
        return Markup("")
    return draw(
        Chart(
            name="models",
            title="Right answers by day",
            summary="Each model on the answers that it gave itself.",
            series=drawn,
            x=days_axis(x for one in drawn for x, _ in one.points),
            y=RIGHT,
        )
    )


def _counted(count: int, thing: str) -> str:
    return f"{count or 'No'} {thing}{'' if count == 1 else 's'}"
