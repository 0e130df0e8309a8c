"""What the page counts, it counts once."""

from __future__ import annotations

from pathlib import Path

from ml_pipeline.reports.key_figures import by_day
from ml_pipeline.reports.overview import read_overview
from ml_pipeline.store.alerts import TOGETHER
from ml_pipeline.store.embedded.store import LocalStore
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
    days = by_day(overview).values()
    assert [(it.answered, it.right, it.uncertain) for it in days] == [(95, 70, 5), (195, 140, 5)]
