"""Charts as SVG: small, without scripts, coloured by the page's own style sheet.

Each chart carries a title and a description in words. Over the drawing lie radio buttons, one a
place on the x axis that has something to say: pointing at one shows its values, and the arrow keys
go from one to the next, with one stop of the tab key a chart. Text is escaped wherever it goes.
Widths and places are in the units of the drawing's own box.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date

from markupsafe import Markup

WIDTH, HEIGHT = 480.0, 230.0
# The style sheet lays `.picks` over the same place.
LEFT, RIGHT, TOP, BOTTOM = 58.0, 20.0, 26.0, 42.0
COLOURS = 8
POINTS_DRAWN = 130
COLUMNS = 101
TICKS_X, TICKS_Y = 4, 5
BAR = 0.8
MARKS_WITH_LINES = 15


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """What an axis measures; `text` writes a value in full, `tick` (or `text`) beside the axis."""

    title: str
    text: Callable[[float], str] = "{:g}".format
    tick: Callable[[float], str] | None = None

    def short(self, value: float) -> str:
        """A value beside the axis."""
        return self.text(value) if self.tick is None else self.tick(value)


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

    `detail` is for those who cannot see the drawing. `y_range` is kept inside the drawing whatever
    the points are; `show_points` puts a dot on each. With `stacked` the series are columns that
    stand on each other, at whole numbers of x.
    """

    name: str
    title: str
    summary: str
    detail: str = ""
    series: Sequence[Series]
    x: Axis
    y: Axis
    marks: Sequence[Mark] = ()
    marks_name: str = "promotion"
    y_range: tuple[float, float] | None = None
    show_points: bool = True
    stacked: bool = False


def day_text(value: float) -> str:
    """An ordinal as a day; numbers that are no day of a calendar stay numbers."""
    return f"{value:g}" if (day := _day(value)) is None else day.isoformat()


def short_day(value: float) -> str:
    """The same beside an axis, where the years go without saying."""
    return f"{value:g}" if (day := _day(value)) is None else f"{day.day} {day:%b}"


def _day(value: float) -> date | None:
    if date(1970, 1, 1).toordinal() <= value <= date(9000, 1, 1).toordinal():
        return date.fromordinal(round(value))
    return None


def percent_text(value: float) -> str:
    """A share in per cent, short enough for an axis."""
    return f"{100 * value:.3g} %"


def count_text(value: float) -> str:
    """A number of things."""
    return f"{value:,.0f}"


def days_axis(days: Iterable[float]) -> Axis:
    """The axis of some days; years stand beside it only where there are several."""
    known = [day for day in map(_day, days) if day is not None]
    if not known:
        return Axis(title="Day", text=day_text)
    is_long = max(known).toordinal() - min(known).toordinal() > DAYS_WITHOUT_YEAR
    return Axis(title="Day (UTC)", text=day_text, tick=_month if is_long else short_day)


DAYS_WITHOUT_YEAR = 300


def _month(value: float) -> str:
    return f"{date.fromordinal(round(value)):%Y-%m}"


def draw(chart: Chart) -> Markup:
    """The chart as a figure; nothing when there is no point to draw."""
    points = [point for series in chart.series for point in series.points]
    if not points:
        return Markup("")
    frame = _Frame.around(chart)
    parts = [*_grid(chart, frame), *_marks(chart, frame)]
    parts += _stacks(chart, frame) if chart.stacked else _lines(chart, frame)
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
        '<figure><figcaption>{title}</figcaption><p class="summary">{summary}</p>'
        '<div class="plot">{svg}{picks}</div>{legend}</figure>'
    ).format(
        title=chart.title,
        summary=chart.summary,
        svg=svg,
        picks=_picks(chart, frame),
        legend=_legend(chart),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Frame:
    """The corners of the plot in values, and its columns: `count` of them, `step` wide."""

    left: float
    low: float
    high: float
    step: float
    count: int

    @classmethod
    def around(cls, chart: Chart) -> _Frame:
        xs = [x for series in chart.series for x, _ in series.points]
        low, high = _heights(chart)
        left, right = min(xs), max(xs)
        is_whole = all(float(x).is_integer() for x in xs)
        if is_whole and right - left < POINTS_DRAWN:
            step, count = 1.0, int(right - left) + 1
        else:
            step, count = ((right - left) or 1.0) / (COLUMNS - 1), COLUMNS
        return cls(left=left, low=low, high=high, step=step, count=count)

    @property
    def right(self) -> float:
        return self.left + (self.count - 1) * self.step

    @property
    def width(self) -> float:
        """Of a column, in units of the drawing."""
        return (WIDTH - LEFT - RIGHT) / self.count

    def column(self, value: float) -> int:
        """Which column a value falls into."""
        return round((value - self.left) / self.step)

    def x(self, value: float) -> float:
        return LEFT + ((value - self.left) / self.step + 0.5) * self.width

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _heights(chart: Chart) -> tuple[float, float]:
    if chart.stacked:
        sums: dict[float, float] = {}
        for series in chart.series:
            for x, y in series.points:
                sums[x] = sums.get(x, 0.0) + y
        return 0.0, max(*sums.values(), 1.0) * 1.05
    ys = [y for series in chart.series for _, y in series.points]
    low, high = min(ys), max(ys)
    if chart.y_range is not None:
        low, high = min(low, chart.y_range[0]), max(high, chart.y_range[1])
    if high - low < 1e-9:  # noqa: PLR2004 - a flat line needs some height
        return low - 0.01, high + 0.01
    if chart.y_range is None:
        return low - 0.05 * (high - low), high + 0.05 * (high - low)
    return low, high


def ticks(low: float, high: float, count: int = TICKS_Y, *, whole: bool = False) -> list[float]:
    """About `count` round numbers within low..high."""
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    if whole:
        step = max(1.0, math.ceil(step))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


_TEXT = Markup('<text class="{kind}" x="{x:.1f}" y="{y:.1f}"{anchor}>{text}</text>')
_END, _MIDDLE = Markup(' text-anchor="end"'), Markup(' text-anchor="middle"')


def _grid(chart: Chart, frame: _Frame) -> list[Markup]:
    """Titles of the axes, their ticks, and a line at each height."""
    heights = ticks(frame.low, frame.high, whole=chart.stacked)
    lines = "".join(f"M{LEFT:g} {frame.y(value):.1f}H{WIDTH - RIGHT:g}" for value in heights)
    parts = [Markup('<path class="grid" d="{}"/>').format(lines)]
    parts += [
        _TEXT.format(
            kind="tick", x=LEFT - 6, y=frame.y(value) + 4, anchor=_END, text=chart.y.short(value)
        )
        for value in heights
    ]
    right = frame.right if frame.count > 1 else frame.left + 1
    is_whole = frame.step == 1.0 or frame.right - frame.left > COLUMNS
    places = [x for x in ticks(frame.left, right, TICKS_X, whole=is_whole) if x <= frame.right]
    parts += [
        _TEXT.format(
            kind="tick", x=frame.x(x), y=HEIGHT - BOTTOM + 17, anchor=_MIDDLE, text=chart.x.short(x)
        )
        for x in places
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    below = {"x": middle, "y": HEIGHT - 5, "anchor": _MIDDLE, "text": chart.x.title}
    above = {"x": 2.0, "y": 13.0, "anchor": "", "text": chart.y.title}
    return [*parts, *(_TEXT.format(kind="axis", **place) for place in (above, below))]


def _marks(chart: Chart, frame: _Frame) -> list[Markup]:
    inside = [frame.x(mark.x) for mark in _inside(chart, frame)]
    if not inside:
        return []
    # Many lines would hide what they stand beside; the flags stay.
    bottom = HEIGHT - BOTTOM if len(inside) <= MARKS_WITH_LINES else TOP + 8
    lines = "".join(f"M{x:.1f} {TOP:g}V{bottom:g}" for x in inside)
    flags = "".join(f"M{x:.1f} {TOP:g}l7 4l-7 4z" for x in inside)
    shape = '<g class="mark"><path d="{lines}"/><path class="flag" d="{flags}"/></g>'
    return [Markup(shape).format(lines=lines, flags=flags)]  # noqa: S704 - a shape of ours


def _inside(chart: Chart, frame: _Frame) -> list[Mark]:
    return [mark for mark in chart.marks if frame.left <= mark.x <= frame.right]


def _lines(chart: Chart, frame: _Frame) -> list[Markup]:
    parts = []
    for place, series in enumerate(chart.series):
        shown = [(frame.x(x), frame.y(y)) for x, y in _thinned(series.points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in shown)
        number = series.class_at(place)
        parts.append(
            Markup('<polyline class="line s{s}" points="{path}"/>').format(s=number, path=path)
        )
        if chart.show_points or len(shown) == 1:
            dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in shown)
            parts.append(Markup('<path class="dots s{s}" d="{d}"/>').format(s=number, d=dots))
    return parts


def _stacks(chart: Chart, frame: _Frame) -> list[Markup]:
    """One path a series; its columns stand on those of the series before it."""
    below: dict[float, float] = {}
    parts = []
    width = BAR * frame.width
    for place, series in enumerate(chart.series):
        columns = ""
        for x, y in series.points:
            base = below.get(x, 0.0)
            below[x] = base + y
            if y:
                left, bottom, top = frame.x(x) - width / 2, frame.y(base), frame.y(base + y)
                columns += f"M{left:.1f} {bottom:.1f}V{top:.1f}h{width:.1f}V{bottom:.1f}z"
        parts.append(
            Markup('<path class="column s{s}" d="{d}"/>').format(
                s=series.class_at(place), d=columns
            )
        )
    return parts


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most so many points, evenly chosen, first and last among them."""
    if len(points) <= POINTS_DRAWN:
        return points
    step = (len(points) - 1) / (POINTS_DRAWN - 1)
    return [points[round(number * step)] for number in range(POINTS_DRAWN)]


# ------------------------------------------------------------------------------------- picks


@dataclass(kw_only=True, slots=True)
class _Column:
    """What is said of a column: where it is, each series' last value there, what happened."""

    x: float
    values: dict[str, float] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)


def _picks(chart: Chart, frame: _Frame) -> Markup:
    """A radio button for each column of which something can be said, and room for the others."""
    columns: dict[int, _Column] = {}
    for series in chart.series:
        for x, y in series.points:
            found = columns.setdefault(frame.column(x), _Column(x=x))
            found.x, found.values[series.name] = x, y
    for mark in _inside(chart, frame):
        columns.setdefault(frame.column(mark.x), _Column(x=mark.x)).events.append(mark.text)
    pick = Markup('<input type="radio" name="{name}" aria-label="{text}"/>')
    picks = [
        pick.format(name=chart.name, text=_readout(chart, columns[place]))
        if place in columns
        else Markup("<i></i>")
        for place in range(frame.count)
    ]
    return Markup('<div class="picks" role="radiogroup" aria-label="{}: values">{}</div>').format(
        chart.title, Markup("").join(picks)
    )


def _readout(chart: Chart, column: _Column) -> str:
    values = [f"{name} {chart.y.text(value)}" for name, value in column.values.items()]
    where = [f"{chart.x.text(column.x)}: {', '.join(values)}"] if values else []
    return "; ".join([*where, *column.events])


def _legend(chart: Chart) -> Markup:
    if len(chart.series) < 2 and not chart.marks:  # noqa: PLR2004 - one line needs no key
        return Markup("")
    kind = "column" if chart.stacked else "line"
    swatch = Markup(
        '<li><svg class="key" viewBox="0 0 28 8" aria-hidden="true">'
        '<path class="{kind} s{s}" d="{d}"/></svg>{name}</li>'
    )
    items = [
        swatch.format(
            kind=kind,
            s=series.class_at(place),
            d="M9 0h10v8h-10z" if chart.stacked else "M0 4h28",
            name=series.name,
        )
        for place, series in enumerate(chart.series)
    ]
    if chart.marks:
        items.append(
            Markup(
                '<li><svg class="key" viewBox="0 0 28 8" aria-hidden="true"><g class="mark">'
                '<path class="flag" d="M10 0l7 4l-7 4z"/></g></svg>{text}</li>'
            ).format(text=chart.marks_name)
        )
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))
