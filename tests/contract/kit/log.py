"""The conformance kit: promises about evaluation events."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ml_pipeline.errors import NotFound, StoreRefused
from ml_pipeline.evaluation_log.outbox.lines import row_of
from ml_pipeline.store.contract import EXPORT_DELIMITER, EXPORT_QUOTE, Store
from ml_pipeline.store.event_frames import event_rows
from ml_pipeline.store.event_row import EventRow, utc_text
from ml_pipeline.store.inputs.changes import id_hash
from ml_pipeline.store.records import EVENT_COLUMNS, UNCERTAIN, LookbackWindow
from tests.contract.kit.base import (
    AWKWARD,
    EVER,
    RACERS,
    OpenStore,
    StoreFixtures,
    race,
)
from tests.support.factories import (
    MODEL_NAME,
    NOW,
    frame_of,
    make_event,
    make_events,
    make_id,
)


def read_all(
    store: Store, window: LookbackWindow = EVER, *, labelled_only: bool = True
) -> pd.DataFrame:
    """Every event of the window in one frame."""
    chunks = store.read_events(window, model_name=MODEL_NAME, labelled_only=labelled_only)
    return pd.concat(list(chunks), ignore_index=True)


def errors_of(
    store: Store,
    window: LookbackWindow = EVER,
    *,
    threshold: float = 0.7,
    model_ids: list[str] | None = None,
) -> list[str]:
    """Ids of the error samples."""
    frame = store.read_error_samples(
        window, model_name=MODEL_NAME, confidence_threshold=threshold, model_ids=model_ids
    )
    return [str(event_id) for event_id in frame["event_id"]]


class EvaluationLogContract(StoreFixtures):
    """Evaluation events."""

    def test_appended_events_come_back_as_they_were_written(self, store: Store) -> None:
        event = make_event(1, match_id=AWKWARD, metadata=json.dumps({"note": AWKWARD}))
        assert store.append_events(frame_of([event])) == 1
        row = read_all(store).iloc[0].to_dict()
        for name in ("event_id", "event_type", "model_name", "model_id", "match_id", "prediction"):
            assert row[name] == event[name]
        assert json.loads(row["metadata"]) == {"note": AWKWARD}
        assert json.loads(row["features"]) == json.loads(event["features"])
        assert (row["actual_result"], row["accuracy"], row["status"]) == ("A", 0.0, "evaluated")
        assert row["timestamp"].to_pydatetime() == event["timestamp"]
        assert row["evaluated_at"].to_pydatetime() == event["evaluated_at"]

    def test_exported_lines_hold_the_events(self, store: Store, tmp_path: Path) -> None:
        sure = [0.0, 0.1 + 0.2, 1 / 3, 1e-9, 1.0]
        events = [make_event(n, confidence=value) for n, value in enumerate(sure)]
        unsaid = dict.fromkeys(("confidence", "metadata", "actual_result", "evaluated_at"))
        marks = f'"quoted",{EXPORT_DELIMITER}{EXPORT_QUOTE}\r\nand broken\r'
        events.append(make_event(7, match_id=f"{AWKWARD}, {marks}", **unsaid))
        store.append_events(frame_of([*events, make_event(8, model_name="another")]))
        rows = _exported(store, tmp_path, MODEL_NAME)
        assert set(rows) == {event["event_id"] for event in events}
        for event in events:
            row = rows[event["event_id"]]
            assert row is not None
            for name in ("event_type", "model_name", "model_id", "match_id", "prediction"):
                assert row[name] == event[name]
            assert (row["confidence"], row["actual_result"]) == (
                event["confidence"],
                event["actual_result"],
            )
            assert json.loads(str(row["features"])) == json.loads(event["features"])
            assert row["timestamp"] == utc_text(event["timestamp"])
        last = rows[events[-1]["event_id"]]
        assert last is not None
        assert (last["metadata"], last["evaluated_at"], last["accuracy"]) == (None, None, None)
        first = rows[events[0]["event_id"]]
        assert first is not None
        assert (first["accuracy"], first["status"]) == (0.0, "evaluated")
        assert first["evaluated_at"] == utc_text(events[0]["evaluated_at"])
        assert _exported(store, tmp_path, "nobody") == {}

    def test_frames_have_the_declared_columns_and_types(self, store: Store) -> None:
        store.append_events(make_events(1))
        frame = read_all(store)
        assert tuple(frame.columns) == EVENT_COLUMNS
        for name in ("timestamp", "evaluated_at"):
            assert isinstance(frame[name].dtype, pd.DatetimeTZDtype)
            assert frame[name].iloc[0].utcoffset() == timedelta(0)
        for name in ("confidence", "accuracy"):
            assert frame[name].dtype == np.float64

    def test_no_rows_are_an_empty_frame_with_the_declared_columns(self, store: Store) -> None:
        samples = store.read_error_samples(
            EVER, model_name=MODEL_NAME, confidence_threshold=0.7, model_ids=None
        )
        for frame in (read_all(store), samples):
            assert frame.empty
            assert tuple(frame.columns) == EVENT_COLUMNS
            assert isinstance(frame["timestamp"].dtype, pd.DatetimeTZDtype)
            assert frame["confidence"].dtype == np.float64

    def test_appending_the_same_events_again_changes_nothing(self, store: Store) -> None:
        frame = make_events(1, 2, 3)
        assert store.append_events(frame) == 3
        before = read_all(store)
        assert store.append_events(frame) == 0
        pd.testing.assert_frame_equal(read_all(store), before)

    def test_appending_counts_only_the_new_events(self, store: Store) -> None:
        store.append_events(make_events(1, 2))
        assert store.append_events(make_events(2, 3, 4)) == 2
        assert read_all(store)["event_id"].tolist() == [make_id(n) for n in (1, 2, 3, 4)]

    def test_an_id_twice_in_one_frame_is_one_event(self, store: Store) -> None:
        assert store.append_events(make_events(1, 1, 1)) == 1
        assert len(read_all(store)) == 1
        assert errors_of(store) == [make_id(1)]

    @pytest.mark.parametrize(
        "change",
        [
            {"prediction": "D"},
            {"model_id": "m-2"},
            {"model_name": "tennis"},
            {"match_id": "another"},
            {"confidence": 0.8},
            {"features": json.dumps({"home_team_form": 9.0})},
            {"timestamp": NOW},
            {"actual_result": "D"},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_a_known_event_with_other_content_is_refused_and_nothing_is_written(
        self, store: Store, change: dict[str, Any]
    ) -> None:
        store.append_events(make_events(1))
        frame = frame_of([make_event(2), make_event(1, **change), make_event(3)])
        with pytest.raises(StoreRefused, match=make_id(1)):
            store.append_events(frame)
        kept = read_all(store)
        assert kept["event_id"].tolist() == [make_id(1)]
        assert kept["prediction"].tolist() == ["H"]
        assert kept["actual_result"].tolist() == ["A"]

    def test_features_written_in_another_key_order_are_the_same_features(
        self, store: Store
    ) -> None:
        store.append_events(make_events(1, features='{"a": 1.5, "b": 2}'))
        assert store.append_events(make_events(1, features='{"b":2,"a":1.5}')) == 0

    def test_an_appended_row_brings_the_outcome_of_a_pending_event(self, store: Store) -> None:
        store.append_events(make_events(1, actual_result=None))
        event = make_event(1)
        assert store.append_events(frame_of([event])) == 0
        row = read_all(store).iloc[0]
        assert (row["actual_result"], row["accuracy"], row["status"]) == ("A", 0.0, "evaluated")
        assert row["evaluated_at"].to_pydatetime() == event["evaluated_at"]

    def test_prediction_and_outcome_in_one_frame_are_one_evaluated_event(
        self, store: Store
    ) -> None:
        frame = frame_of([make_event(1, actual_result=None), make_event(1)])
        assert store.append_events(frame) == 1
        assert read_all(store)["actual_result"].tolist() == ["A"]

    def test_two_outcomes_of_one_event_in_a_frame_are_refused(self, store: Store) -> None:
        store.append_events(make_events(1, actual_result=None))
        with pytest.raises(StoreRefused, match=make_id(1)):
            store.append_events(frame_of([make_event(1), make_event(1, actual_result="D")]))
        assert read_all(store).empty

    def test_appending_the_prediction_again_keeps_its_outcome(self, store: Store) -> None:
        store.append_events(make_events(1))
        assert store.append_events(make_events(1, actual_result=None)) == 0
        assert read_all(store)["actual_result"].tolist() == ["A"]

    def test_events_without_what_identifies_them_are_refused(self, store: Store) -> None:
        for name in ("event_id", "timestamp", "model_name", "prediction"):
            with pytest.raises(StoreRefused):
                store.append_events(frame_of([make_event(1), make_event(2, **{name: None})]))
        assert read_all(store, labelled_only=False).empty

    @pytest.mark.parametrize("confidence", [-0.01, 1.01, math.inf])
    def test_a_confidence_outside_0_to_1_is_refused(self, store: Store, confidence: float) -> None:
        with pytest.raises(StoreRefused):
            store.append_events(make_events(1, confidence=confidence))
        assert read_all(store).empty

    def test_features_that_are_not_json_are_refused(self, store: Store) -> None:
        for text in ("{", '{"a": NaN}', "None"):
            with pytest.raises(StoreRefused):
                store.append_events(make_events(1, features=text))
        assert read_all(store).empty

    def test_times_without_a_zone_are_refused(self, store: Store) -> None:
        frame = make_events(1)
        frame["timestamp"] = frame["timestamp"].dt.tz_localize(None)
        with pytest.raises(StoreRefused):
            store.append_events(frame)
        assert read_all(store).empty

    def test_times_in_other_zones_come_back_in_utc(self, store: Store) -> None:
        frame = make_events(1)
        frame["timestamp"] = frame["timestamp"].dt.tz_convert("Asia/Tokyo")
        store.append_events(frame)
        moment = read_all(store)["timestamp"].iloc[0]
        assert moment.to_pydatetime() == make_event(1)["timestamp"]
        assert moment.utcoffset() == timedelta(0)

    def test_floats_come_back_to_the_last_bit(self, store: Store) -> None:
        values = [0.1 + 0.2, 1 / 3, math.nextafter(1, 0), 5e-324, 0.7000000000000001, 0.0, 1.0]
        events = [
            make_event(number, confidence=value, features=json.dumps({"x": value}))
            for number, value in enumerate(values)
        ]
        store.append_events(frame_of(events))
        frame = read_all(store)
        assert [value.hex() for value in frame["confidence"]] == [value.hex() for value in values]
        assert [json.loads(text)["x"] for text in frame["features"]] == values

    def test_missing_values_come_back_missing(self, store: Store) -> None:
        empty = {"model_id": None, "match_id": None, "features": None, "metadata": None}
        store.append_events(make_events(1, confidence=None, actual_result=None, **empty))
        row = read_all(store, labelled_only=False).iloc[0]
        missing = ("actual_result", "evaluated_at", "accuracy", "confidence", *empty)
        assert [name for name in missing if not pd.isna(row[name])] == []
        assert row["status"] == "pending"

    def test_an_outcome_is_recorded_with_its_accuracy(self, store: Store) -> None:
        store.append_events(make_events(1, 2, 3, actual_result=None))
        at = NOW + timedelta(days=1)
        assert store.record_outcomes({make_id(1): "H", make_id(2): "A"}, evaluated_at=at) == 2
        frame = read_all(store)
        assert frame["actual_result"].tolist() == ["H", "A"]
        assert frame["accuracy"].tolist() == [1.0, 0.0]
        assert [moment.to_pydatetime() for moment in frame["evaluated_at"]] == [at, at]
        assert len(read_all(store, labelled_only=False)) == 3

    def test_events_are_found_by_their_ids_and_by_match_whatever_they_are_called(
        self, store: Store
    ) -> None:
        names = ["a", "b", 'say "x", (y)', "c.d:e%f&g*", "日本 \\", "null", "b"]
        for number, name in enumerate(names):
            store.append_events(make_events(number, match_id=name, features='{"x": 0.1}'))
        store.append_events(make_events(8, match_id="b", model_name="another"))

        def found(*matches: str, ids: Sequence[str] = ()) -> list[str]:
            frame = store.find_events(
                model_name=MODEL_NAME, event_ids=list(ids), match_ids=list(matches)
            )
            return list(frame["event_id"])

        assert found("b") == [make_id(1), make_id(6)]
        assert found("b", ids=[make_id(0), make_id(1), "no id", make_id(8), make_id(77)]) == [
            make_id(number) for number in (0, 1, 6)
        ]
        for number, name in enumerate(names[2:6], 2):
            assert found(name, "nobody") == [make_id(number)]
        assert found(*(f"m{number}" for number in range(1200)), "b") == [make_id(1), make_id(6)]
        assert found() == []

    def test_whose_an_event_is_can_be_asked_of_its_id_alone(self, store: Store) -> None:
        store.append_events(make_events(1))
        store.append_events(make_events(2, 3, model_name="another"))
        asked = [make_id(1), make_id(2), make_id(77), "no id, and none", ""]
        assert store.models_of_events(asked) == {make_id(1): MODEL_NAME, make_id(2): "another"}
        assert store.models_of_events([]) == {}

    def test_what_is_found_is_what_is_read(self, store: Store) -> None:
        known = make_events(1, match_id="x", features='{"x": 0.30000000000000004, "q": "日\\n"}')
        store.append_events(known)
        store.append_events(make_events(2, match_id="x", actual_result=None))
        frame = store.find_events(model_name=MODEL_NAME, event_ids=[], match_ids=["x"])
        read = read_all(store, labelled_only=False).sort_values("event_id").reset_index(drop=True)
        names = [name for name in EVENT_COLUMNS if name not in {"features", "metadata"}]
        pd.testing.assert_frame_equal(frame[names], read[names])
        for name in ("features", "metadata"):
            for one, other in zip(frame[name], read[name], strict=True):
                assert json.loads(one or "null") == json.loads(other or "null")

    def test_the_accuracy_is_the_stores_own_judgement(self, store: Store) -> None:
        store.append_events(make_events(1, accuracy=1.0, status="pending"))
        row = read_all(store).iloc[0]
        assert (row["accuracy"], row["status"]) == (0.0, "evaluated")

    def test_the_same_outcome_again_changes_nothing(self, store: Store) -> None:
        store.append_events(make_events(1, 2, actual_result=None))
        store.record_outcomes({make_id(1): "A"}, evaluated_at=NOW)
        before = read_all(store)
        later = NOW + timedelta(days=1)
        assert store.record_outcomes({make_id(1): "A"}, evaluated_at=later) == 0
        pd.testing.assert_frame_equal(read_all(store), before)

    def test_a_different_outcome_is_refused_and_none_is_written(self, store: Store) -> None:
        store.append_events(make_events(1, 2, actual_result=None))
        store.record_outcomes({make_id(1): "A"}, evaluated_at=NOW)
        with pytest.raises(StoreRefused, match=make_id(1)):
            store.record_outcomes({make_id(2): "H", make_id(1): "D"}, evaluated_at=NOW)
        assert read_all(store)["actual_result"].tolist() == ["A"]

    def test_an_outcome_of_an_unknown_event_is_not_found_and_none_is_written(
        self, store: Store
    ) -> None:
        store.append_events(make_events(1, actual_result=None))
        with pytest.raises(NotFound, match=make_id(9)):
            store.record_outcomes({make_id(1): "H", make_id(9): "H"}, evaluated_at=NOW)
        assert read_all(store).empty

    def test_no_outcomes_are_no_work(self, store: Store) -> None:
        assert store.record_outcomes({}, evaluated_at=NOW) == 0
        assert store.append_events(make_events()) == 0

    def test_an_outcome_known_before_its_prediction_is_refused_by_every_door(
        self, store: Store
    ) -> None:
        store.append_events(make_events(1, 2, timestamp=NOW, actual_result=None, evaluated_at=None))
        early = NOW - timedelta(hours=2)
        with pytest.raises(StoreRefused, match="known before its prediction"):
            store.record_outcomes({make_id(1): "H", make_id(2): "H"}, evaluated_at=early)
        for number in (1, 3):
            late = make_events(number, timestamp=NOW, actual_result="H", evaluated_at=early)
            with pytest.raises(StoreRefused, match="known before its prediction"):
                store.append_rows(next(event_rows(late, 1)))
        assert read_all(store)["actual_result"].isna().all()
        # Clocks of two machines differ a little.
        assert (
            store.record_outcomes({make_id(1): "H"}, evaluated_at=NOW - timedelta(minutes=5)) == 1
        )

    def test_an_empty_outcome_is_refused(self, store: Store) -> None:
        store.append_events(make_events(1, actual_result=None))
        with pytest.raises(StoreRefused):
            store.record_outcomes({make_id(1): ""}, evaluated_at=NOW)
        assert read_all(store).empty

    def test_racing_outcomes_leave_one_truth(self, store: Store, open_store: OpenStore) -> None:
        store.append_events(make_events(1, actual_result=None))
        got = race(
            open_store,
            lambda handle, number: handle.record_outcomes(
                {make_id(1): f"L{number}"}, evaluated_at=NOW
            ),
        )
        assert got.count(1) == 1
        assert sum(isinstance(item, StoreRefused) for item in got) == RACERS - 1
        assert read_all(store)["actual_result"].tolist() == [f"L{got.index(1)}"]

    def test_racing_appends_of_the_same_events_write_each_once(
        self, store: Store, open_store: OpenStore
    ) -> None:
        frame = make_events(*range(40))
        got = race(open_store, lambda handle, _: handle.append_events(frame))
        assert sum(got) == 40
        assert read_all(store)["event_id"].tolist() == [make_id(n) for n in range(40)]

    def test_the_window_holds_its_start_and_not_its_end(self, store: Store) -> None:
        moments = [NOW + timedelta(microseconds=step) for step in (-1, 0, 1, 999_999, 1_000_000)]
        events = [make_event(n, evaluated_at=moment) for n, moment in enumerate(moments)]
        store.append_events(frame_of(events))
        window = LookbackWindow(start=NOW, end=NOW + timedelta(seconds=1))
        inside = [make_id(n) for n in (1, 2, 3)]
        assert read_all(store, window)["event_id"].tolist() == inside
        assert errors_of(store, window) == inside
        assert sum(store.count_labelled(window, model_name=MODEL_NAME).values()) == 3

    def test_an_empty_window_holds_nothing(self, store: Store) -> None:
        store.append_events(make_events(1, evaluated_at=NOW))
        assert read_all(store, LookbackWindow(start=NOW, end=NOW)).empty

    def test_an_event_counts_when_its_outcome_became_known(self, store: Store) -> None:
        known = {"timestamp": NOW - timedelta(days=30), "evaluated_at": NOW}
        timeless = {"timestamp": NOW, "evaluated_at": None}
        pending = {"timestamp": NOW, "actual_result": None}
        events = [make_event(1, **known), make_event(2, **timeless), make_event(3, **pending)]
        store.append_events(frame_of(events))
        window = LookbackWindow(start=NOW, end=NOW + timedelta(seconds=1))
        assert read_all(store, window)["event_id"].tolist() == [make_id(1), make_id(2)]
        both = read_all(store, window, labelled_only=False)
        assert both["event_id"].tolist() == [make_id(n) for n in (1, 2, 3)]

    def test_events_come_in_the_order_of_their_time_and_then_id(self, store: Store) -> None:
        second = timedelta(seconds=1)
        events = [
            make_event(5, evaluated_at=NOW),
            make_event(4, evaluated_at=NOW + second),
            make_event(3, timestamp=NOW, actual_result=None),
            make_event(2, evaluated_at=NOW),
            make_event(1, evaluated_at=NOW + second / 2),
        ]
        store.append_events(frame_of(events))
        labelled = [make_id(n) for n in (2, 5, 1, 4)]
        assert read_all(store)["event_id"].tolist() == labelled
        everything = [make_id(n) for n in (2, 3, 5, 1, 4)]
        assert read_all(store, labelled_only=False)["event_id"].tolist() == everything
        assert errors_of(store) == labelled

    def test_defect_15_long_reads_are_complete_and_ordered(self, store: Store) -> None:
        # More than twice the row cap of a hosted REST service, many of them at one instant.
        count = 2_600
        order = np.random.default_rng(7).permutation(count)
        events = [
            make_event(int(n), evaluated_at=NOW + timedelta(seconds=int(n) // 900)) for n in order
        ]
        assert store.append_events(frame_of(events)) == count
        expected = [make_id(n) for n in range(count)]
        assert read_all(store)["event_id"].tolist() == expected
        assert read_all(store, labelled_only=False)["event_id"].tolist() == expected
        assert errors_of(store) == expected
        assert sum(store.count_labelled(EVER, model_name=MODEL_NAME).values()) == count

    def test_other_models_names_stay_apart(self, store: Store) -> None:
        store.append_events(frame_of([make_event(1), make_event(2, model_name="tennis")]))
        assert read_all(store)["event_id"].tolist() == [make_id(1)]
        assert errors_of(store) == [make_id(1)]
        assert sum(store.count_labelled(EVER, model_name=MODEL_NAME).values()) == 1

    def test_error_samples_are_wrong_and_strictly_over_the_threshold(self, store: Store) -> None:
        events = [
            make_event(1, confidence=0.7),
            make_event(2, confidence=math.nextafter(0.7, 1)),
            make_event(3, confidence=0.95, actual_result="H"),
            make_event(4, confidence=0.95, actual_result=None),
            make_event(5, confidence=None),
            make_event(6, confidence=1.0),
        ]
        store.append_events(frame_of(events))
        assert errors_of(store, threshold=0.7) == [make_id(2), make_id(6)]

    def test_defect_14_a_missing_outcome_is_never_an_error(self, store: Store) -> None:
        frame = make_events(1, 2)
        frame["actual_result"] = np.nan
        frame["evaluated_at"] = pd.NaT
        frame["evaluated_at"] = pd.to_datetime(frame["evaluated_at"], utc=True)
        store.append_events(frame)
        assert errors_of(store, threshold=0.0) == []
        assert read_all(store).empty

    def test_an_uncertain_answer_is_an_error_by_its_best_guess_alone(self, store: Store) -> None:
        guesses: list[tuple[str, float, str | None]] = [
            ("A", 0.9, '{"best_guess": "H"}'),
            ("A", 0.9, '{"best_guess": "A"}'),
            ("A", 0.4, '{"best_guess": "H"}'),
            ("A", 0.9, '{"probabilities": {}}'),
            ("A", 0.9, None),
        ]
        events = [
            make_event(
                n, prediction=UNCERTAIN, actual_result=actual, confidence=sure, metadata=about
            )
            for n, (actual, sure, about) in enumerate(guesses, 1)
        ]
        wrong = make_event(9, prediction="H", actual_result="A", confidence=0.9)
        store.append_events(frame_of([wrong, *events]))
        assert errors_of(store, threshold=0.7) == [make_id(1), make_id(9)]

    def test_an_uncertain_prediction_without_a_guess_is_labelled_but_no_error(
        self, store: Store
    ) -> None:
        store.append_events(make_events(1, prediction=UNCERTAIN))
        assert errors_of(store, threshold=0.0) == []
        assert read_all(store)["event_id"].tolist() == [make_id(1)]
        assert sum(store.count_labelled(EVER, model_name=MODEL_NAME).values()) == 1

    def test_error_samples_can_be_limited_to_some_models(self, store: Store) -> None:
        events = [make_event(n, model_id=f"m-{n}") for n in (1, 2, 3)]
        store.append_events(frame_of([*events, make_event(4, model_id=None)]))
        assert errors_of(store, model_ids=["m-3", "m-1", AWKWARD]) == [make_id(1), make_id(3)]
        assert errors_of(store, model_ids=[]) == []
        assert errors_of(store) == [make_id(n) for n in (1, 2, 3, 4)]

    def test_error_samples_are_whole_events(self, store: Store) -> None:
        store.append_events(make_events(1))
        samples = store.read_error_samples(
            EVER, model_name=MODEL_NAME, confidence_threshold=0.7, model_ids=None
        )
        pd.testing.assert_frame_equal(samples, read_all(store))

    def test_labelled_events_are_counted_per_utc_day(self, store: Store) -> None:
        midnight = datetime(2026, 3, 15, tzinfo=UTC)
        moments = [
            midnight - timedelta(microseconds=1),
            midnight,
            midnight + timedelta(hours=23, minutes=59),
            midnight + timedelta(days=2),
        ]
        events = [make_event(n, evaluated_at=moment) for n, moment in enumerate(moments)]
        store.append_events(frame_of([*events, make_event(9, actual_result=None)]))
        assert store.count_labelled(EVER, model_name=MODEL_NAME) == {
            date(2026, 3, 14): 1,
            date(2026, 3, 15): 2,
            date(2026, 3, 17): 1,
        }

    def test_a_row_with_more_former_outcomes_corrects_the_stored_event(self, store: Store) -> None:
        store.append_events(frame_of([make_event(1, actual_result="A")]))
        event = make_event(1, actual_result="A")
        former = {"actual_result": "A", "evaluated_at": None}
        metadata = json.dumps({"outcome_corrections": [former]})
        correction = {**event, "actual_result": "H", "metadata": metadata}
        for _ in range(2):  # the very same again is fine
            assert store.append_events(frame_of([correction])) == 0
            assert store.append_events(frame_of([event])) == 0
            assert read_all(store)["actual_result"].tolist() == ["H"]
        assert sum(store.count_changes(model_name=MODEL_NAME).values()) == 1
        other = {**correction, "actual_result": "D"}
        beside = {"outcome_corrections": [{**former, "actual_result": "D"}, former]}
        for refused in (other, {**other, "metadata": json.dumps(beside)}):
            with pytest.raises(StoreRefused):
                store.append_events(frame_of([refused]))
        assert read_all(store)["actual_result"].tolist() == ["H"]

    def test_an_event_and_its_correction_in_one_frame_are_the_corrected_event(
        self, store: Store
    ) -> None:
        event = make_event(1, actual_result="A")
        former = {"actual_result": "A", "evaluated_at": None}
        metadata = json.dumps({"outcome_corrections": [former]})
        correction = {**event, "actual_result": "H", "metadata": metadata}
        assert store.append_events(frame_of([event, correction])) == 1
        assert read_all(store)["actual_result"].tolist() == ["H"]

    def test_erased_events_are_gone_and_adding_them_again_adds_nothing(self, store: Store) -> None:
        events = make_events(1, 2, 3, 4)
        store.append_events(events)
        matches = [str(events["match_id"].iloc[1])]
        ids = [str(events["event_id"].iloc[0]), make_id(77)]

        def erase(*, dry_run: bool) -> int:
            return store.erase_events(
                model_name=MODEL_NAME, event_ids=ids, match_ids=matches, dry_run=dry_run
            )["evaluation_log"]

        gone = events["event_id"].isin(ids) | events["match_id"].isin(matches)
        count = int(gone.sum())
        assert erase(dry_run=True) == count
        assert len(read_all(store, labelled_only=False)) == 4
        assert store.erased_events() == frozenset()
        assert erase(dry_run=False) == count
        assert erase(dry_run=False) == 0
        assert store.append_events(pd.concat([events, make_events(1)])) == 0
        left = set(read_all(store, labelled_only=False)["event_id"])
        assert left == set(events.loc[~gone, "event_id"])
        assert {id_hash(make_id(77)), id_hash(ids[0])} <= store.erased_events()

    def test_what_one_handle_writes_the_other_reads(self, store: Store, other: Store) -> None:
        store.append_events(make_events(1))
        assert read_all(other)["event_id"].tolist() == [make_id(1)]


def _exported(store: Store, folder: Path, model_name: str) -> dict[str, EventRow | None]:
    rows: dict[str, EventRow | None] = {}
    for path in store.export_events(folder, model_name=model_name):
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file, delimiter=EXPORT_DELIMITER, quotechar=EXPORT_QUOTE)
            rows |= {cells[1]: row_of(cells) for cells in lines}
    return rows
