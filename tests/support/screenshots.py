"""Pictures of what people look at: `python -m tests.support.screenshots FOLDER` makes the README's.

A league whose truth turns after a week, with a run every night: its report, the monitoring page
and the page of a backtest.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser

from ml_pipeline.commands.backtest import main as backtest
from ml_pipeline.registry.models import load_model_version
from ml_pipeline.reports import report
from ml_pipeline.runs import recording
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import LookbackWindow
from tests.support import crashing, league
from tests.support.browser import open_browser
from tests.support.league import FirstModel
from tests.support.monitoring import NAME, serving

WIDTH = 1200
LARGEST = 200_000
HEIGHTS = {"report.png": 1500, "monitor.png": 1250, "comparison.png": 1150}
QUIET_NIGHTS = 8


def take_all(browser: Browser, folder: Path, model: FirstModel, *, runs: int) -> list[Path]:
    """Make the three pictures in `folder`; return where they stand."""
    store = _league(folder / "store", model, runs=runs)
    page = folder / "report.html"
    latest = store.latest_run(model_name=NAME)
    assert latest is not None
    page.write_text(report.as_html(latest, store.promotion_events(model_name=NAME)), "utf-8")
    compared = _comparison(folder)
    now = latest.started_at + timedelta(hours=7)
    with serving(store, league.settings_for(), now=lambda: now) as served:
        return [
            _take(browser, page.as_uri(), folder / "report.png"),
            _take(browser, served.url, folder / "monitor.png"),
            _take(browser, compared.as_uri(), folder / "comparison.png"),
        ]


def _league(folder: Path, model: FirstModel, *, runs: int) -> LocalStore:
    nights = league.nights_before(crashing.NOW, QUIET_NIGHTS + runs)
    turned = [
        league.Night(day=night.day, turned=place >= QUIET_NIGHTS // 2)
        for place, night in enumerate(nights)
    ]
    store = league.open_league(
        folder, model.path, model.model, turned[: len(nights) - runs],
        reference=league.first_reference(),
    )  # fmt: skip
    for place, night in enumerate(turned[-runs:]):
        serving_now = store.champion(model_name=NAME)
        assert serving_now is not None
        says = load_model_version(store, serving_now)
        store.append_events(league.events_of(says, night, model_id=serving_now.model_id))
        # The loop stood still for a few nights before the last one.
        if place < runs - 4 or place == runs - 1:
            now = crashing.NOW - timedelta(days=runs - 1 - place)
            settings = league.settings_for(run__trigger="any")
            recording.run(
                store, crashing.order(folder / "work", now, f"{place}", settings=settings)
            )
    window = LookbackWindow.ending(crashing.NOW, days=60)
    days = store.sum_days(window, model_name=NAME, confidence_threshold=0.7)
    store.keep_days(days, now=crashing.NOW)
    return store


def _comparison(folder: Path) -> Path:
    """A history whose truth turns in the middle, replayed."""
    history = folder / "history.csv"
    parts = [league.play(1, 3000), league.play(2, 3000, turned=True)]
    rows = np.column_stack(
        [
            np.vstack([part.features for part in parts]).round(6),
            np.repeat(np.arange(200), 30),
            np.concatenate([part.labels for part in parts]),
        ]
    )
    names = ["a", "b", "c", "d", "e", "night", "result"]
    lines = [",".join(names), *(",".join(map(str, row)) for row in rows)]
    history.write_text("\n".join(lines) + "\n", encoding="utf-8")
    code = backtest(
        ["--csv", str(history), "--target", "result", "--night", "night",
         "--policies", "frozen,seed,adaptive", "--output_dir", str(folder / "compared")]
    )  # fmt: skip
    assert code == 0
    return folder / "compared" / "comparison.html"


def _take(browser: Browser, url: str, path: Path) -> Path:
    page = browser.new_page(viewport={"width": WIDTH, "height": 800})
    page.goto(url)
    whole = page.evaluate("document.documentElement.scrollHeight")
    # A window as high as the picture: Chromium may fail to draw what lies beyond its window.
    page.set_viewport_size({"width": WIDTH, "height": min(HEIGHTS[path.name], whole)})
    page.screenshot(path=path)
    page.close()
    return path


def main() -> None:
    """Make the README's pictures."""
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, open_browser() as browser:
        folder = Path(scratch)
        path = folder / "model.skops"
        model = FirstModel(path=path, model=league.train_first(path, league.settings_for()))
        for picture in take_all(browser, folder, model, runs=10):
            (target / picture.name).write_bytes(picture.read_bytes())


if __name__ == "__main__":
    main()
