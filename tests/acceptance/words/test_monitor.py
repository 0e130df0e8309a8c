"""The monitoring page in a real browser, on an empty store, a small one and one of 10,000 runs.

Chromium is the one on the PATH, else a build from the npm registry: see `tests.support.browser`.
"""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from ml_pipeline.runs import recording
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import ModelState, RequestStatus
from tests.conftest import FirstModel
from tests.support import crashing, league, screenshots, warm
from tests.support.browser import open_browser
from tests.support.factories import make_model
from tests.support.fitting import check_fits
from tests.support.monitoring import (
    HOSTILE,
    NAME,
    TOKEN,
    Served,
    fill_with_many,
    make_id,
    serving,
)
from tests.support.shell import PYTHON, ROOT, environment

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    store = fill_with_many(tmp_path_factory.mktemp("many") / "store")
    with serving(store, league.settings_for()) as served:
        yield served


@pytest.fixture
def small(tmp_path: Path, first_model: FirstModel) -> Iterator[Served]:
    """A champion with four nights of outcomes; what is promoted waits for a person."""
    nights = league.nights_before(crashing.NOW, 4)
    store = league.open_league(tmp_path / "store", first_model.path, first_model.model, nights)
    settings = league.settings_for(promotion__policy="approval")
    with serving(store, settings, now=lambda: crashing.NOW) as served:
        yield served


def look_at(browser: Browser, url: str, **options: Any) -> Page:  # noqa: ANN401 - Playwright's
    """A page in a fresh profile; whatever its console complains of is a failure."""
    page = browser.new_context(**options).new_page()
    complaints: list[str] = []
    page.on(
        "console", lambda entry: complaints.append(entry.text) if entry.type == "error" else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(url)
    assert complaints == []
    return page


def check_accessible(page: Page) -> None:
    found = Axe().run(page).response["violations"]
    assert [(it["id"], it["nodes"][0]["html"]) for it in found] == []


def check_charts_are_described(page: Page, count: int) -> None:
    charts = page.locator("svg.chart")
    expect(charts).to_have_count(count)
    for chart in charts.all():
        assert chart.get_attribute("role") == "img"
        assert len(chart.locator("> title").text_content() or "") > 10
        assert len(chart.locator("> desc").text_content() or "") > 30


def test_an_empty_store_has_its_page(browser: Browser, tmp_path: Path) -> None:
    with serving(LocalStore.open(tmp_path / "store"), league.settings_for()) as served:
        page = look_at(browser, served.url)
        expect(page.locator("#live-latest")).to_contain_text("No run yet")
        check_accessible(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_ten_thousand_runs_are_shown_and_what_is_hostile_is_text(
    browser: Browser, many: Served, scheme: str
) -> None:
    page = look_at(browser, many.url, color_scheme=scheme)
    expect(page.locator("#live-runs tbody tr")).to_have_count(30)
    assert len(page.request.get(many.url).body()) < 36_000
    check_charts_are_described(page, 5)
    check_accessible(page)
    for part in (
        "#live-latest",
        "#live-queue",
        "#live-alerts",
        "#live-runs",
        "#live-classes",
        "#back-to",
    ):
        assert "<img src=x" in (page.locator(part).text_content() or ""), part
    assert "49" not in page.locator("#live-latest p.failed").inner_text()
    page.get_by_role("link", name="Report of this run").click()
    expect(page.locator("#errors")).to_be_visible()
    assert (page.locator("main").text_content() or "").count(HOSTILE) > 5
    check_accessible(page)
    page.goto(f"{many.url}/runs/{make_id(20_001)}/report.html")
    assert page.locator("style").count() == 1
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.badge')).borderRadius") == "16px"
    )
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0


def test_a_phone_need_not_scroll_sideways_and_times_are_the_viewers(
    browser: Browser, many: Served
) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "timezone_id": "Asia/Tokyo"}
    page = look_at(browser, many.url, **phone, locale="en-GB")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    time = page.locator("#live-runs time").nth(1)
    assert time.get_attribute("title") == "2026-03-14 02:00:00 UTC"
    assert time.inner_text() == "14 Mar 2026, 11:00"


def test_retrain_now_ends_as_a_request_and_then_as_a_run(
    browser: Browser, small: Served, tmp_path: Path
) -> None:
    page = look_at(browser, small.url)
    page.get_by_label("Reason (optional)").focus()
    page.keyboard.type("new season")
    page.get_by_label("Priority").select_option("high")
    page.get_by_role("button", name="Retrain Now").press("Enter")
    expect(page.get_by_role("status")).to_contain_text("is in the queue")
    expect(page.locator("#live-queue")).to_contain_text("new season")
    waiting = small.store.list_requests(model_name=NAME, status=RequestStatus.PENDING)
    assert [(it.reason, str(it.priority)) for it in waiting] == [("new season", "high")]

    settings = league.settings_for(promotion__policy="approval")
    result = recording.run(small.store, crashing.order(tmp_path / "work", settings=settings)).result
    assert result["request_ids"] == [waiting[0].request_id]
    page.wait_for_timeout(1100)  # the page's own look is a second old at most
    page.reload()
    expect(page.locator("#live-latest .badge")).to_have_text("awaiting approval")
    expect(page.locator("#live-queue")).to_contain_text("No requests")
    check_accessible(page)

    page.locator("#live-waiting").get_by_role("button", name="Approve").click()
    expect(page.get_by_role("status")).to_contain_text("serves now")
    assert champion(small) == result["challenger"]
    page.locator("#back-reason").fill("it looks wrong")
    page.get_by_role("button", name="Roll back").click()
    expect(page.get_by_role("status")).to_contain_text("first serves again")
    assert champion(small) == league.FIRST_MODEL
    last = small.store.promotion_events(model_name=NAME)[0]
    assert (str(last.kind), last.reason, last.actor) == ("rollback", "it looks wrong", "person")


def champion(served: Served) -> str:
    found = served.store.champion(model_name=NAME)
    assert found is not None
    return found.model_id


def test_a_challenger_can_be_refused_without_javascript(browser: Browser, small: Served) -> None:
    small.store.register(make_model("m-9", model_name=NAME, state=ModelState.AWAITING))
    page = look_at(browser, small.url, java_script_enabled=False)
    page.locator("#decision-1").fill("not yet")
    page.get_by_role("button", name="Reject").click()
    expect(page.get_by_role("status")).to_contain_text("will not serve")
    assert champion(small) == league.FIRST_MODEL
    assert small.store.get_model(NAME, "m-9").state is ModelState.RETIRED


def test_the_refresh_keeps_what_is_being_typed_and_the_focus(
    browser: Browser, many: Served
) -> None:
    page = browser.new_context().new_page()
    page.clock.install()
    page.goto(many.url)
    field = page.get_by_label("Reason (optional)")
    field.focus()
    page.keyboard.type("half a sen")
    many.store.cancel(make_id(7), now=crashing.NOW)
    page.wait_for_timeout(1100)
    page.clock.run_for(31_000)
    expect(page.locator("#live-queue")).to_contain_text("No requests")
    expect(page.locator("#refreshed")).to_contain_text("Updated at")
    expect(field).to_have_value("half a sen")
    expect(field).to_be_focused()
    page.keyboard.type("tence")
    expect(field).to_have_value("half a sentence")


def post(url: str, **headers: str) -> int:
    body = urllib.parse.urlencode({"reason": "forged", "csrf": "guess"}).encode()
    asked = urllib.request.Request(f"{url}/retrain", body, headers)
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


def test_a_form_of_another_site_is_refused(browser: Browser, many: Served) -> None:
    before = len(many.store.list_requests(model_name=NAME))
    page = look_at(browser, many.url)
    form = (
        f'<form method="post" action="{many.url}/retrain"><input name="reason" value="forged">'
        "<button>go</button></form>"
    )
    page.route(
        "http://evil.example/", lambda route: route.fulfill(body=form, content_type="text/html")
    )
    page.goto("http://evil.example/")
    with page.expect_navigation() as going:
        page.get_by_role("button").click()
    assert going.value is not None
    assert going.value.status == 403
    assert post(many.url) == 403
    assert post(many.url, Origin="http://evil.example") == 403
    assert post(many.url, Host="evil.example") == 421
    assert len(many.store.list_requests(model_name=NAME)) == before


def test_beyond_this_machine_a_token_is_asked_for(browser: Browser, tmp_path: Path) -> None:
    store = LocalStore.open(tmp_path / "store")
    with serving(store, league.settings_for(), token=TOKEN) as served:
        page = look_at(browser, served.url)
        assert page.url.endswith("/sign-in")
        check_accessible(page)
        for wrong in ("", TOKEN[:-1], TOKEN + "x", "ключ"):
            answer = page.request.get(
                f"{served.url}/api/overview",
                headers={"Authorization": f"Bearer {urllib.parse.quote(wrong)}"},
            )
            assert answer.status == 401, wrong
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button").click()
        expect(page.get_by_role("alert")).to_have_text("Wrong token.")
        assert post(served.url) == 401
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Training of default")
        assert TOKEN not in page.content()
        assert TOKEN not in str(page.context.cookies())
        answer = page.request.get(
            f"{served.url}/api/runs", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        assert answer.json() == {"runs": []}
        assert page.request.get(f"{served.url}/health").status == 200
        page.get_by_role("button", name="Sign out").click()
        assert page.url.endswith("/sign-in")


def test_the_command_serves_whom_it_gave_its_address_until_it_is_told_to_end(
    browser: Browser, tmp_path: Path
) -> None:
    command = [PYTHON, "-m", "ml_pipeline", "monitor", "--port", "0", "--local", "store"]
    everywhere = "0.0.0.0"  # noqa: S104 - that is what is refused
    refused = warm.ml_pipeline("monitor", "--local", "store", "--host", everywhere, cwd=tmp_path)
    assert refused.code == 1
    assert "ML_PIPELINE_MONITOR_TOKEN" in refused.stderr
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        started = json.loads(process.stdout.readline())
        address, _, token = started["url"].partition("?token=")
        for path, code in ((f"api/overview?token={token}", 401), ("api/overview", 401)):
            with pytest.raises(urllib.error.HTTPError) as refusal:
                urllib.request.urlopen(f"{address}{path}", timeout=30)
            assert refusal.value.code == code
        headers = {"Authorization": f"Bearer {token}"}
        wanted = urllib.request.Request(f"{address}api/overview", headers=headers)
        with urllib.request.urlopen(wanted, timeout=30) as answer:
            assert json.load(answer)["runs"] == []
        page = browser.new_context().new_page()
        page.goto(started["url"])
        assert page.url == address
        expect(page.get_by_role("heading", level=1)).to_have_text("Training of default")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_pictures_of_report_page_and_comparison_are_small_and_show_something(
    browser: Browser, tmp_path: Path, first_model: FirstModel
) -> None:
    pictures = screenshots.take_all(browser, tmp_path, first_model, runs=1)
    kept = sorted((ROOT / ".github" / "images").iterdir())
    assert [path.name for path in kept] == sorted(path.name for path in pictures)
    shown = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for path in kept:
        assert 20_000 < path.stat().st_size <= screenshots.LARGEST, path
        assert f".github/images/{path.name}" in shown
    for path in pictures:
        # How many bytes a picture takes is the matter of this machine's fonts.
        colours, (width, height) = seen_in(browser, path)
        assert width == screenshots.WIDTH
        assert 500 < height <= screenshots.HEIGHTS[path.name]
        assert colours > 50, path
    for name in ("report.html", "compared/comparison.html"):
        page = look_at(browser, (tmp_path / name).as_uri(), java_script_enabled=True)
        check_charts_are_described(page, 5 if name == "report.html" else 2)
        check_fits(page)
        check_accessible(page)
    report_page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No input has shifted" in report_page, "the truth has turned, not the inputs"


def seen_in(browser: Browser, picture: Path) -> tuple[int, list[int]]:
    """How many colours a picture has, and how wide and high it is."""
    page = browser.new_page()
    page.goto("about:blank")
    found = page.evaluate(
        """async data => {
            const picture = await createImageBitmap(await (await fetch(data)).blob());
            const canvas = new OffscreenCanvas(picture.width, picture.height);
            const drawing = canvas.getContext("2d");
            drawing.drawImage(picture, 0, 0);
            const pixels = drawing.getImageData(0, 0, picture.width, picture.height).data;
            const colours = new Set(new Uint32Array(pixels.buffer));
            return [colours.size, [picture.width, picture.height]];
        }""",
        f"data:image/png;base64,{b64encode(picture.read_bytes()).decode()}",
    )
    page.close()
    return found[0], found[1]
