"""Every page at the widths of a phone, a tablet and a desk: nothing sticks out, axe finds nothing.

The pages of a league with a run stand in `test_monitor`; here are those of stores that hold what
is hard to lay out: names without a blank, many models, hostile texts, and nothing at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import ModelState
from tests.acceptance.words.test_monitor import check_accessible, look_at
from tests.support import league
from tests.support.browser import open_browser
from tests.support.factories import (
    NOW,
    make_alert,
    make_day,
    make_finished_run,
    make_id,
    make_model,
    make_promotion,
    make_request,
    make_run,
)
from tests.support.fitting import check_fits
from tests.support.monitoring import NAME, TOKEN, Served, serving

LONG = "m-" + "x" * 120
ALL = ("/", "/runs", "/runs?q=nothing", "/models", "/models/compare", f"/runs/{make_id(1)}",
       f"/runs/{make_id(1)}/report.html", "/nothing")  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def long_names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A store whose names have no place to break, with something of everything."""
    store = LocalStore.open(tmp_path_factory.mktemp("long") / "store")
    at = {"model_name": NAME, "started_at": NOW}
    errors = {
        "total": 1,
        "by_class": [{"said": LONG, "was": LONG, "rows": 1}],
        "by_confidence": [{"from": 0.7, "to": 1.0, "rows": 1}],
        "by_segment": [{"feature": LONG, "values": LONG, "rows": 9, "errors": 1, "share": 0.1}],
        "most_confident": [
            {"event_id": LONG, "match_id": LONG, "known_at": "2026-03-14T02:00", "model_id": LONG,
             "said": LONG, "was": LONG, "confidence": 0.9, "features": {LONG: 1.0}}
        ],
    }  # fmt: skip
    store.start_run(make_run(1, **at))
    store.finish_run(
        make_finished_run(
            1, **at, outcome_reason=LONG, champion_id=LONG, challenger_id=LONG,
            details={
                "review": {"errors": errors, "config_changes": {LONG: [LONG, LONG]}},
                "champion_metrics": {"accuracy": 0.3}, "shadows": [
                    {"model_id": LONG, "outcome": "kept", "reason": LONG}
                ],
            },
        )
    )  # fmt: skip
    for place in range(12):
        store.register(
            make_model(f"{LONG}{place}", model_name=NAME, anchor_id=f"{LONG}{place % 2}",
                       created_at=NOW - timedelta(days=place), parent_id=f"{LONG}{place % 2}")
        )  # fmt: skip
    store.register(make_model(f"{LONG}w", model_name=NAME, state=ModelState.AWAITING))
    store.promote(make_promotion(f"{LONG}1", None, 1, model_name=NAME))
    store.promote(make_promotion(f"{LONG}0", f"{LONG}1", 2, model_name=NAME))
    store.submit(make_request(2, model_name=NAME, reason=LONG))
    store.open_alert(make_alert(3, model_name=NAME, message=LONG))
    store.keep_days(
        [make_day(n, model_name=NAME, model_id=f"{LONG}0", correct=60 + n) for n in range(1, 31)],
        now=NOW,
    )
    with serving(store, league.settings_for(), now=lambda: NOW) as served:
        yield served


def test_long_names_fit_on_a_phone(browser: Browser, long_names: Served) -> None:
    page = browser.new_page()
    for path in ALL:
        answer = page.goto(f"{long_names.url}{path}")
        assert answer is not None
        assert answer.status == (404 if path == "/nothing" else 200), path
        check_fits(page, [390])
    page.close()


@pytest.mark.long
@pytest.mark.parametrize("width", [390, 768, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_and_axe_finds_nothing_at_any_width_in_light_and_dark(
    browser: Browser, long_names: Served, width: int, scheme: str
) -> None:
    for path in ALL:
        page = browser.new_page(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,  # type: ignore[arg-type]
        )
        page.goto(f"{long_names.url}{path}")
        check_fits(page, [width])
        check_accessible(page)
        page.close()


def test_an_empty_store_fits_and_says_the_next_step(browser: Browser, tmp_path: Path) -> None:
    store = LocalStore.open(tmp_path / "store")
    with serving(store, league.settings_for(), token=TOKEN) as served:
        page = look_at(browser, served.url)
        check_fits(page)
        page.goto(f"{served.url}/?token={TOKEN.replace(' ', '+')}")
        for path, word in (("/", "First steps"), ("/runs", "No run yet"), ("/models", "No model")):
            page.goto(f"{served.url}{path}")
            expect(page.locator("main")).to_contain_text(word)
            check_fits(page)
        check_accessible(page)


def test_a_chart_says_its_values_under_the_pointer_and_the_arrow_keys(
    browser: Browser, long_names: Served
) -> None:
    """Without JavaScript: the report that a run stores has none."""
    page = look_at(browser, long_names.url, java_script_enabled=False)
    chart = page.get_by_role("radiogroup", name="Right answers by day: values")
    places = chart.get_by_role("radio")
    expect(places).to_have_count(30)
    last = places.nth(29)
    last.hover()
    assert readout(page, 29) == '"2026-03-13: right 64.2 %"'
    assert readout(page, 0) == "none"
    page.mouse.move(0, 0)
    places.nth(0).focus()
    assert readout(page, 0) == '"2026-02-12: right 94.7 %"'
    page.keyboard.press("ArrowRight")
    assert readout(page, 0) == "none"
    assert readout(page, 1) == '"2026-02-13: right 93.7 %"'
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") != "days", "one stop of the tab key a chart"


def readout(page: Page, place: int) -> str:
    """What a place of the chart shows beside it."""
    shown = page.locator(".picks input[name=days]").nth(place)
    return str(shown.evaluate("it => getComputedStyle(it, '::after').content"))


def test_what_is_pointed_at_lies_over_what_is_drawn(browser: Browser, long_names: Served) -> None:
    page = look_at(browser, long_names.url, viewport={"width": 390, "height": 800})
    off = page.evaluate(
        """() => {
            const figure = document.querySelector("#days-t").closest("figure");
            const svg = figure.querySelector("svg.chart"), box = svg.getBoundingClientRect();
            const scale = box.width / svg.viewBox.baseVal.width;
            const path = figure.querySelector(".dots").getAttribute("d");
            const dots = [...path.matchAll(/M([\\d.]+) /g)];
            const picks = [...figure.querySelectorAll(".picks input")];
            return picks.map((pick, place) => {
                const seat = pick.getBoundingClientRect();
                return Math.abs(seat.left + seat.width / 2 - box.left - dots[place][1] * scale);
            });
        }"""
    )
    assert len(off) == 30
    assert max(off) < 1


def test_paper_is_light_and_has_no_buttons(browser: Browser, long_names: Served) -> None:
    page = look_at(browser, long_names.url, color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    card = page.locator("#live-latest")
    assert card.evaluate("it => getComputedStyle(it).backgroundColor") == "rgb(255, 255, 255)"
    expect(page.get_by_role("button", name="Retrain Now")).to_be_hidden()
    expect(page.locator(".picks").first).to_be_hidden()
    expect(page.locator("svg.chart").first).to_be_visible()
