"""Charts: places, round ticks, words for who cannot see them, and nothing that is markup."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from datetime import date

import pytest

from ml_pipeline.reports.charts import (
    COLUMNS,
    HEIGHT,
    POINTS_DRAWN,
    WIDTH,
    Axis,
    Chart,
    Mark,
    Series,
    days_axis,
    draw,
    ticks,
)


def chart(*series: Series, **changes: object) -> str:
    values: dict[str, object] = {
        "name": "c", "title": "Accuracy", "summary": "It rises.", "series": series,
        "x": Axis(title="Day"), "y": Axis(title="Share", text="{:.3g}".format),
    }  # fmt: skip
    return str(draw(Chart(**values | changes)))  # type: ignore[arg-type]


def dots(drawn: str) -> list[tuple[float, float]]:
    """Where the points are: all of a series are one path of lines without a length."""
    path = re.findall(r'class="dots[^"]*" d="([^"]*)"', drawn)[0]
    return [(float(x), float(y)) for x, y in re.findall(r"M([\d.-]+) ([\d.-]+)h0", path)]


def said(drawn: str) -> list[str]:
    """What pointing at the places of a chart shows, and the arrow keys read out."""
    return re.findall(r'<input type="radio" name="c" aria-label="([^"]*)"/>', drawn)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.451, 0.563, [0.475, 0.5, 0.525, 0.55]),
        (-30.0, 20.0, [-30.0, -20.0, -10.0, 0.0, 10.0, 20.0]),
        (0.0, 1e-6, [0.0, 2e-7, 4e-7, 6e-7, 8e-7, 1e-6]),
    ],
)
def test_ticks_are_round_numbers_inside(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_nothing_is_drawn_of_no_points() -> None:
    assert chart(Series(name="a", points=[])) == ""


@pytest.mark.parametrize("points", [[(3.0, 0.5)], [(1.0, 0.5), (2.0, 0.5)], [(0.0, 0.0)]])
def test_one_point_and_a_flat_line_lie_inside_the_drawing(
    points: list[tuple[float, float]],
) -> None:
    places = dots(chart(Series(name="a", points=points)))
    assert len(places) == len(points)
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in places)


def test_higher_values_stand_higher_and_later_ones_further_right() -> None:
    drawn = chart(Series(name="a", points=[(1, 0.1), (2, 0.9), (3, 0.5)]))
    points = re.findall(r'points="([^"]+)"', drawn)[0].split()
    (x1, y1), (x2, y2), (x3, y3) = [tuple(map(float, point.split(","))) for point in points]
    assert x1 < x2 < x3
    assert y2 < y3 < y1


def test_a_long_line_is_thinned_and_keeps_its_ends() -> None:
    drawn = chart(Series(name="a", points=[(float(x), float(x % 7)) for x in range(10_000)]))
    assert len(dots(drawn)) == POINTS_DRAWN
    shown = said(drawn)
    assert len(shown) == COLUMNS
    assert shown[-1] == "9999: a 3"


def test_a_place_says_the_values_of_every_series_and_what_happened_there() -> None:
    drawn = chart(
        Series(name="a", points=[(1, 0.5), (2, 0.6), (5, 0.7)]),
        Series(name="b", points=[(1, 0.25), (5, 0.75)]),
        marks=[Mark(x=2.0, text="promoted m-2"), Mark(x=4.0, text="an alert")],
    )
    assert said(drawn) == [
        "1: a 0.5, b 0.25",
        "2: a 0.6; promoted m-2",
        "an alert",
        "5: a 0.7, b 0.75",
    ]
    # A day without anything has its room, so that the others lie over what they speak of.
    assert drawn.count("<i></i>") == 1


def test_the_axes_have_titles_and_years_where_there_are_several() -> None:
    day = float(date(2026, 3, 1).toordinal())
    drawn = chart(
        Series(name="a", points=[(day, 0.5), (day + 1, 0.6)]), x=days_axis([day, day + 1])
    )
    assert re.findall(r'class="axis"[^>]*>([^<]+)<', drawn) == ["Share", "Day (UTC)"]
    assert ">1 Mar</text>" in drawn
    assert said(drawn)[0] == "2026-03-01: a 0.5"
    assert days_axis([day, day + 400]).short(day) == "2026-03"
    assert days_axis([1.0, 9.0]).short(3.0) == "3"


def test_columns_stand_on_each_other_and_none_is_drawn_of_nothing() -> None:
    drawn = chart(
        Series(name="right", points=[(1, 30.0), (2, 0.0)]),
        Series(name="wrong", points=[(1, 10.0), (2, 5.0)]),
        stacked=True,
    )
    shape = r'class="column s\d" d="([^"]*z)"'
    first, second = re.findall(shape, drawn)[:2]
    assert [path.count("M") for path in (first, second)] == [1, 2]
    top_of_first = re.findall(r"V([\d.]+)h", first)[0]
    assert re.findall(r"M[\d.]+ ([\d.]+)V", second)[0] == top_of_first
    assert said(drawn) == ["1: right 30, wrong 10", "2: right 0, wrong 5"]


def test_everything_in_a_chart_is_said_in_words_and_shown_as_text() -> None:
    hostile = "</title><script>x</script>"
    drawn = chart(
        Series(name=hostile, points=[(1, 1), (2, 2)]),
        Series(name="b", points=[(1, 2), (2, 1)]),
        title=hostile,
        summary=hostile,
        marks=[Mark(x=1.5, text=hostile)],
        marks_name=hostile,
    )
    assert "<script" not in drawn
    figure = ET.fromstring(drawn)  # noqa: S314 - our own drawing
    svg = figure.find("./div/svg")
    assert svg is not None
    assert svg.get("role") == "img"
    title, description = svg.find("title"), svg.find("desc")
    assert title is not None
    assert title.text == hostile
    assert description is not None
    assert hostile in (description.text or "")
    assert len(figure.findall("./ul/li")) == 3
    assert [it.get("aria-label") for it in figure.iter("input")] == [
        f"1: {hostile} 1, b 2; {hostile}", f"2: {hostile} 2, b 1",
    ]  # fmt: skip
