"""The conformance kit: promises about what a watchdog keeps."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ml_pipeline.config.data import DataSettings
from ml_pipeline.errors import NotFound, StoreRefused
from ml_pipeline.store.alerts import (
    SAMPLE_COLUMNS,
    ActionState,
    AlertStatus,
    Cause,
    Severity,
    SystemEvent,
)
from ml_pipeline.store.contract import Store
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.records import LookbackWindow
from tests.contract.kit.base import AWKWARD, EVER, OpenStore, StoreFixtures, race
from tests.support.factories import (
    MODEL_NAME,
    NOW,
    frame_of,
    make_alert,
    make_day,
    make_event,
    make_id,
)

HOUR = timedelta(hours=1)


class WatchLedgerContract(StoreFixtures):
    """Days, alerts, events, leases."""

    @staticmethod
    def sums(store: Store, window: LookbackWindow = EVER) -> Any:  # noqa: ANN401
        return store.sum_days(window, model_name=MODEL_NAME, confidence_threshold=0.7)

    def test_a_day_adds_up_its_answers(self, store: Store) -> None:
        store.append_events(
            frame_of(
                [
                    make_event(1, confidence=0.9),
                    make_event(2, confidence=0.8, actual_result="H"),
                    make_event(3, confidence=0.7, actual_result="H"),
                    make_event(4, confidence=1.0),
                    make_event(5, confidence=None, actual_result="H"),
                    make_event(6, confidence=0.4, prediction="UNCERTAIN"),
                    make_event(7, actual_result=None),
                    make_event(8, model_name="tennis"),
                ]
            )
        )
        (day,) = self.sums(store)
        assert (day.day, day.model_id) == ((NOW + HOUR).date(), "m-1")
        assert (day.evaluated, day.correct, day.uncertain) == (6, 3, 1)
        assert (day.scored, day.scored_correct) == (4, 2)
        assert (day.confident, day.confident_errors) == (3, 2)
        assert day.confidence_sum == pytest.approx(3.4)
        losses = [-math.log(p) for p in (0.1, 0.8, 0.7, 0.001)]
        assert day.loss_sum == pytest.approx(sum(losses))
        assert day.loss_square_sum == pytest.approx(sum(loss**2 for loss in losses))
        assert day.accuracy == pytest.approx(3 / 5)

    def test_a_day_reads_the_spellings_of_labels(self, store: Store) -> None:
        spelt = (
            ("home", "H"), ("h", "H"), ("0.0", "home"), ("H\u00a0", " H"), ("V", "A"), ("x", "H"),
            ("UNCERTAIN", "H"), ("home", "D"),
        )  # fmt: skip
        store.append_events(
            frame_of(
                [
                    make_event(number, prediction=prediction, actual_result=actual, confidence=0.9)
                    for number, (prediction, actual) in enumerate(spelt)
                ]
            )
        )
        labels = Labels.of(DataSettings())
        (day,) = store.sum_days(
            EVER, model_name=MODEL_NAME, confidence_threshold=0.7, labels=labels
        )
        assert (day.evaluated, day.correct, day.uncertain) == (8, 5, 1)
        assert (day.scored_correct, day.confident_errors) == (5, 2)
        assert day.loss_sum == pytest.approx(-5 * math.log(0.9) - 2 * math.log(0.1))
        (raw,) = self.sums(store)
        assert raw.correct == 1

    def test_a_day_reads_a_label_in_either_form_of_its_letters(self, store: Store) -> None:
        spelt = (("Caf\u00e9", "Cafe\u0301"), ("CAFE\u0301", "caf\u00e9"), ("bar", "Cafe\u0301"))
        events = [
            make_event(number, prediction=prediction, actual_result=actual, confidence=0.9)
            for number, (prediction, actual) in enumerate(spelt)
        ]
        store.append_events(frame_of(events))
        labels = Labels.of(DataSettings(classes=["Caf\u00e9", "bar"]))
        (day,) = store.sum_days(
            EVER, model_name=MODEL_NAME, confidence_threshold=0.7, labels=labels
        )
        assert (day.evaluated, day.correct) == (3, 2)
        # Of labels that the settings do not name, case counts.
        (day,) = self.sums(store)
        assert (day.evaluated, day.correct) == (3, 1)
        marks = store.answers_in_order(EVER, model_name=MODEL_NAME, model_ids=None, rows=9)
        assert marks == [True, False, False]

    def test_answers_are_counted_with_and_without_an_outcome(self, store: Store) -> None:
        before = EVER.start + timedelta(days=1)
        store.append_events(
            frame_of(
                [
                    make_event(1, prediction="H", confidence=0.9),
                    make_event(2, prediction="H", confidence=0.8, actual_result=None),
                    make_event(3, prediction="H", confidence=None, actual_result=None),
                    make_event(4, prediction="A", confidence=0.7, actual_result="A"),
                    make_event(5, prediction="UNCERTAIN", confidence=0.4, actual_result=None),
                    make_event(6, prediction="H", model_name="tennis"),
                ]
            )
        )
        counts = {
            count.prediction: count for count in store.count_answers(EVER, model_name=MODEL_NAME)
        }
        assert list(counts) == ["A", "H", "UNCERTAIN"]
        home = counts["H"]
        assert (home.answers, home.labelled, home.scored) == (3, 1, 2)
        assert home.confidence_sum == pytest.approx(1.7)
        assert (counts["UNCERTAIN"].answers, counts["UNCERTAIN"].labelled) == (1, 0)
        earlier = LookbackWindow(start=EVER.start, end=before)
        assert store.count_answers(earlier, model_name=MODEL_NAME) == []

    def test_answers_come_in_the_order_of_their_predictions(self, store: Store) -> None:
        def event(number: int, hours: int, prediction: str, **more: Any) -> Any:  # noqa: ANN401
            at = NOW - hours * HOUR
            return make_event(number, timestamp=at, evaluated_at=NOW, prediction=prediction, **more)

        store.append_events(
            frame_of(
                [
                    event(1, 1, "A"),
                    event(2, 4, "H"),
                    event(3, 3, "home", actual_result="h"),
                    event(4, 2, "D", model_id="m-2"),
                    event(5, 5, "UNCERTAIN"),
                    event(6, 5, "H", confidence=None),
                    make_event(7, actual_result=None),
                    event(8, 9, "H", model_name="tennis"),
                ]
            )
        )

        def answers(models: Any = None, rows: int = 9, hours: int = 0) -> str:  # noqa: ANN401
            window = LookbackWindow(start=NOW + hours * HOUR, end=NOW + (hours + 1) * HOUR)
            found = store.answers_in_order(
                window, model_name=MODEL_NAME, model_ids=models, rows=rows,
                labels=Labels.of(DataSettings()),
            )  # fmt: skip
            return "".join("x" if is_right else "-" for is_right in found)

        assert answers() == "-x-x"
        assert answers(rows=3) == "x-x"
        assert (answers(["m-2"]), answers([]), answers(hours=1)) == ("-", "", "")

    def test_a_sample_is_spread_over_the_window(self, store: Store) -> None:
        numbers = range(1, 41)
        store.append_events(
            frame_of(
                [
                    *(make_event(number, timestamp=NOW, evaluated_at=NOW + number * HOUR)
                      for number in numbers),
                    *(make_event(number, actual_result=None) for number in (101, 102)),
                    make_event(103, timestamp=NOW, evaluated_at=NOW + HOUR, model_id="m-2"),
                    make_event(104, model_name="tennis"),
                ]
            )
        )  # fmt: skip

        def sample(rows: int, days: int = 9, **more: Any) -> Any:  # noqa: ANN401 - a frame
            chosen: dict[str, Any] = {"model_ids": ["m-1"], "labelled": True} | more
            window = LookbackWindow(start=NOW, end=NOW + days * 24 * HOUR)
            return store.sample_events(window, model_name=MODEL_NAME, rows=rows, **chosen)

        everything = sample(100)
        assert list(everything.columns) == list(SAMPLE_COLUMNS)
        assert everything["event_id"].tolist() == [make_id(number) for number in numbers]
        assert everything["known_at"].tolist() == [NOW + number * HOUR for number in numbers]
        assert (everything["timestamp"] == NOW).all()
        assert everything["confidence"].dtype == "float64"
        assert set(everything["prediction"]) == {"H"}
        assert set(everything["actual_result"]) == {"A"}
        assert json.loads(everything["features"][2]) == {"home_team_form": 1.0}
        some = sample(10)
        assert sample(10).equals(some)
        assert len(some) == 10
        assert some["known_at"].is_monotonic_increasing
        assert some["known_at"].min() < NOW + 20 * HOUR < some["known_at"].max()
        assert sample(100, with_features=False)["features"].isna().all()
        assert len(sample(100, days=1)) == 23
        assert len(sample(100, model_ids=None)) == 41
        waiting = sample(100, labelled=False)
        assert waiting["event_id"].tolist() == [make_id(101), make_id(102)]
        assert waiting["actual_result"].isna().all()
        assert len(sample(100, model_ids=["unknown"])) == 0

    def test_days_are_utc_days_of_becoming_known_by_model(self, store: Store) -> None:
        midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
        before = midnight - timedelta(microseconds=1)
        store.append_events(
            frame_of(
                [
                    make_event(1, evaluated_at=before),
                    make_event(2, evaluated_at=midnight),
                    make_event(3, evaluated_at=midnight, model_id="m-0"),
                    make_event(4, evaluated_at=midnight, model_id=None),
                ]
            )
        )
        found = [(day.day, day.model_id, day.evaluated) for day in self.sums(store)]
        today = midnight.date()
        assert found == [
            (before.date(), "m-1", 1),
            (today, "m-0", 1),
            (today, "m-1", 1),
            (today, "unknown", 1),
        ]
        window = LookbackWindow(start=before, end=midnight)
        assert [day.day for day in self.sums(store, window)] == [before.date()]
        assert self.sums(store, LookbackWindow(start=NOW + 9 * HOUR, end=NOW + 10 * HOUR)) == []

    def test_kept_days_come_back_and_later_sums_replace_them(self, store: Store) -> None:
        days = [make_day(2), make_day(1), make_day(1, model_id="")]
        store.keep_days(days, now=NOW)
        store.keep_days([make_day(1, model_name="tennis")], now=NOW)
        since = make_day(2).day
        assert store.list_days(model_name=MODEL_NAME, since=since) == [days[0], days[2], days[1]]
        later = make_day(1, evaluated=101, correct=71)
        store.keep_days([later], now=NOW + HOUR)
        store.keep_days([later], now=NOW + HOUR)
        assert store.list_days(model_name=MODEL_NAME, since=later.day) == [days[2], later]
        store.keep_days([], now=NOW)

    def test_an_alert_comes_back_as_it_was(self, store: Store) -> None:
        alert = make_alert(message=AWKWARD, details={"text": AWKWARD})
        assert store.open_alert(alert) == alert
        assert store.list_alerts(model_name=MODEL_NAME) == [alert]

    def test_one_alert_of_a_cause_is_open(self, store: Store) -> None:
        first = store.open_alert(make_alert(1))
        assert store.open_alert(make_alert(2)) == first
        drift = store.open_alert(make_alert(3, cause=Cause.INPUT_DRIFT, detected_at=NOW + HOUR))
        tennis = store.open_alert(make_alert(4, model_name="tennis"))
        assert drift.alert_id == make_id(3)
        assert tennis.alert_id == make_id(4)
        assert store.list_alerts(model_name=MODEL_NAME) == [drift, first]

    def test_of_racing_alerts_one_opens(self, store: Store, open_store: OpenStore) -> None:
        got = race(open_store, lambda handle, number: handle.open_alert(make_alert(number + 1)))
        assert len({alert.alert_id for alert in got}) == 1
        assert len(store.list_alerts(model_name=MODEL_NAME)) == 1

    def test_a_closed_alert_makes_room_for_the_next(self, store: Store) -> None:
        pending = store.open_alert(make_alert(1))
        triggered = replace(
            pending,
            status=AlertStatus.TRIGGERED,
            severity=Severity.SEVERE,
            action="request",
            action_state=ActionState.TRIGGERED,
            acted_at=NOW + HOUR,
            attempts=1,
            fruitless=1,
            needs_person=True,
            request_id=make_id(77),
            run_id=make_id(78),
            updated_at=NOW + HOUR,
        )
        store.change_alert(triggered, seen=NOW)
        assert store.list_alerts(model_name=MODEL_NAME, open_only=True) == [triggered]
        resolved = replace(
            triggered,
            status=AlertStatus.RESOLVED,
            resolved_at=NOW + 2 * HOUR,
            updated_at=NOW + 2 * HOUR,
        )
        for _ in range(2):
            store.change_alert(resolved, seen=NOW + HOUR)
        assert store.list_alerts(model_name=MODEL_NAME, open_only=True) == []
        again = make_alert(2, detected_at=NOW + 3 * HOUR, updated_at=NOW + 3 * HOUR)
        assert store.open_alert(again) == again
        assert store.list_alerts(model_name=MODEL_NAME) == [again, resolved]
        assert store.list_alerts(model_name=MODEL_NAME, limit=1) == [again]

    def test_an_alert_that_somebody_else_changed_is_not_overwritten(self, store: Store) -> None:
        seen = store.open_alert(make_alert(1))
        person = replace(seen, status=AlertStatus.ACKNOWLEDGED, updated_at=NOW + HOUR)
        store.change_alert(person, seen=NOW)
        with pytest.raises(StoreRefused):
            store.change_alert(
                replace(seen, status=AlertStatus.TRIGGERED, updated_at=NOW + 2 * HOUR), seen=NOW
            )
        assert store.list_alerts(model_name=MODEL_NAME) == [person]
        with pytest.raises(NotFound):
            store.change_alert(make_alert(9), seen=NOW)

    def test_an_alert_starts_open(self, store: Store) -> None:
        with pytest.raises(StoreRefused):
            store.open_alert(make_alert(status=AlertStatus.RESOLVED, resolved_at=NOW))
        assert store.list_alerts(model_name=MODEL_NAME) == []

    def test_an_event_is_kept_once_in_system_events(self, store: Store) -> None:
        event = SystemEvent(
            event_id=make_id(1),
            model_name=MODEL_NAME,
            event_type="model_retrain",
            at=NOW,
            message=AWKWARD,
            metadata={"exit_code": 1},
        )
        assert [store.record_event(event) for _ in range(2)] == ["system_events"] * 2

    def test_without_cycles_there_are_none(self, store: Store) -> None:
        assert store.learning_cycles(model_name=MODEL_NAME, limit=5) == []

    def test_a_lease_has_one_holder_until_it_expires_or_is_released(self, store: Store) -> None:
        def take(holder: str, after: timedelta = timedelta(0)) -> bool:
            now = NOW + after
            return store.take_lease("watch", holder=holder, now=now, until=now + HOUR)

        assert take("a")
        assert not take("b")
        assert take("a", HOUR / 2)
        assert not take("b", HOUR)
        assert take("b", 1.5 * HOUR)
        store.drop_lease("watch", holder="a")
        assert not take("a", 2 * HOUR)
        store.drop_lease("watch", holder="b")
        assert take("a", 2 * HOUR)
        assert store.take_lease("other", holder="b", now=NOW, until=NOW + HOUR)

    def test_of_racing_holders_one_takes_the_lease(self, open_store: OpenStore) -> None:
        got = race(
            open_store,
            lambda handle, number: handle.take_lease(
                "watch", holder=str(number), now=NOW, until=NOW + HOUR
            ),
        )
        assert sorted(got) == [False] * 5 + [True]
