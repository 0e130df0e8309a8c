"""What the page counts, it counts once."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from ml_pipeline.reports.key_figures import by_day
from ml_pipeline.reports.overview import read_overview
from ml_pipeline.store.alerts import TOGETHER
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.web.queries import OverviewCache, kept_once
from tests.support import league
from tests.support.factories import NOW, make_day, make_model


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


class Unchanged(LocalStore):
    """Says of a candidate what Supabase says: that nothing has changed which `status` shows."""

    def etag(self, *, model_name: str, since: date) -> str | None:  # noqa: ARG002 - the contract's
        return "the same"


def test_a_candidate_is_listed_although_it_changes_nothing_of_the_overview(tmp_path: Path) -> None:
    store = Unchanged.open(tmp_path / "store")
    cache = OverviewCache(store, league.settings_for(), lambda: NOW, fresh_s=0)

    def listed() -> list[str]:
        found = kept_once(
            cache.latest(), "models", lambda: store.list_models(model_name="default", limit=10)
        )
        return [model.model_id for model in found]

    assert listed() == []
    store.register(make_model("m-1", model_name="default"))
    assert listed() == ["m-1"]
