"""The conformance kit: what an answer was made of travels with its event."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from ml_pipeline.errors import StoreRefused
from ml_pipeline.evaluation_log.logger import EvaluationLogger
from ml_pipeline.evaluation_log.reconciling import reconcile
from ml_pipeline.store.alerts import LabelDelays
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import LookbackWindow
from ml_pipeline.store.store_serving_view import StoreServingView
from tests.contract.kit.base import EVER, StoreFixtures
from tests.support.factories import MODEL_NAME, NOW, frame_of, make_event, make_events, make_id
from tests.support.logs import make_log_request, settings_for

SHARES = {"H": 0.9, "D": 0.1 - 1e-17, "A": 1e-17}
TEXT = json.dumps(SHARES)


def shares_of(store: Store, *, labelled_only: bool = True) -> list[dict[str, float] | None]:
    """The probabilities of every event, in the order of reading."""
    frames = store.read_events(EVER, model_name=MODEL_NAME, labelled_only=labelled_only)
    return [json.loads(text or "null") for frame in frames for text in frame["probabilities"]]


class AnswersContract(StoreFixtures):
    """Probabilities of evaluation events."""

    def test_probabilities_come_back_to_the_last_bit_by_every_reader(self, store: Store) -> None:
        window = LookbackWindow(start=EVER.start, end=EVER.end)
        store.append_events(make_events(1, probabilities=TEXT))
        store.append_events(make_events(2, actual_result=None, probabilities=TEXT))
        store.append_events(make_events(3))
        assert shares_of(store, labelled_only=False) == [SHARES, SHARES, None]
        errors = store.read_error_samples(
            window, model_name=MODEL_NAME, confidence_threshold=0.7, model_ids=None
        )
        assert [json.loads(text or "null") for text in errors["probabilities"]] == [SHARES, None]
        found = store.find_events(
            model_name=MODEL_NAME, event_ids=[make_id(1), make_id(3)], match_ids=[]
        )
        assert [json.loads(text or "null") for text in found["probabilities"]] == [SHARES, None]

    def test_an_outcome_and_its_correction_keep_the_probabilities(self, store: Store) -> None:
        store.append_events(make_events(1, actual_result=None, probabilities=TEXT))
        store.record_outcomes({make_id(1): "A"}, evaluated_at=NOW)
        assert shares_of(store) == [SHARES]
        corrected = make_event(
            1, actual_result="H", probabilities=TEXT,
            metadata='{"outcome_corrections": [{"actual_result": "A"}]}',
        )  # fmt: skip
        store.append_events(frame_of([corrected]))
        assert shares_of(store) == [SHARES]

    @pytest.mark.parametrize("outcome", [None, "A"])
    def test_probabilities_of_a_known_event_are_filled_in_once(
        self, store: Store, outcome: str | None
    ) -> None:
        store.append_events(make_events(1, actual_result=outcome))
        assert store.append_events(make_events(1, actual_result=outcome, probabilities=TEXT)) == 0
        assert shares_of(store, labelled_only=False) == [SHARES]
        spelt = json.dumps(SHARES, sort_keys=True, indent=1)
        assert store.append_events(make_events(1, actual_result=outcome, probabilities=spelt)) == 0
        assert store.append_events(make_events(1, actual_result=outcome)) == 0
        other = make_events(1, actual_result=outcome, probabilities='{"H": 1.0}')
        with pytest.raises(StoreRefused, match=make_id(1)):
            store.append_events(other)
        assert shares_of(store, labelled_only=False) == [SHARES]

    def test_two_answers_of_one_event_in_a_frame_are_refused(self, store: Store) -> None:
        store.append_events(make_events(1))
        both = [make_event(1, probabilities=TEXT), make_event(1, probabilities='{"H": 1.0}')]
        with pytest.raises(StoreRefused, match=make_id(1)):
            store.append_events(frame_of(both))
        assert shares_of(store) == [None]

    def test_probabilities_that_are_not_json_are_refused(self, store: Store) -> None:
        for text in ("{", '{"H": NaN}', "None"):
            with pytest.raises(StoreRefused):
                store.append_events(make_events(1, probabilities=text))
        assert shares_of(store) == []

    def test_what_is_logged_and_loaded_from_the_table_has_them(
        self, store: Store, tmp_path: Path
    ) -> None:
        with closing(StoreServingView(store)) as table:
            logger = EvaluationLogger(
                str(tmp_path / "log.csv"), model_name=MODEL_NAME, clock=lambda: NOW,
                open_table=lambda: table,
            )  # fmt: skip
            event_id = logger.log_prediction(
                "m-1", "x", "H", 0.9, features={"x": 1.0}, probabilities=SHARES
            )
            logger.log_evaluation(event_id, "A")
            assert shares_of(store) == [SHARES]
            assert json.loads(str(logger.csv.find([event_id])[event_id]["probabilities"])) == SHARES

    def test_rows_of_the_table_with_bad_probabilities_are_bad(
        self, store: Store, tmp_path: Path
    ) -> None:
        from ml_pipeline.evaluation_log.loading import load_log

        changes = {"features": '{"x": 1.0}', "timestamp": NOW, "evaluated_at": NOW}
        good = make_event(1, probabilities=TEXT, **changes)
        bad = make_event(2, probabilities='{"H": 90, "A": 10}', **changes)
        store.append_events(frame_of([good, bad]))
        settings = settings_for("table", data__features=["x"])
        loaded = load_log(store, settings, make_log_request(), tmp_path)
        assert loaded.report.reasons == {"probabilities are over 1 (percent?)": 1}
        assert loaded.labelled_rows == 1

    def test_delays_are_the_middle_and_the_ninth_tenth_of_what_outcomes_took(
        self, store: Store
    ) -> None:
        took = [timedelta(days=days) for days in (8, 1, 2, 0.25, 3, 4, 5, 6, 7, 100)]
        store.append_events(
            frame_of([
                make_event(number, timestamp=NOW - delay, evaluated_at=NOW)
                for number, delay in enumerate(took)
            ] + [
                make_event(20, actual_result=None, timestamp=NOW - timedelta(days=900)),
                make_event(21, timestamp=NOW, evaluated_at=NOW),
                make_event(22, timestamp=NOW - timedelta(days=50), model_name="tennis"),
                make_event(23, timestamp=NOW - timedelta(days=90),
                           evaluated_at=NOW - timedelta(days=40)),
            ])
        )  # fmt: skip
        window = LookbackWindow.ending(NOW + timedelta(seconds=1), days=30)
        found = store.label_delays(window, model_name=MODEL_NAME)
        assert found.rows == 10
        assert found.median == pytest.approx(4)
        assert found.most == pytest.approx(8)
        assert store.label_delays(window, model_name="nobody") == LabelDelays(rows=0)

    def test_reconciling_finds_and_brings_probabilities_that_one_side_lacks(
        self, store: Store, tmp_path: Path
    ) -> None:
        logger = EvaluationLogger(str(tmp_path / "log.csv"), model_name=MODEL_NAME)
        rows = {
            number: {"event_id": make_id(number), "model_id": "m-1", "match_id": "x",
                     "prediction": "H", "confidence": 0.9, "timestamp": NOW}
            for number in (1, 2, 3)
        }  # fmt: skip
        logger.log_predictions([rows[1] | {"probabilities": SHARES}, rows[2], rows[3]])
        lines = [row for found, _ in logger.csv.rows_from(0) for row in found]
        store.append_rows([
            lines[0] | {"probabilities": None}, lines[1] | {"probabilities": TEXT}, lines[2],
        ])  # fmt: skip
        report = reconcile(logger, store, repair=False)
        found = [report[f"probabilities_missing_in_{side}"] for side in ("table", "csv")]
        assert (found, report["consistent"], report["differing"]) == ([1, 1], False, 0)
        assert report["ids"]["answer_not_in_table"] == [make_id(1)]
        reconcile(logger, store, repair=True)
        assert reconcile(logger, store, repair=False)["consistent"]
        assert shares_of(store, labelled_only=False) == [SHARES, SHARES, None]
        kept = logger.csv.find([make_id(number) for number in rows])
        assert [kept[make_id(number)]["probabilities"] is None for number in rows] == [
            False, False, True,
        ]  # fmt: skip
        store.append_rows([lines[2] | {"probabilities": TEXT}])
        logger.csv.append([lines[2] | {"probabilities": '{"H": 1.0}'}])
        report = reconcile(logger, store, repair=True)
        assert report["differing_fields"] == {"probabilities": 1}
        assert shares_of(store, labelled_only=False) == [SHARES] * 3
