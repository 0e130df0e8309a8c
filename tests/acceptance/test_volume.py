"""What moves over the network while nothing happens: bounds that hold whatever the log's size.

`python -m tests.benchmarks.bench_volume` measures the same with 5,000 rows a day.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.decay.context import CheckContext
from ml_pipeline.decay.daily_checks import daily_checks
from ml_pipeline.decay.watchdog import check_decay
from ml_pipeline.reports.overview import read_overview
from ml_pipeline.runs.children import Done
from ml_pipeline.runs.schedule import Schedule
from ml_pipeline.runs.worker import Duties, Worker
from ml_pipeline.store.contract import Store
from ml_pipeline.store.opening import open_store
from ml_pipeline.store.store_serving_view import StoreServingView
from ml_pipeline.web.queries import OverviewCache
from tests.support import league
from tests.support.counting import Counter, counting, fill
from tests.support.supabase.project import SupabaseProject

NOW = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)
POLL = timedelta(minutes=1)
MEGABYTE = 1_000_000
Opened = Callable[[], Store]


@pytest.fixture(scope="module")
def filled(our_schema: None, supabase: SupabaseProject) -> SupabaseProject:  # noqa: ARG001
    """Ten runs with details of 300 kB each, and more rows than a check reads."""
    supabase.reset()
    fill(supabase, NOW, runs=10, rows=600, days=12)
    supabase.keep()
    return supabase


@pytest.fixture
def counter(filled: SupabaseProject) -> Iterator[Counter]:
    with counting(filled.url) as counter:
        yield counter


@pytest.fixture
def opened(filled: SupabaseProject, counter: Counter) -> Iterator[Opened]:
    variables = {"SUPABASE_URL": counter.url, "SUPABASE_SERVICE_KEY": filled.service_key}
    stores: list[Store] = []

    def open_one() -> Store:
        stores.append(open_store(load_store_settings(environment=variables)))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


class Minutes:
    """A clock that a waiting worker moves on."""

    def __init__(self, polls: int) -> None:
        self.now, self.left = NOW, polls

    def is_set(self) -> bool:
        return self.left <= 0

    def wait(self, timeout: float | None = None, /) -> bool:
        self.now += timedelta(seconds=timeout or 0)
        self.left -= 1
        return self.is_set()


def perform(*_: object, **__: object) -> Done:
    """Do nothing, and say that it was done."""
    return Done(code=0, result={}, pid=1)


def test_an_idle_worker_moves_a_few_megabytes_a_day(opened: Opened, counter: Counter) -> None:
    minutes = Minutes(polls=100)
    worker = Worker(
        settings=league.settings_for(),
        duties=Duties(schedule=Schedule(every=timedelta(hours=24)), poll=POLL),
        holder="one", open_store=opened, perform=perform, report=lambda _: None,
        clock=lambda: minutes.now,
    )  # fmt: skip
    store = opened()
    worker._do_what_is_due(minutes)
    first = counter.taken()
    polls = 20
    for _ in range(polls):
        minutes.wait(60)
        worker._do_what_is_due(minutes)
    requests, moved = counter.taken()
    assert requests == 2 * polls
    assert moved / polls * timedelta(days=1) / POLL < 10 * MEGABYTE
    assert first[1] < 0.1 * MEGABYTE
    # What changes is read again.
    assert store.etag(model_name="default", since=NOW.date())


def test_a_page_that_nothing_happens_on_costs_a_question_a_view(
    opened: Opened, counter: Counter
) -> None:
    now = [NOW]
    settings = league.settings_for()
    cache = OverviewCache(opened(), settings, lambda: now[0], fresh_s=0)
    first = cache.latest()
    # One run is shown with its details but for those of its report, the others with a line each.
    assert counter.taken()[1] < 0.1 * MEGABYTE
    views = 20
    for _ in range(views):
        now[0] += timedelta(seconds=30)
        assert cache.latest().overview.runs is first.overview.runs
    requests, moved = counter.taken()
    assert requests == views
    assert moved / views * timedelta(days=1) / timedelta(seconds=30) < 15 * MEGABYTE
    now[0] += timedelta(days=3)
    late = cache.latest().overview
    assert (late.at, late.is_late, first.overview.is_late) == (now[0], True, False)


def test_a_check_reads_sums_and_a_sample(opened: Opened, counter: Counter) -> None:
    settings = league.settings_for()
    store = opened()
    context = CheckContext(settings=settings, now=NOW, new_id=league.ids())
    check_decay(store, context)
    counter.taken()
    context = CheckContext(settings=settings, now=NOW + timedelta(hours=1), new_id=league.ids())
    found = check_decay(store, context)
    assert counter.taken()[1] < 0.1 * MEGABYTE
    assert found.verdict.sentence
    daily = daily_checks(store, context)
    assert counter.taken()[1] < 1.0 * MEGABYTE
    assert daily["errors_in_order"]["rows"] > 3_000
    assert {drift["rows"] for drift in daily["drift"]} <= set(range(1_000, 2_001))


def test_the_overview_is_what_it_was_when_it_read_everything(opened: Opened) -> None:
    store = opened()
    overview = read_overview(store, league.settings_for(), now=NOW)
    whole = store.list_runs(model_name="default", limit=30)
    assert [run.run_id for run in overview.runs] == [run.run_id for run in whole]
    assert set(overview.runs[0].details) == {"place", "champion_metrics"}
    assert {tuple(run.details) for run in overview.runs[1:]} == {("champion_metrics",)}


def test_an_engine_asks_each_second_who_serves_and_not_for_its_row(
    opened: Opened, counter: Counter, filled: SupabaseProject
) -> None:
    lineage = json.dumps({"open_event_ids": ["x" * 36] * 1_000})
    filled.sql("update model_metadata set lineage = %s where state = 'champion'", [lineage])
    with closing(StoreServingView(opened())) as view:
        first = view.champion("default")
        assert counter.taken()[1] > 36_000
        for _ in range(20):
            assert view.champion("default") is first
        moved = counter.taken()[1] / 20
        assert moved < 1_500
        filled.sql("update model_metadata set state = 'retired' where state = 'champion'")
        assert view.champion("default") is None
