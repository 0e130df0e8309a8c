"""Line charts as SVG: small, without scripts, coloured by the page's own style sheet.

Each chart carries a title and a description in words, and every point says its value. Text is
escaped wherever it goes. Widths and places are in the units of the drawing's own box.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from markupsafe import Markup

WIDTH, HEIGHT = 640.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 38.0, 12.0, 28.0
COLOURS = 8
POINTS_DRAWN = 130
TICKS = 5
MARKS_WITH_LINES = 15


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """Named points (x, y) in the order of x; `style` numbers its colour, or its place does."""

    name: str
    points: Sequence[tuple[float, float]]
    style: int | None = None

    def class_at(self, place: int) -> int:
        """The number of its colour in the style sheet."""
        return (place if self.style is None else self.style) % COLOURS


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A place on the x axis where something happened."""

    x: float
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """What is drawn; `name` is unique in its page, `summary` describes what it shows.

    `detail` is for those who cannot see the drawing.
    `y_range` is kept inside the drawing whatever the points are; `show_points` puts a dot on each.
    """

    name: str
    title: str
    summary: str
    detail: str = ""
    series: Sequence[Series]
    x_text: Callable[[float], str] = "{:g}".format
    y_text: Callable[[float], str] = "{:.3g}".format
    marks: Sequence[Mark] = ()
    marks_name: str = "promotion"
    y_range: tuple[float, float] | None = None
    show_points: bool = True


def day_text(value: float) -> str:
    """An ordinal as a day; numbers that are no day of a calendar stay numbers."""
    if date(1970, 1, 1).toordinal() <= value <= date(9000, 1, 1).toordinal():
        return date.fromordinal(round(value)).isoformat()
    return f"{value:g}"


def percent_text(value: float) -> str:
    """A share in per cent, short enough for an axis."""
    return f"{100 * value:.3g} %"


def draw(chart: Chart) -> Markup:
    """The chart as a figure; nothing when there is no point to draw."""
    points = [point for series in chart.series for point in series.points]
    if not points:
        return Markup("")
    frame = _Frame.around(points, chart.y_range)
    parts = [*_grid(chart, frame), *_marks(chart, frame)]
    for place, series in enumerate(chart.series):
        parts += _line(chart, frame, series, place)
    svg = Markup(
        '<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-labelledby="{n}-t {n}-d">'
        '<title id="{n}-t">{title}</title><desc id="{n}-d">{summary} {detail}</desc>{body}</svg>'
    ).format(
        w=f"{WIDTH:g}",
        h=f"{HEIGHT:g}",
        n=chart.name,
        title=chart.title,
        summary=chart.summary,
        detail=chart.detail,
        body=Markup("").join(parts),
    )
    return Markup(
        "<figure><figcaption>{title}</figcaption>{svg}{legend}"
        '<p class="summary">{summary}</p></figure>'
    ).format(title=chart.title, svg=svg, legend=_legend(chart), summary=chart.summary)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Frame:
    left: float
    right: float
    low: float
    high: float

    @classmethod
    def around(
        cls, points: Iterable[tuple[float, float]], y_range: tuple[float, float] | None
    ) -> _Frame:
        xs, ys = zip(*points, strict=True)
        low, high = min(ys), max(ys)
        if y_range is not None:
            low, high = min(low, y_range[0]), max(high, y_range[1])
        if high - low < 1e-9:  # noqa: PLR2004 - a flat line needs some height
            low, high = low - 0.01, high + 0.01
        elif y_range is None:
            low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
        left, right = min(xs), max(xs)
        if left == right:
            left, right = left - 1, right + 1
        return cls(left=left, right=right, low=low, high=high)

    def x(self, value: float) -> float:
        share = (value - self.left) / (self.right - self.left)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def ticks(low: float, high: float, count: int = TICKS, *, whole: bool = False) -> list[float]:
    """About `count` round numbers within low..high."""
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    if whole:
        step = max(1.0, math.ceil(step))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _grid(chart: Chart, frame: _Frame) -> list[Markup]:
    parts = []
    for value in ticks(frame.low, frame.high):
        y = frame.y(value)
        parts.append(
            Markup(
                '<path class="grid" d="M{left:.1f} {y:.1f}H{right:.1f}"/>'
                '<text class="tick" x="{x:.1f}" y="{base:.1f}" text-anchor="end">{text}</text>'
            ).format(
                left=LEFT,
                right=WIDTH - RIGHT,
                y=y,
                x=LEFT - 6,
                base=y + 4,
                text=chart.y_text(value),
            )
        )
    below = Markup('<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{text}</text>')
    places = ticks(frame.left, frame.right, whole=frame.right - frame.left > 1)
    y = HEIGHT - BOTTOM + 16
    return parts + [below.format(x=frame.x(x), y=y, text=chart.x_text(x)) for x in places]


def _marks(chart: Chart, frame: _Frame) -> list[Markup]:
    inside = [mark for mark in chart.marks if frame.left <= mark.x <= frame.right]
    # Many lines would hide what they stand beside; the flags stay.
    bottom = HEIGHT - BOTTOM if len(inside) <= MARKS_WITH_LINES else TOP + 8
    return [
        Markup(
            '<g class="mark"><path d="M{x:.1f} {top:.1f}V{bottom:.1f}"/>'
            '<path class="flag" d="M{x:.1f} {top:.1f}l7 4l-7 4z"/><title>{text}</title></g>'
        ).format(x=frame.x(mark.x), top=TOP, bottom=bottom, text=mark.text)
        for mark in inside
    ]


def _line(chart: Chart, frame: _Frame, series: Series, place: int) -> list[Markup]:
    shown = _thinned(series.points)
    path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in shown)
    parts = [
        Markup('<polyline class="line s{s}" points="{path}"/>').format(
            s=series.class_at(place), path=path
        )
    ]
    if chart.show_points or len(shown) == 1:
        parts += [
            Markup(
                '<circle class="dot s{s}" cx="{x:.1f}" cy="{y:.1f}" r="2.5">'
                "<title>{text}</title></circle>"
            ).format(
                s=series.class_at(place),
                x=frame.x(x),
                y=frame.y(y),
                text=f"{series.name}, {chart.x_text(x)}: {chart.y_text(y)}",
            )
            for x, y in shown
        ]
    return parts


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most so many points, evenly chosen, first and last among them."""
    if len(points) <= POINTS_DRAWN:
        return points
    step = (len(points) - 1) / (POINTS_DRAWN - 1)
    return [points[round(number * step)] for number in range(POINTS_DRAWN)]


def _legend(chart: Chart) -> Markup:
    if len(chart.series) < 2 and not chart.marks:  # noqa: PLR2004 - one line needs no key
        return Markup("")
    swatch = Markup(
        '<li><svg class="key" viewBox="0 0 28 8" aria-hidden="true">'
        '<polyline class="line s{s}" points="0,4 28,4"/></svg>{name}</li>'
    )
    items = [
        swatch.format(s=series.class_at(place), name=series.name)
        for place, series in enumerate(chart.series)
    ]
    if chart.marks:
        items.append(
            Markup(
                '<li><svg class="key" viewBox="0 0 8 8" aria-hidden="true"><g class="mark">'
                '<path class="flag" d="M0 0l7 4l-7 4z"/></g></svg>{text}</li>'
            ).format(text=chart.marks_name)
        )
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))
