"""What the page counts, it counts once."""

from __future__ import annotations

from pathlib import Path

from ml_pipeline.reports.overview import read_overview
from ml_pipeline.store.alerts import TOGETHER
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.web.queries import by_day
from tests.support import league
from tests.support.factories import NOW, make_day


def test_o10_outcomes_are_counted_once_though_a_day_is_kept_for_each_model_and_for_all(
    tmp_path: Path,
) -> None:
    store = LocalStore.open(tmp_path / "store")
    store.keep_days(
        [
            make_day(1, model_name="default", model_id=TOGETHER, evaluated=200, correct=140),
            make_day(1, model_name="default", model_id="m-1"),
            make_day(1, model_name="default", model_id="m-2"),
            # A day that the watchdog has not summed yet.
            make_day(2, model_name="default", model_id="m-1"),
        ],
        now=NOW,
    )
    overview = read_overview(store, league.settings_for(), now=NOW)
    assert [(count, right) for _, count, right in by_day(overview)] == [(95, 70), (195, 140)]
