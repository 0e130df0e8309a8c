"""The queue of both stores under calls in any order, against a model of it in plain Python."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import datetime, timedelta
from typing import cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from ml_pipeline.errors import AlreadyFinished, StoreRefused
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import Priority, RequestStatus, RetrainingRequest
from tests.support.factories import NOW, make_id, make_request
from tests.support.places import SUPABASE, Place
from tests.support.properties import tries

LEASE = timedelta(minutes=10)
MAX_ATTEMPTS = 3
CLOSED = {RequestStatus.COMPLETED, RequestStatus.FAILED, RequestStatus.CANCELLED}
# Each example has a model name and ids of its own, so that it finds an empty queue.
EXAMPLES = itertools.count(1)


def served(request: RetrainingRequest) -> tuple[int, datetime, str]:
    """The order of service."""
    return request.priority.rank, request.created_at, request.request_id


class RequestQueueMachine(RuleBasedStateMachine):
    """Whatever is called in whatever order, the rows are what the calls must have left."""

    ids = Bundle("ids")
    runs = Bundle("runs")

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.now = NOW
        self.rows: dict[str, RetrainingRequest] = {}
        self.example = next(EXAMPLES)
        self.model_name = f"model-{self.example}"

    @initialize(target=runs)
    def two_runs(self) -> MultipleResults[str]:
        return multiple(*(make_id(1000 * self.example + number) for number in (901, 902)))

    def fresh(self, number: int, priority: Priority, at: datetime) -> RetrainingRequest:
        return make_request(
            1000 * self.example + number,
            model_name=self.model_name,
            priority=priority,
            created_at=at,
        )

    def claimable(self, row: RetrainingRequest) -> bool:
        return row.status is RequestStatus.PENDING or (
            row.lease_until is not None and row.lease_until <= self.now
        )

    @rule(target=ids, priority=st.sampled_from(Priority), age=st.integers(0, 2))
    def submit(self, priority: Priority, age: int) -> str:
        at = NOW - timedelta(hours=age)
        request = self.fresh(len(self.rows), priority, at)
        assert self.store.submit(request) == request
        self.rows[request.request_id] = request
        return request.request_id

    @rule(request_id=ids)
    def submit_again(self, request_id: str) -> None:
        row = self.rows[request_id]
        fresh = self.fresh(list(self.rows).index(request_id), row.priority, row.created_at)
        assert self.store.submit(fresh) == row

    @rule(minutes=st.sampled_from([1, 5, 10]))
    def wait(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(run_id=runs)
    def work_on(self, run_id: str) -> None:
        held = [
            row
            for row in self.rows.values()
            if row.run_id == run_id and row.status is RequestStatus.PROCESSING
        ]
        assert self.store.renew(run_id=run_id, now=self.now, lease=LEASE) == len(held)
        for row in held:
            self.rows[row.request_id] = replace(row, lease_until=self.now + LEASE)

    @rule()
    def crash(self) -> None:
        """Every run dies: nobody calls anything until all leases are over."""
        self.now += LEASE

    @rule(run_id=runs)
    def claim(self, run_id: str) -> None:
        free = sorted((row for row in self.rows.values() if self.claimable(row)), key=served)
        self.expect_claim(run_id, None, free[0] if free else None)

    @rule(run_id=runs, request_id=ids)
    def claim_that_one(self, run_id: str, request_id: str) -> None:
        row = self.rows[request_id]
        alive = row.lease_until is not None and row.lease_until > self.now
        if row.run_id == run_id and alive:
            assert self.ask(run_id, request_id) == row
        else:
            self.expect_claim(run_id, request_id, row if self.claimable(row) else None)

    def ask(self, run_id: str, request_id: str | None) -> RetrainingRequest | None:
        return self.store.claim(
            model_name=self.model_name,
            run_id=run_id,
            now=self.now,
            lease=LEASE,
            request_id=request_id,
        )

    def expect_claim(
        self, run_id: str, request_id: str | None, row: RetrainingRequest | None
    ) -> None:
        claimed = self.ask(run_id, request_id)
        if row is None:
            assert claimed is None
            return
        self.rows[row.request_id] = replace(
            row,
            status=RequestStatus.PROCESSING,
            run_id=run_id,
            claimed_at=self.now,
            lease_until=self.now + LEASE,
            attempts=row.attempts + 1,
        )
        assert claimed == self.rows[row.request_id]

    @rule(run_id=runs, request_id=ids)
    def complete(self, run_id: str, request_id: str) -> None:
        row = self.rows[request_id]
        same = row.run_id == run_id and row.status is RequestStatus.COMPLETED
        if self.refused(row, run_id, same=same):
            with pytest.raises(self.refusal(row)):
                self.store.complete(request_id, run_id=run_id, now=self.now)
            return
        self.store.complete(request_id, run_id=run_id, now=self.now)
        if not same:
            self.close(row, RequestStatus.COMPLETED, None)

    @rule(run_id=runs, request_id=ids, reason=st.sampled_from(["x", "y"]))
    def fail(self, run_id: str, request_id: str, reason: str) -> None:
        row = self.rows[request_id]
        known = (row.run_id, row.status, row.error_message)
        same = known == (run_id, RequestStatus.FAILED, reason)
        if self.refused(row, run_id, same=same):
            with pytest.raises(self.refusal(row)):
                self.store.fail(request_id, run_id=run_id, now=self.now, reason=reason)
            return
        self.store.fail(request_id, run_id=run_id, now=self.now, reason=reason)
        if not same:
            self.close(row, RequestStatus.FAILED, reason)

    @staticmethod
    def refused(row: RetrainingRequest, run_id: str, *, same: bool) -> bool:
        holds = row.run_id == run_id and row.status is RequestStatus.PROCESSING
        return not (holds or same)

    @staticmethod
    def refusal(row: RetrainingRequest) -> type[Exception]:
        return AlreadyFinished if row.status in CLOSED else StoreRefused

    def close(self, row: RetrainingRequest, status: RequestStatus, reason: str | None) -> None:
        self.rows[row.request_id] = replace(
            row, status=status, error_message=reason, processed_at=self.now, lease_until=None
        )

    def back(self, row: RetrainingRequest) -> RetrainingRequest:
        return replace(
            row, status=RequestStatus.PENDING, run_id=None, claimed_at=None, lease_until=None
        )

    @rule(run_id=runs, request_id=ids)
    def release(self, run_id: str, request_id: str) -> None:
        row = self.rows[request_id]
        same = row.status is RequestStatus.PENDING
        if self.refused(row, run_id, same=same):
            with pytest.raises(self.refusal(row)):
                self.store.release(request_id, run_id=run_id, now=self.now)
            return
        self.store.release(request_id, run_id=run_id, now=self.now)
        self.rows[request_id] = self.back(row)

    @rule(request_id=ids)
    def cancel(self, request_id: str) -> None:
        row = self.rows[request_id]
        if row.status not in {RequestStatus.PENDING, RequestStatus.CANCELLED}:
            with pytest.raises(AlreadyFinished):
                self.store.cancel(request_id, now=self.now)
            return
        if row.status is RequestStatus.PENDING:
            self.close(row, RequestStatus.CANCELLED, None)
        assert self.store.cancel(request_id, now=self.now) == self.rows[request_id]

    @rule()
    def release_stale(self) -> None:
        stale = [
            row
            for row in sorted(self.rows.values(), key=served)
            if row.status is RequestStatus.PROCESSING and self.claimable(row)
        ]
        returned = self.store.release_stale(
            model_name=self.model_name, now=self.now, max_attempts=MAX_ATTEMPTS
        )
        assert [row.request_id for row in returned] == [row.request_id for row in stale]
        for row, now in zip(stale, returned, strict=True):
            if row.attempts >= MAX_ATTEMPTS:
                assert now.error_message
                self.close(row, RequestStatus.FAILED, now.error_message)
            else:
                self.rows[row.request_id] = self.back(row)

    @invariant()
    def rows_are_what_the_calls_left(self) -> None:
        rows = self.store.list_requests(model_name=self.model_name)
        assert rows == sorted(self.rows.values(), key=served)
        for row in rows:
            assert (row.lease_until is not None) == (row.status is RequestStatus.PROCESSING)
            assert (row.processed_at is not None) == (row.status in CLOSED)


@pytest.mark.hypothesis
def test_calls_in_any_order_leave_the_rows_that_they_must(place: Place) -> None:
    # Every step is a call over HTTP there.
    is_far = place.kind == SUPABASE
    with place.opened() as store:
        run_state_machine_as_test(
            cast("type[RuleBasedStateMachine]", lambda: RequestQueueMachine(store)),
            settings=settings(
                max_examples=tries(5 if is_far else 8),
                stateful_step_count=25 if is_far else 40,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
