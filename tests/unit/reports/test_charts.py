"""Charts: places, round ticks, words for who cannot see them, and nothing that is markup."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from ml_pipeline.reports.charts import POINTS_DRAWN, Chart, Mark, Series, draw, ticks


def chart(*series: Series, **changes: object) -> str:
    values: dict[str, object] = {
        "name": "c", "title": "Accuracy", "summary": "It rises.", "series": series,
    }  # fmt: skip
    return str(draw(Chart(**values | changes)))  # type: ignore[arg-type]


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
    places = re.findall(r'cx="([\d.-]+)" cy="([\d.-]+)"', chart(Series(name="a", points=points)))
    assert len(places) == len(points)
    assert all(0 < float(x) < 640 and 0 < float(y) < 250 for x, y in places)


def test_higher_values_stand_higher_and_later_ones_further_right() -> None:
    drawn = chart(Series(name="a", points=[(1, 0.1), (2, 0.9), (3, 0.5)]))
    points = re.findall(r'points="([^"]+)"', drawn)[0].split()
    (x1, y1), (x2, y2), (x3, y3) = [tuple(map(float, point.split(","))) for point in points]
    assert x1 < x2 < x3
    assert y2 < y3 < y1


def test_a_long_line_is_thinned_and_keeps_its_ends() -> None:
    drawn = chart(Series(name="a", points=[(float(x), float(x % 7)) for x in range(10_000)]))
    assert drawn.count("<circle") == POINTS_DRAWN
    assert ", 0: 0" in drawn
    assert ", 9.999e+03" in drawn or ", 9999" in drawn


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
    svg = figure.find("svg")
    assert svg is not None
    assert svg.get("role") == "img"
    title, description = svg.find("title"), svg.find("desc")
    assert title is not None
    assert title.text == hostile
    assert description is not None
    assert hostile in (description.text or "")
    assert len(figure.findall("./ul/li")) == 3
