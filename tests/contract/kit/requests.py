"""The conformance kit: promises about requests."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ml_pipeline.errors import AlreadyFinished, NotFound, StoreRefused
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import OpenLimits, Priority, RequestStatus
from tests.contract.kit.base import (
    AWKWARD,
    RACERS,
    Call,
    OpenStore,
    StoreFixtures,
    race,
)
from tests.support.factories import (
    MODEL_NAME,
    NOW,
    make_id,
    make_request,
    make_run,
)

LEASE = timedelta(minutes=30)


class RequestQueueContract(StoreFixtures):
    """Requests."""

    @staticmethod
    def claim(store: Store, run: int = 100, *, after: timedelta = timedelta(0), **more: Any) -> Any:  # noqa: ANN401
        """Claim for the run with that number, `after` the start."""
        return store.claim(
            model_name=MODEL_NAME, run_id=make_id(run), now=NOW + after, lease=LEASE, **more
        )

    def test_a_submitted_request_comes_back_as_it_was(self, store: Store) -> None:
        request = make_request(reason=AWKWARD, priority=Priority.HIGH)
        assert store.submit(request) == request
        assert store.get_request(request.request_id) == request
        assert store.list_requests(model_name=MODEL_NAME) == [request]

    def test_submitting_the_same_request_again_changes_nothing(self, store: Store) -> None:
        store.submit(make_request())
        claimed = self.claim(store)
        assert store.submit(make_request()) == claimed
        assert store.list_requests(model_name=MODEL_NAME) == [claimed]

    def test_submitting_a_known_id_with_other_content_is_refused(self, store: Store) -> None:
        store.submit(make_request())
        with pytest.raises(StoreRefused):
            store.submit(make_request(priority=Priority.HIGH))
        assert store.list_requests(model_name=MODEL_NAME) == [make_request()]

    def test_only_a_fresh_request_can_be_submitted(self, store: Store) -> None:
        for change in (
            {"status": RequestStatus.COMPLETED},
            {"run_id": make_id(5)},
            {"attempts": 1},
            {"lease_until": NOW},
        ):
            with pytest.raises(StoreRefused):
                store.submit(make_request(**change))
        assert store.list_requests(model_name=MODEL_NAME) == []

    def test_an_empty_queue_gives_none(self, store: Store) -> None:
        assert self.claim(store) is None

    def test_a_claim_is_recorded_in_the_row(self, store: Store) -> None:
        store.submit(make_request())
        claimed = self.claim(store)
        assert claimed == make_request(
            status=RequestStatus.PROCESSING,
            run_id=make_id(100),
            attempts=1,
            claimed_at=NOW,
            lease_until=NOW + LEASE,
        )
        assert store.get_request(make_id(1)) == claimed

    def test_defect_9_requests_are_served_by_priority_and_then_age(self, store: Store) -> None:
        asked = [
            (1, Priority.LOW, 0),
            (2, Priority.NORMAL, 3),
            (3, Priority.HIGH, 9),
            (4, Priority.NORMAL, 2),
            (5, Priority.HIGH, 8),
        ]
        for number, priority, minutes in asked:
            at = NOW + timedelta(minutes=minutes)
            store.submit(make_request(number, priority=priority, created_at=at))
        served = [make_id(number) for number in (5, 3, 4, 2, 1)]
        listed = store.list_requests(model_name=MODEL_NAME)
        assert [request.request_id for request in listed] == served
        assert [self.claim(store).request_id for _ in asked] == served
        assert self.claim(store) is None

    def test_one_request_can_be_asked_for(self, store: Store) -> None:
        store.submit(make_request(1, priority=Priority.HIGH))
        store.submit(make_request(2, priority=Priority.LOW))
        assert self.claim(store, request_id=make_id(2)).request_id == make_id(2)
        assert store.get_request(make_id(1)).status is RequestStatus.PENDING

    def test_asking_again_for_a_request_that_the_run_holds_changes_nothing(
        self, store: Store
    ) -> None:
        store.submit(make_request())
        claimed = self.claim(store, request_id=make_id(1))
        minute = timedelta(minutes=1)
        assert self.claim(store, after=minute, request_id=make_id(1)) == claimed
        assert store.get_request(make_id(1)) == claimed

    def test_a_run_may_renew_its_own_lease_when_it_has_run_out(self, store: Store) -> None:
        store.submit(make_request())
        self.claim(store, request_id=make_id(1))
        renewed = self.claim(store, after=LEASE, request_id=make_id(1))
        assert (renewed.attempts, renewed.lease_until) == (2, NOW + 2 * LEASE)
        assert store.get_request(make_id(1)) == renewed

    def test_a_request_that_another_run_holds_is_none(self, store: Store) -> None:
        store.submit(make_request())
        claimed = self.claim(store, 100)
        assert self.claim(store, 101, request_id=make_id(1)) is None
        assert self.claim(store, 101) is None
        assert store.get_request(make_id(1)) == claimed

    def test_requests_of_other_models_are_not_claimed(self, store: Store) -> None:
        store.submit(make_request(model_name="tennis"))
        assert self.claim(store) is None
        assert self.claim(store, request_id=make_id(1)) is None

    def test_defect_10_of_racing_claims_exactly_one_wins(
        self, store: Store, open_store: OpenStore
    ) -> None:
        store.submit(make_request())
        got = race(open_store, lambda handle, number: self.claim(handle, 100 + number))
        winners = [item for item in got if item is not None]
        assert len(winners) == 1
        assert store.get_request(make_id(1)) == winners[0]
        assert winners[0].attempts == 1

    def test_racing_claims_share_the_queue(self, store: Store, open_store: OpenStore) -> None:
        for number in range(RACERS):
            store.submit(make_request(number))
        got = race(open_store, lambda handle, number: self.claim(handle, 100 + number))
        assert sorted(item.request_id for item in got) == [make_id(n) for n in range(RACERS)]

    def test_defect_10_a_lease_that_has_run_out_is_claimable_and_keeps_its_attempts(
        self, store: Store
    ) -> None:
        store.submit(make_request())
        self.claim(store, 100)
        assert self.claim(store, 101, after=LEASE - timedelta(microseconds=1)) is None
        again = self.claim(store, 101, after=LEASE)
        assert (again.run_id, again.attempts) == (make_id(101), 2)
        assert again.lease_until == NOW + 2 * LEASE
        with pytest.raises(StoreRefused):
            store.complete(make_id(1), run_id=make_id(100), now=NOW + LEASE)

    def test_a_completed_request_stays_completed(self, store: Store) -> None:
        store.submit(make_request())
        self.claim(store)
        end = NOW + timedelta(minutes=9)
        store.complete(make_id(1), run_id=make_id(100), now=end)
        closed = store.get_request(make_id(1))
        assert (closed.status, closed.processed_at) == (RequestStatus.COMPLETED, end)
        assert (closed.run_id, closed.lease_until) == (make_id(100), None)
        store.complete(make_id(1), run_id=make_id(100), now=end)
        calls: tuple[Call, ...] = (
            lambda: store.complete(make_id(1), run_id=make_id(101), now=end),
            lambda: store.fail(make_id(1), run_id=make_id(100), now=end, reason="x"),
            lambda: store.release(make_id(1), run_id=make_id(100), now=end),
            lambda: store.cancel(make_id(1), now=end),
        )
        for call in calls:
            with pytest.raises(AlreadyFinished):
                call()
        assert store.get_request(make_id(1)) == closed
        assert self.claim(store, after=timedelta(days=9)) is None

    def test_a_failed_request_keeps_its_reason(self, store: Store) -> None:
        store.submit(make_request())
        self.claim(store)
        for _ in range(2):
            store.fail(make_id(1), run_id=make_id(100), now=NOW, reason=AWKWARD)
        closed = store.get_request(make_id(1))
        assert (closed.status, closed.error_message) == (RequestStatus.FAILED, AWKWARD)
        with pytest.raises(AlreadyFinished):
            store.complete(make_id(1), run_id=make_id(100), now=NOW)
        assert store.get_request(make_id(1)) == closed

    def test_only_the_holder_closes_or_releases(self, store: Store) -> None:
        store.submit(make_request(1))
        store.submit(make_request(2))
        held = self.claim(store, 100, request_id=make_id(1))
        calls: tuple[Call, ...] = (
            lambda: store.complete(make_id(1), run_id=make_id(101), now=NOW),
            lambda: store.fail(make_id(1), run_id=make_id(101), now=NOW, reason="x"),
            lambda: store.release(make_id(1), run_id=make_id(101), now=NOW),
            lambda: store.complete(make_id(2), run_id=make_id(100), now=NOW),
        )
        for call in calls:
            with pytest.raises(StoreRefused):
                call()
        assert store.get_request(make_id(1)) == held
        assert store.get_request(make_id(2)) == make_request(2)

    def test_a_released_request_is_pending_again_and_keeps_its_attempts(self, store: Store) -> None:
        store.submit(make_request())
        self.claim(store)
        for _ in range(2):
            store.release(make_id(1), run_id=make_id(100), now=NOW)
        assert store.get_request(make_id(1)) == make_request(attempts=1)
        assert self.claim(store, 101).attempts == 2

    def test_a_cancelled_request_is_never_claimed(self, store: Store) -> None:
        store.submit(make_request())
        cancelled = store.cancel(make_id(1), now=NOW)
        assert cancelled.status is RequestStatus.CANCELLED
        assert store.cancel(make_id(1), now=NOW + timedelta(hours=1)) == cancelled
        assert store.get_request(make_id(1)) == cancelled
        assert self.claim(store) is None
        assert self.claim(store, request_id=make_id(1)) is None

    def test_a_request_in_work_cannot_be_cancelled(self, store: Store) -> None:
        store.submit(make_request())
        claimed = self.claim(store)
        with pytest.raises(AlreadyFinished):
            store.cancel(make_id(1), now=NOW)
        assert store.get_request(make_id(1)) == claimed

    def test_of_a_racing_claim_and_cancel_one_wins(
        self, store: Store, open_store: OpenStore
    ) -> None:
        store.submit(make_request())

        def act(handle: Store, number: int) -> Any:  # noqa: ANN401 - either answer
            if number % 2:
                return self.claim(handle, 100 + number)
            return handle.cancel(make_id(1), now=NOW)

        got = race(open_store, act)
        final = store.get_request(make_id(1))
        claims = [item for item in got[1::2] if item is not None]
        if final.status is RequestStatus.CANCELLED:
            assert claims == []
            assert got[0::2] == [final] * (RACERS // 2)
        else:
            assert claims == [final]
            assert all(isinstance(item, AlreadyFinished) for item in got[0::2])

    def test_unknown_requests_are_not_found(self, store: Store) -> None:
        run_id = make_id(100)
        calls: tuple[Call, ...] = (
            lambda: store.get_request(make_id(9)),
            lambda: store.cancel(make_id(9), now=NOW),
            lambda: store.complete(make_id(9), run_id=run_id, now=NOW),
            lambda: store.fail(make_id(9), run_id=run_id, now=NOW, reason="x"),
            lambda: store.release(make_id(9), run_id=run_id, now=NOW),
            lambda: self.claim(store, request_id=make_id(9)),
        )
        for call in calls:
            with pytest.raises(NotFound):
                call()

    def test_requests_are_listed_by_status(self, store: Store) -> None:
        for number in (1, 2, 3):
            store.submit(make_request(number))
        claimed = self.claim(store)
        pending = store.list_requests(model_name=MODEL_NAME, status=RequestStatus.PENDING)
        assert pending == [make_request(2), make_request(3)]
        held = store.list_requests(model_name=MODEL_NAME, status=RequestStatus.PROCESSING)
        assert held == [claimed]
        assert store.list_requests(model_name="tennis") == []

    def test_stale_requests_return_to_the_queue(self, store: Store) -> None:
        store.submit(make_request(1))
        store.submit(make_request(2))
        self.claim(store)
        fresh = self.claim(store, after=timedelta(microseconds=1))
        released = store.release_stale(model_name=MODEL_NAME, now=NOW + LEASE, max_attempts=3)
        assert released == [make_request(1, attempts=1)]
        assert store.get_request(make_id(1)) == make_request(1, attempts=1)
        assert store.get_request(make_id(2)) == fresh
        again = store.release_stale(model_name=MODEL_NAME, now=NOW + LEASE, max_attempts=3)
        assert again == []

    def test_requests_without_attempts_left_fail_with_a_reason(self, store: Store) -> None:
        store.submit(make_request())
        self.claim(store, 100)
        self.claim(store, 101, after=LEASE)
        end = NOW + 2 * LEASE
        (failed,) = store.release_stale(model_name=MODEL_NAME, now=end, max_attempts=2)
        assert (failed.status, failed.attempts) == (RequestStatus.FAILED, 2)
        assert failed.processed_at == end
        assert failed.error_message
        assert "2" in failed.error_message
        assert store.get_request(make_id(1)) == failed
        assert self.claim(store, 102, after=9 * LEASE) is None
        with pytest.raises(AlreadyFinished):
            store.complete(make_id(1), run_id=make_id(101), now=end)

    def test_stale_requests_of_other_models_stay(self, store: Store) -> None:
        store.submit(make_request())
        held = self.claim(store)
        later = NOW + 9 * LEASE
        assert store.release_stale(model_name="tennis", now=later, max_attempts=1) == []
        assert store.get_request(make_id(1)) == held

    def test_a_run_that_renews_keeps_its_leases(self, store: Store) -> None:
        for number in (1, 2, 3):
            store.submit(make_request(number))
        first = self.claim(store, 100)
        self.claim(store, 100, after=timedelta(minutes=1))
        others = self.claim(store, 101)
        later = NOW + LEASE - timedelta(microseconds=1)
        assert store.renew(run_id=make_id(100), now=later, lease=LEASE) == 2
        renewed = store.get_request(make_id(1))
        assert renewed == replace(first, lease_until=later + LEASE)
        assert store.get_request(others.request_id) == others
        assert store.release_stale(
            model_name=MODEL_NAME, now=later + LEASE / 2, max_attempts=3
        ) == [make_request(3, attempts=1)]
        assert self.claim(store, 102, after=LEASE, request_id=make_id(1)) is None

    def test_a_clock_that_was_set_back_shortens_no_lease(self, store: Store) -> None:
        store.submit(make_request())
        held = self.claim(store)
        earlier = NOW - timedelta(days=1)
        assert store.renew(run_id=make_id(100), now=earlier, lease=LEASE) == 1
        assert store.get_request(make_id(1)) == held

    def test_there_is_nothing_to_renew_of_requests_that_are_closed_or_lost(
        self, store: Store
    ) -> None:
        for number in (1, 2, 3):
            store.submit(make_request(number))
            self.claim(store, 100)
        store.complete(make_id(1), run_id=make_id(100), now=NOW)
        store.release(make_id(2), run_id=make_id(100), now=NOW)
        self.claim(store, 101, after=LEASE, request_id=make_id(3))
        before = store.list_requests(model_name=MODEL_NAME)
        assert store.renew(run_id=make_id(100), now=NOW + LEASE, lease=LEASE) == 0
        assert store.list_requests(model_name=MODEL_NAME) == before

    def test_nobody_may_have_more_open_requests_than_the_limit(self, store: Store) -> None:
        limits = OpenLimits(per_user=2, total=3)
        for number in (1, 2):
            store.submit(make_request(number, requested_by=make_id(7)), limits=limits)
        with pytest.raises(StoreRefused, match=f"{make_id(7)} has 2 open requests"):
            store.submit(make_request(3, requested_by=make_id(7)), limits=limits)
        again = make_request(2, requested_by=make_id(7))
        assert store.submit(again, limits=limits) == again
        store.submit(make_request(4, requested_by=make_id(8)), limits=limits)
        with pytest.raises(StoreRefused, match="3 requests are open"):
            store.submit(make_request(5), limits=limits)
        store.cancel(make_id(1), now=NOW)
        store.submit(make_request(3, requested_by=make_id(7)), limits=limits)
        assert len(store.list_requests(model_name=MODEL_NAME, status=RequestStatus.PENDING)) == 3

    def test_requests_for_one_model_leave_room_for_those_for_another(self, store: Store) -> None:
        limits = OpenLimits(per_user=1, total=1)
        asked = {"requested_by": make_id(7)}
        store.submit(make_request(1, **asked), limits=limits)
        store.submit(make_request(2, model_name="another", **asked), limits=limits)
        with pytest.raises(StoreRefused):
            store.submit(make_request(3, requested_by=make_id(8)), limits=limits)

    def test_a_request_that_waits_too_long_has_failed_and_closed_ones_are_forgotten(
        self, store: Store
    ) -> None:
        day = timedelta(days=1)
        old, young = NOW - 15 * day, NOW - 13 * day
        for number, at in ((1, old), (2, old), (3, young), (4, old), (5, young)):
            store.submit(make_request(number, created_at=at))
        store.submit(make_request(6, created_at=old, priority=Priority.HIGH))
        store.start_run(make_run(9, model_name="another"))
        elsewhere = store.submit(make_request(7, created_at=old, model_name="another"))
        store.cancel(make_id(4), now=old)
        store.cancel(make_id(5), now=young)
        self.claim(store, 100, request_id=make_id(2))
        ages = {"pending_before": NOW - 14 * day, "closed_before": NOW - 14 * day}

        expired = store.prune_requests(model_name=MODEL_NAME, now=NOW, **ages)

        assert [request.request_id for request in expired] == [make_id(6), make_id(1)]
        for request in expired:
            assert (request.status, request.processed_at) == (RequestStatus.FAILED, NOW)
            since = f"{old:%Y-%m-%d %H:%M} UTC"
            assert request.error_message == f"expired: no run served it since {since}"
            assert store.get_request(request.request_id) == request
        left = store.list_requests(model_name=MODEL_NAME)
        states = {request.request_id: request.status for request in left}
        assert states == {
            make_id(1): RequestStatus.FAILED,
            make_id(2): RequestStatus.PROCESSING,
            make_id(3): RequestStatus.PENDING,
            make_id(5): RequestStatus.CANCELLED,
            make_id(6): RequestStatus.FAILED,
        }
        with pytest.raises(NotFound):
            store.get_request(make_id(4))
        assert store.prune_requests(model_name=MODEL_NAME, now=NOW, **ages) == []
        assert store.get_request(elsewhere.request_id) == elsewhere

    def test_racing_submits_do_not_pass_the_limit_together(
        self, store: Store, open_store: OpenStore
    ) -> None:
        limits = OpenLimits(per_user=2, total=50)
        got = race(
            open_store,
            lambda handle, number: handle.submit(
                make_request(number, requested_by=make_id(7)), limits=limits
            ),
        )
        assert sum(isinstance(item, StoreRefused) for item in got) == RACERS - 2
        assert len(store.list_requests(model_name=MODEL_NAME)) == 2
