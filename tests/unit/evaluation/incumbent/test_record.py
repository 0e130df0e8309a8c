"""A challenger's record beside an incumbent: sums that add up, by day, entity and weight."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from ml_pipeline.evaluation.betting import CLIP
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation.incumbent.record import DAYS_KEPT, IncumbentRecord, LoggedAnswers
from ml_pipeline.evaluation.ledger import PairedGain, cluster_codes
from ml_pipeline.evaluation.metrics import row_losses

LABELS = ("H", "A")


def evidence(seed: int, nights: list[int], *, entities: list[int] | None = None) -> Evidence:
    random = np.random.default_rng(seed)
    n = len(nights)
    shares = random.uniform(0.05, 0.95, size=n)
    return Evidence(
        labels=LABELS,
        event_ids=tuple(f"{seed}/{number}" for number in range(n)),
        nights=np.asarray(nights, dtype=np.int64),
        actual=random.integers(0, 2, size=n),
        challenger=np.column_stack([shares, 1 - shares]),
        champion=None,
        weights=random.choice([1.0, 2.0], size=n),
        entities=np.asarray(entities or [0] * n, dtype=np.uint32),
    )


def answers(
    it: Evidence, seed: int, *, probable: float = 1.0, version: str = "v1"
) -> LoggedAnswers:
    random = np.random.default_rng(seed)
    n = len(it)
    shares = random.uniform(0.05, 0.95, size=n)
    table = np.column_stack([shares, 1 - shares])
    right = table.argmax(axis=1) == it.actual
    table[random.random(n) >= probable] = np.nan
    return LoggedAnswers(
        answered=np.ones(n, dtype=bool), right=right, probabilities=table,
        model_ids=np.full(n, version, dtype=object),
    )  # fmt: skip


def record_of(it: Evidence, theirs: LoggedAnswers) -> IncumbentRecord:
    return IncumbentRecord.of(it, theirs, full_weight=2.0)


def assert_same(one: PairedGain, other: PairedGain) -> None:
    for name in ("rows", "total", "squares", "units", "weight", "mean", "standard_error"):
        assert getattr(one, name) == pytest.approx(getattr(other, name)), name
    assert one.proof().logs == pytest.approx(other.proof().logs)


def test_it_is_the_gain_of_the_rows_themselves() -> None:
    entities = [number // 3 for number in range(90)]
    it = evidence(1, [number // 30 for number in range(90)], entities=entities)
    theirs = answers(it, 2)
    record = record_of(it, theirs)
    losses = row_losses(it.actual, theirs.probabilities) - row_losses(it.actual, it.challenger)
    mine = it.challenger.argmax(axis=1) == it.actual
    for name, gains in (("losses", losses), ("accuracy", mine - theirs.right.astype(float))):
        whole = PairedGain.of_rows(
            gains, 3, weights=it.weights, full_weight=2.0,
            # A cluster is of one day.
            clusters=cluster_codes(it.entities) * 10 + it.nights,
        )  # fmt: skip
        if name == "accuracy":
            scaled = PairedGain.of_rows(
                gains * CLIP, 3, weights=it.weights, full_weight=2.0,
                clusters=cluster_codes(it.entities) * 10 + it.nights,
            )  # fmt: skip
            whole = replace(whole, wealth=scaled.wealth)
        assert record.gain(name).nights == 3
        assert_same(record.gain(name), whole)
    weight = it.weights.sum()
    assert record.right == pytest.approx(
        (it.weights[theirs.right].sum() / weight, it.weights[mine].sum() / weight)
    )
    assert record.rows == 90


def test_runs_add_up_whatever_their_days_and_go_through_json() -> None:
    whole = evidence(3, [1] * 20 + [2] * 20 + [3] * 20)
    theirs = answers(whole, 4, probable=0.7)

    def part(rows: slice) -> IncumbentRecord:
        numbers = np.arange(len(whole))[rows]
        it = Evidence(
            labels=LABELS, event_ids=tuple(whole.event_ids[n] for n in numbers),
            nights=whole.nights[rows], actual=whole.actual[rows],
            challenger=whole.challenger[rows], champion=None, weights=whole.weights[rows],
        )  # fmt: skip
        logged = LoggedAnswers(
            answered=theirs.answered[rows], right=theirs.right[rows],
            probabilities=theirs.probabilities[rows], model_ids=theirs.model_ids[rows],
        )  # fmt: skip
        return record_of(it, logged)

    # The second day is learned in two runs.
    first, second = part(slice(0, 30)), part(slice(30, 60))
    kept = IncumbentRecord.from_json(json.loads(json.dumps(first.as_json())))
    both, at_once = kept.plus(second), record_of(whole, theirs)
    for name in ("losses", "accuracy"):
        assert_same(both.gain(name), at_once.gain(name))
        assert both.gain(name).nights == at_once.gain(name).nights == 3
    assert both.right == pytest.approx(at_once.right)
    assert both.gain("accuracy", after=2).rows == 20


def test_old_days_become_one_sum_and_count_on() -> None:
    record = IncumbentRecord()
    for night in range(1, DAYS_KEPT + 11):
        it = evidence(night, [night] * 4)
        record = record.plus(record_of(it, answers(it, 1000 + night)))
    assert (len(record.days), record.earlier_days) == (DAYS_KEPT, 10)
    gain = record.gain("losses")
    assert (gain.rows, gain.nights) == (4 * (DAYS_KEPT + 10), DAYS_KEPT + 10)
    assert gain.night_error > 0
    assert record.gain("losses", after=DAYS_KEPT).rows == 40
    again = IncumbentRecord.from_json(json.loads(json.dumps(record.as_json())))
    assert again == record
    assert len(json.dumps(record.as_json())) < 100_000


def test_probabilities_decide_only_where_nearly_all_rows_have_them() -> None:
    it = evidence(5, [1] * 200)
    assert record_of(it, answers(it, 6)).by_probabilities
    assert not record_of(it, answers(it, 6, probable=0.5)).by_probabilities
    assert not record_of(it, answers(it, 6, probable=0)).by_probabilities


def test_rows_that_were_not_answered_are_left_out_and_none_is_no_fault() -> None:
    it = evidence(7, [1] * 10 + [2] * 10)
    theirs = answers(it, 8)
    half = replace(theirs, answered=it.nights == 1)
    assert record_of(it, half).rows == 10
    none = replace(theirs, answered=np.zeros(20, dtype=bool))
    empty = record_of(it, none)
    assert (empty.rows, empty.right, empty.by_probabilities) == (0, (0.0, 0.0), False)
    assert empty.gain("accuracy").rows == 0
    assert empty.plus(record_of(it, theirs)).rows == 20


def test_a_new_version_is_compared_on_the_days_on_which_it_answered() -> None:
    record = IncumbentRecord()
    for night in range(1, DAYS_KEPT + 11):
        it = evidence(night, [night] * 4)
        version = "v1" if night <= DAYS_KEPT else "v2"
        record = record.plus(record_of(it, answers(it, night, version=version)))
    assert record.beside("v2").rows == 4 * 10
    assert record.beside("v1").rows == 4 * DAYS_KEPT
    assert record.beside("v3").rows == 0
    assert record.beside(None) == record
    again = IncumbentRecord.from_json(json.loads(json.dumps(record.as_json())))
    assert again.beside("v2") == record.beside("v2")


def test_where_each_answer_has_an_id_of_its_own_there_are_no_versions() -> None:
    it = evidence(9, [1] * 20)
    theirs = answers(it, 10)
    ids = np.asarray([f"request {number}" for number in range(20)], dtype=object)
    record = record_of(it, replace(theirs, model_ids=ids))
    assert record.beside("request 7").rows == 20
