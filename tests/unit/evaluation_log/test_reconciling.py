"""Comparing the CSV log with the table, against a comparison of every event by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_pipeline.errors import DataError
from ml_pipeline.evaluation_log import comparison, reconciling
from ml_pipeline.evaluation_log.opening import MLLogger, get_logger
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.event_row import EventRow, prediction_row, with_outcome
from tests.contract.kit.log import read_all
from tests.support.factories import MODEL_NAME, make_id
from tests.support.properties import tries


@pytest.fixture(autouse=True, scope="module")
def small_slices() -> Iterator[None]:
    """Slices and batches of a few events."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "SLICE_BYTES", 3000)
        patch.setattr(reconciling, "SENT_AT_ONCE", 7)
        yield


AT = datetime(2026, 3, 14, 2, tzinfo=UTC)
FEATURES: dict[str, object] = {"form": 0.1 + 0.2, "strength": 7.0, "of": 'Ærø, "north"'}


@dataclass(frozen=True, kw_only=True, slots=True)
class Logged:
    """How an event stands on both sides: None is not at all, "" without an outcome."""

    sure: float | None
    csv: str | None
    table: str | None
    twice: bool
    other: str | None

    @property
    def is_different(self) -> bool:
        """Whether both sides are there and contradict each other."""
        if self.csv is None or self.table is None:
            return False
        return self.other is not None or bool(self.csv and self.table and self.csv != self.table)


OUTCOMES = st.sampled_from([None, "", "H", "A"])
LOGGED = st.builds(
    Logged,
    sure=st.none() | st.floats(0, 1),
    csv=OUTCOMES,
    table=OUTCOMES,
    twice=st.booleans(),
    other=st.sampled_from([None, None, None, "match_id", "prediction"]),
)


def row_of(number: int, logged: Logged, outcome: str) -> EventRow:
    row = prediction_row(
        event_id=f"event-{number}", timestamp=AT, model_name=MODEL_NAME, model_id=f"m-{number % 3}",
        match_id=f"match-{number}", prediction="H", confidence=logged.sure, features=FEATURES,
    )  # fmt: skip
    return with_outcome(row, outcome, AT + timedelta(hours=1)) if outcome else row


def csv_rows(number: int, logged: Logged) -> list[EventRow]:
    """A prediction, its outcome as a line of its own, and each perhaps twice."""
    if logged.csv is None:
        return []
    rows = [row_of(number, logged, "")]
    rows += [row_of(number, logged, logged.csv)] if logged.csv else []
    return rows * 2 if logged.twice else rows


def table_row(number: int, logged: Logged) -> list[EventRow]:
    """The event with its JSON in another spelling, and something else in one field."""
    if logged.table is None:
        return []
    spelled = json.dumps(dict(sorted(FEATURES.items())), indent=1)
    row = {**row_of(number, logged, logged.table), "features": spelled}
    return [row if logged.other is None else {**row, logged.other: "else"}]


@contextmanager
def both(events: list[Logged]) -> Iterator[tuple[MLLogger, LocalStore]]:
    with TemporaryDirectory() as folder:
        store = LocalStore.open(Path(folder) / "store")
        store.append_rows([row for n, logged in enumerate(events) for row in table_row(n, logged)])
        with MLLogger(str(Path(folder) / "log.csv"), model_name=MODEL_NAME) as logger:
            logger.open_store = lambda: LocalStore.open(Path(folder) / "store")
            logger.csv.append(
                [row for n, logged in enumerate(events) for row in csv_rows(n, logged)]
            )
            yield logger, store


def ids(events: list[Logged], condition: Any) -> list[str]:  # noqa: ANN401
    return sorted(f"event-{n}" for n, logged in enumerate(events) if condition(logged))


def expected(events: list[Logged]) -> dict[str, list[str]]:
    found = {
        "not_in_table": ids(events, lambda e: e.csv is not None and e.table is None),
        "not_in_csv": ids(events, lambda e: e.csv is None and e.table is not None),
        "outcome_not_in_table": ids(events, lambda e: bool(e.csv) and e.table == ""),
        "outcome_not_in_csv": ids(events, lambda e: e.csv == "" and bool(e.table)),
    }
    return {name: listed for name, listed in found.items() if listed}


def models(events: list[Logged]) -> dict[str, Any]:
    """By the table's word where it has one."""
    found: dict[str, Any] = {}
    for number, logged in enumerate(events):
        if logged.csv is None and logged.table is None:
            continue
        actual = logged.table or logged.csv
        answered = (
            logged.other if logged.table is not None and logged.other == "prediction" else None
        )
        right = ("H" if answered is None or not logged.table else "else") == actual
        model = found.setdefault(f"m-{number % 3}", {"events": 0, "evaluated": 0, "right": 0})
        model["events"] += 1
        model["evaluated"] += bool(actual)
        model["right"] += bool(actual) and right
    return found


@settings(max_examples=tries(8), deadline=None)
@given(events=st.lists(LOGGED, max_size=12))
def test_the_report_agrees_with_a_check_of_every_event(events: list[Logged]) -> None:
    with both(events) as (logger, _):
        found = logger.reconcile_logs()
    assert found["ids"] == expected(events)
    different = ids(events, lambda e: e.is_different)
    assert sorted({each["event_id"] for each in found["differences"]}) == different
    assert found["differing"] == len(different)
    assert found["csv_events"] == len(ids(events, lambda e: e.csv is not None))
    assert found["table_events"] == len(ids(events, lambda e: e.table is not None))
    logged = [e for e in events if e.csv is not None or e.table is not None]
    assert found["pending"] == sum(not e.csv and not e.table for e in logged)
    assert found["duplicates"] == sum(e.csv is not None and e.twice for e in events)
    assert found["consistent"] == (not expected(events) and not different)
    counts = {name: (m["events"], m["evaluated"]) for name, m in found["models"].items()}
    assert counts == {n: (m["events"], m["evaluated"]) for n, m in sorted(models(events).items())}
    for name, model in models(events).items():
        accuracy = found["models"][name]["accuracy"]
        assert accuracy == (model["right"] / model["evaluated"] if model["evaluated"] else None)


@settings(max_examples=tries(6), deadline=None)
@given(events=st.lists(LOGGED, max_size=12))
def test_a_repair_leaves_only_what_differs_and_overwrites_nothing(events: list[Logged]) -> None:
    with both(events) as (logger, store):
        before = contents(store)
        logger.reconcile_logs(repair=True)
        after, again = contents(store), logger.reconcile_logs()
    different = ids(events, lambda e: e.is_different)
    assert sorted({each["event_id"] for each in again["differences"]}) == different
    assert set().union(*again["ids"].values()) <= set(different)
    for number, logged in enumerate(events):
        name = f"event-{number}"
        if name in before:
            settled = {"actual_result": after[name]["actual_result"]}
            assert after[name] == before[name] | (settled if not logged.table else {})
        elif logged.csv is not None:
            assert after[name]["actual_result"] == (logged.csv or None)
            assert after[name]["confidence"] == logged.sure


def contents(store: LocalStore) -> dict[str, dict[str, Any]]:
    names = ["match_id", "prediction", "confidence", "features", "actual_result"]
    frame = read_all(store, labelled_only=False).set_index("event_id")[names]
    return frame.astype(object).where(frame.notna(), None).to_dict("index")  # type: ignore[return-value]


def test_another_spelling_is_no_difference_and_some_of_the_others_are_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconciling, "SHOWN", 5)
    same = Logged(sure=1 / 3, csv="", table="", twice=False, other=None)
    events = [same] * 40 + [Logged(sure=0.5, csv="", table="", twice=False, other="match_id")] * 20
    with both(events) as (logger, _):
        found = logger.reconcile_logs(repair=True)
    assert (found["differing"], found["differing_fields"]) == (20, {"match_id": 20})
    shown = {each["event_id"] for each in found["differences"]}
    assert len(shown) == 5
    assert shown < {f"event-{number}" for number in range(40, 60)}
    assert found["repaired"] == {"sent_to_table": 0, "appended_to_csv": 0}


def test_lines_of_another_model_are_left_out() -> None:
    with both([Logged(sure=0.5, csv="H", table="H", twice=False, other=None)]) as (logger, _):
        other = {**row_of(7, Logged(sure=1, csv="", table="", twice=False, other=None), ""),
                 "model_name": "before"}  # fmt: skip
        logger.csv.append([other])
        found = logger.reconcile_logs()
    assert (found["csv_events"], found["consistent"]) == (1, True)


def test_where_memory_is_short_it_begins_again_with_more(monkeypatch: pytest.MonkeyPatch) -> None:
    given = list[int]()
    open_comparison = comparison.open_comparison

    def noted(folder: str, memory_mb: int) -> Any:  # noqa: ANN401 - what it wraps
        given.append(memory_mb)
        return open_comparison(folder, memory_mb)

    monkeypatch.setattr(comparison, "MEMORY_STEPS_MB", (1, 200))
    monkeypatch.setattr(comparison, "open_comparison", noted)
    events = [
        Logged(sure=n / 400, csv="H", table=None, twice=False, other=None) for n in range(400)
    ]
    with both(events) as (logger, _):
        found = logger.reconcile_logs(repair=True)
        assert found["repaired"] == {"sent_to_table": 400, "appended_to_csv": 0}
        assert logger.reconcile_logs()["consistent"]
    assert given[:2] == [1, 200]


def test_where_no_memory_is_enough_it_says_so_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(comparison, "MEMORY_STEPS_MB", (1,))
    events = [Logged(sure=0.5, csv="H", table=None, twice=False, other=None)] * 400
    with both(events) as (logger, store):
        with pytest.raises(DataError, match="needs more than 1 MB"):
            logger.reconcile_logs(repair=True)
        assert contents(store) == {}


def test_labels_are_compared_by_what_they_mean(tmp_path: Path) -> None:
    with get_logger(local_dir=str(tmp_path / "store"), csv_path=tmp_path / "log.csv") as logger:
        row = prediction_row(
            event_id=make_id(1), timestamp=AT, model_name="default", model_id="m", match_id=None,
            prediction="home", confidence=0.9,
        )  # fmt: skip
        logger.csv.append([with_outcome(row, " H", AT, is_right=True)])
        store = LocalStore.open(tmp_path / "store")
        store.append_rows([with_outcome({**row, "prediction": "H"}, "0", AT, is_right=True)])
        report = logger.reconcile_logs()
        store.close()
    assert report["consistent"], report
    assert report["models"]["m"]["accuracy"] == 1.0


def test_a_repair_sends_the_others_where_a_line_has_a_time_that_is_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lone = Logged(sure=0.7, csv="", table=None, twice=False, other=None)
    with both([lone] * 3) as (logger, _):
        path = Path(logger.csv.path)
        first, second, rest = path.read_text().split("\n", 2)
        path.write_text("\n".join([first, "yesterday" + second[second.index(",") :], rest]))
        assert logger.reconcile_logs(repair=True)["repaired"]["sent_to_table"] == 2
    assert "Event event-0 was not sent" in caplog.text
