"""Many at once, on both stores: whoever wins, the rows agree."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from pydantic import SecretStr

from ml_pipeline.errors import PromotionRefused
from ml_pipeline.store.contract import Store
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import ModelState, PromotionKind, RequestStatus
from ml_pipeline.store.supabase.store import SupabaseStore
from ml_pipeline.store.supabase.transport import Timeouts
from tests.contract.kit.requests import LEASE
from tests.support.factories import (
    MODEL_NAME,
    NOW,
    make_id,
    make_model,
    make_promotion,
    make_request,
)
from tests.support.places import Place

RUNNERS, RACES = 8, 10


def with_long_timeouts(place: Place) -> Store:
    """A handle that waits for minutes: who wins is asked here, not how long a busy machine takes.

    Fifty callers on PostgREST's ten connections wait in a queue for most of their time.
    """
    if place.project is None:
        folder = Path(place.variables["ML_PIPELINE_LOCAL"])
        return LocalStore.open(folder, lock_timeout=timedelta(minutes=5))
    timeouts = Timeouts(attempts=50, budget=300, connect=120, answer=120)
    return SupabaseStore.open(
        place.project.url, SecretStr(place.project.service_key), timeouts=timeouts
    )


def at_once(place: Place, count: int, action: Callable[[Store, int], Any]) -> list[Any]:
    """What `count` handles got from `action` at the same moment: a value or an error."""
    start = Barrier(count)

    def runner(number: int) -> Any:  # noqa: ANN401 - whatever the action returns
        store = with_long_timeouts(place)
        try:
            start.wait()
            return action(store, number)
        except PromotionRefused as error:
            return error
        finally:
            store.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(runner, range(count)))


@pytest.mark.parametrize(
    ("workers", "requests"), [(12, 40), pytest.param(50, 200, marks=pytest.mark.long)]
)
def test_workers_that_claim_at_once_serve_each_request_exactly_once(
    place: Place, workers: int, requests: int
) -> None:
    with place.opened() as store:
        for number in range(requests):
            store.submit(make_request(number))

    def work(handle: Store, number: int) -> list[str]:
        run_id, served = make_id(1000 + number), []
        while request := handle.claim(model_name=MODEL_NAME, run_id=run_id, now=NOW, lease=LEASE):
            handle.complete(request.request_id, run_id=run_id, now=NOW)
            served.append(request.request_id)
        return served

    shares = at_once(place, workers, work)

    times = Counter(request_id for share in shares for request_id in share)
    assert times == dict.fromkeys((make_id(number) for number in range(requests)), 1)
    with place.opened() as store:
        rows = store.list_requests(model_name=MODEL_NAME)
    assert {(row.status, row.attempts) for row in rows} == {(RequestStatus.COMPLETED, 1)}
    served_by = {row.request_id: row.run_id for row in rows}
    for number, share in enumerate(shares):
        assert all(served_by[request_id] == make_id(1000 + number) for request_id in share)


def champion_of(store: Store) -> str:
    models = store.list_models(model_name=MODEL_NAME)
    (serving,) = [model.model_id for model in models if model.state is ModelState.CHAMPION]
    return serving


def test_of_ten_races_of_promotions_and_rollbacks_each_has_exactly_one_winner(
    place: Place,
) -> None:
    with place.opened() as store:
        store.register(make_model("m-0"))
        store.promote(make_promotion("m-0", None, 1))
        for number in range(1, RACES + 1):
            store.register(make_model(f"m-{number}"))
    start = Barrier(RUNNERS, timeout=120)

    def run(handle: Store, number: int) -> list[str | None]:
        won: list[str | None] = []
        for race in range(1, RACES + 1):
            before = champion_of(handle)
            start.wait()
            back = number % 2 == 0 and before != "m-0"
            event = make_promotion(
                "m-0" if back else f"m-{race}", before, 1000 * race + number,
                kind=PromotionKind.ROLLBACK if back else PromotionKind.PROMOTION,
            )  # fmt: skip
            try:
                won.append(handle.promote(event).model_id)
            except PromotionRefused:
                won.append(None)
            start.wait()
        return won

    shares = at_once(place, RUNNERS, run)

    winners = [[name for name in race if name] for race in zip(*shares, strict=True)]
    assert [len(names) for names in winners] == [1] * RACES
    champions = ["m-0", *(name for (name,) in winners)]
    with place.opened() as store:
        events = store.promotion_events(model_name=MODEL_NAME)[::-1]
        assert [event.to_model_id for event in events] == champions
        assert [event.from_model_id for event in events] == [None, *champions[:-1]]
        assert champion_of(store) == champions[-1]
    for event, race in zip(events[1:], range(1, RACES + 1), strict=True):
        is_rollback = event.kind is PromotionKind.ROLLBACK
        assert event.to_model_id == ("m-0" if is_rollback else f"m-{race}")


def test_promotions_and_rollbacks_that_retry_leave_a_history_without_a_gap(place: Place) -> None:
    with place.opened() as store:
        for number in range(6):
            store.register(make_model(f"m-{number}"))
        store.register(make_model("base"))
        store.promote(make_promotion("base", None, 1))

    def insist(handle: Store, number: int) -> int:
        for attempt in range(1, 200):
            champion = handle.champion(model_name=MODEL_NAME)
            assert champion is not None
            event = make_promotion(
                f"m-{number}",
                champion.model_id,
                1000 * (number + 1) + attempt,
                kind=PromotionKind.ROLLBACK if number % 2 else PromotionKind.PROMOTION,
            )
            try:
                handle.promote(event)
            except PromotionRefused:
                continue
            return attempt
        raise AssertionError(number)

    at_once(place, 6, insist)

    with place.opened() as store:
        events = store.promotion_events(model_name=MODEL_NAME)[::-1]
        assert len(events) == 7
        steps = [(event.from_model_id, event.to_model_id) for event in events]
        assert all(later[0] == earlier[1] for earlier, later in itertools.pairwise(steps))
        assert champion_of(store) == steps[-1][1]
