"""What a load promises: which rows are errors, which are learned, what becomes of the others."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_pipeline.config.data import DEFAULT_FEATURES
from ml_pipeline.data_loader import prepare_retraining_data
from ml_pipeline.datasets import labelled_file
from ml_pipeline.datasets.labelled_file import LabelledFile
from ml_pipeline.errors import ConfigError, DataError, NotFound, StoreCorrupt
from ml_pipeline.evaluation_log.loading import LoadedLog, load_log, read_labelled
from ml_pipeline.evaluation_log.rules import LABELLED_COLUMNS
from ml_pipeline.registry.serving_state import serving_models
from ml_pipeline.runs.manifest import days_of
from ml_pipeline.store.lineage.open_rows import OpenRows
from ml_pipeline.store.records import LookbackWindow
from tests.support.factories import (
    MODEL_NAME,
    NOW,
    frame_of,
    make_event,
    make_id,
    make_model,
    make_promotion,
)
from tests.support.logs import (
    FEATURES,
    Desk,
    fill_table,
    make_log_request,
    make_row,
    outcome_only,
    settings_for,
    without_outcome,
    write_log,
)
from tests.support.properties import tries


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def reasons(loaded: LoadedLog) -> dict[str, int]:
    return loaded.report.reasons


def rejected(loaded: LoadedLog) -> list[dict[str, str]]:
    assert loaded.report.rejects_path is not None
    with Path(loaded.report.rejects_path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def labelled(loaded: LoadedLog) -> pd.DataFrame:
    return pd.read_csv(loaded.labelled_path, dtype=str, keep_default_na=False)


# ---------------------------------------------------------------------------------- errors


def test_a_confident_wrong_prediction_in_the_window_is_an_error_sample(desk: Desk) -> None:
    loaded = desk.load([make_row(1)])
    error = loaded.errors.iloc[0]
    assert list(loaded.errors.columns) == [*LABELLED_COLUMNS, *DEFAULT_FEATURES, "result"]
    assert (error["event_id"], error["match_id"], error["model_id"]) == (
        make_id(1), "match-1", "m-1",
    )  # fmt: skip
    assert (error["prediction"], error["result"], error["confidence"]) == ("H", "A", 0.9)
    assert error["known_at"] == "2026-03-14T01:00:00.123456+00:00"
    assert error["is_error"]
    assert [error[name] for name in DEFAULT_FEATURES] == list(FEATURES.values())


@pytest.mark.parametrize("source", ["log.csv", "table"])
def test_an_ordinary_log_is_read_once(
    desk: Desk, caplog: pytest.LogCaptureFixture, source: str
) -> None:
    """What an expression repeats each thread holds: it has to fit the first step of memory."""
    rows = [make_row(hours, metadata='{"best_guess": "H"}') for hours in range(1, 500)]
    request = make_log_request(with_guesses=True)
    with caplog.at_level("INFO", "data_loader"):
        if source == "table":
            fill_table(desk.store, rows)
            loaded = desk.load_file("table", request=request)
        else:
            loaded = desk.load(rows, request=request)
    assert loaded.labelled_rows == 499
    assert "were too little" not in caplog.text


def test_files_are_named_after_the_time_of_the_run(desk: Desk) -> None:
    loaded = desk.load([make_row(1)])
    assert loaded.errors_path == desk.work / "finetune_20260314_020000.csv"
    assert loaded.labelled_path == desk.work / "labelled_20260314_020000.csv"
    assert loaded.report.rejects_path is None
    names = sorted(path.name for path in desk.work.iterdir())
    assert names == ["finetune_20260314_020000.csv", "labelled_20260314_020000.csv"]


def test_confidence_must_be_strictly_over_the_threshold(desk: Desk) -> None:
    rows = [make_row(1, confidence="0.7"), make_row(2, confidence="0.70001")]
    assert desk.load(rows).errors["event_id"].tolist() == [make_id(2)]


def test_the_window_is_half_open(desk: Desk) -> None:
    window = LookbackWindow(start=NOW - timedelta(hours=3), end=NOW - timedelta(hours=1))
    loaded = desk.load([make_row(n) for n in (1, 2, 3, 4)], request=make_log_request(window=window))
    assert sorted(loaded.errors["event_id"]) == [make_id(2), make_id(3)]
    assert loaded.labelled_rows == 4


def test_a_right_prediction_is_labelled_and_no_error(desk: Desk) -> None:
    loaded = desk.load([make_row(1, actual_result="H")])
    assert (len(loaded.errors), loaded.labelled_rows) == (0, 1)
    assert labelled(loaded)["is_error"].tolist() == ["false"]


def test_an_uncertain_answer_is_learned_from_and_never_an_error(desk: Desk) -> None:
    loaded = desk.load([make_row(1, prediction="UNCERTAIN"), make_row(2, prediction="uncertain")])
    assert (len(loaded.errors), loaded.labelled_rows) == (0, 2)
    assert labelled(loaded)["prediction"].tolist() == ["UNCERTAIN", "UNCERTAIN"]


def test_uncertain_is_no_outcome(desk: Desk) -> None:
    loaded = desk.load([make_row(1, actual_result="UNCERTAIN")])
    assert reasons(loaded) == {"unknown outcome label": 1}


def test_defect_14_errors_of_earlier_model_versions_do_not_count(desk: Desk) -> None:
    rows = [make_row(1), make_row(2, model_id="m-0"), make_row(3, model_id="")]
    loaded = desk.load(rows, request=make_log_request(model_ids=("m-1", "m-2")))
    assert loaded.errors["event_id"].tolist() == [make_id(1)]
    assert loaded.labelled_rows == 3
    assert len(desk.load(rows).errors) == 3


def test_no_listed_model_means_no_errors(desk: Desk) -> None:
    assert desk.load([make_row(1)], request=make_log_request(model_ids=())).errors.empty


def test_rows_are_sorted_by_day_and_then_by_event_id(desk: Desk) -> None:
    rows = [make_row(n) for n in (50, 3, 1, 30, 27, 2)]
    loaded = desk.load(rows)
    expected = sorted(rows, key=lambda row: (row["evaluated_at"][:10], row["event_id"]))
    assert labelled(loaded)["event_id"].tolist() == [row["event_id"] for row in expected]
    assert loaded.errors["event_id"].tolist() == [row["event_id"] for row in expected]


# --------------------------------------------------------------------------------- learning


def test_old_errors_count_although_only_new_rows_are_learned(desk: Desk) -> None:
    rows = [make_row(1), make_row(48), make_row(24 * 30)]
    request = make_log_request(learn_from=NOW - timedelta(hours=12))
    loaded = desk.load(rows, request=request)
    assert sorted(loaded.errors["event_id"]) == [make_id(1), make_id(48)]
    assert labelled(loaded)["event_id"].tolist() == [make_id(1)]
    assert (loaded.report.labelled, loaded.report.outside, loaded.report.errors) == (1, 2, 2)


def test_a_row_known_right_now_is_learned_and_a_later_one_is_not_yet(desk: Desk) -> None:
    soon = NOW + timedelta(minutes=30)
    rows = [make_row(0), make_row(1, evaluated_at=soon.isoformat())]
    loaded = desk.load(rows, request=make_log_request(learn_from=NOW))
    assert labelled(loaded)["event_id"].tolist() == [make_id(0)]
    assert (loaded.report.outside, loaded.report.bad) == (1, 0)


def test_fresh_rows_are_those_not_learned_already(desk: Desk) -> None:
    loaded = desk.load([make_row(n) for n in (1, 2, 3)])
    assert loaded.fresh_rows(OpenRows.of(())) == 3
    assert loaded.fresh_rows(OpenRows.of([make_id(1), make_id(3), "elsewhere"])) == 1


def test_a_file_counts_labelled_events_of_all_its_days(desk: Desk) -> None:
    rows = [make_row(1), make_row(1), make_row(2), make_row(24 * 40), without_outcome(5)]
    loaded = desk.load(rows, request=make_log_request(learn_from=NOW - timedelta(hours=6)))
    today, then = NOW.date(), (NOW - timedelta(days=40)).date()
    # NOW is two in the morning: both new rows are of today.
    assert loaded.labelled_by_day == {then: 1, today: 2}


def test_every_row_is_counted_once(desk: Desk) -> None:
    rows = [
        make_row(1),
        make_row(1),
        make_row(2, model_name="other"),
        without_outcome(3),
        make_row(24 * 60),
        make_row(24 * 60),
        make_row(24 * 61),
        make_row(4, confidence="2"),
        make_row(5, features="{}"),
    ]
    report = desk.load(rows, request=make_log_request(learn_from=NOW - timedelta(days=1))).report
    assert report.as_json() | {"rejects_path": None, "unusable_path": None} == {
        "source": str(desk.folder / "log.csv"), "rows": 9, "bad": 1, "folded": 2, "other_model": 1,
        "pending": 1, "outside": 2, "labelled": 2, "unusable": 1, "errors": 2,
        "reasons": {
            "confidence is over 1 (percent? set log.confidence_unit: percent)": 1,
            "unusable: no features": 1,
        },
        "examples": {
            "confidence is over 1 (percent? set log.confidence_unit: percent)": make_id(4),
            "unusable: no features": make_id(5),
        },
        "rejects_path": None, "unusable_path": None,
    }  # fmt: skip
    json.dumps(report.as_json())


def test_a_report_that_does_not_add_up_is_refused(desk: Desk) -> None:
    report = desk.load([make_row(1)]).report
    with pytest.raises(StoreCorrupt, match=r"do not add up: .* make 1, not 2"):
        replace(report, rows=2)


# ---------------------------------------------------------------------------------- columns


@pytest.mark.parametrize(
    "header",
    [
        ["predicted_outcome", "actual_outcome", "match_date", "confidence", "event_id"],
        ["prediction_id", "timestamp", "model_version", "predicted_result", "actual_result",
         "confidence"],
        ["Event_ID", "TIMESTAMP", "Prediction", " Actual_Result ", "CONFIDENCE"],
    ],
)  # fmt: skip
def test_defect_4_the_headers_of_other_logs_work_out_of_the_box(
    desk: Desk, header: list[str]
) -> None:
    values = {
        "id": make_id(1), "predicted": "H", "actual": "A", "confidence": "0.9", "version": "m-1",
        "time": "2026-03-13T10:00:00",
    }  # fmt: skip

    def value(column: str) -> str:
        name = column.strip().lower().removeprefix("model_")
        alias = {
            "event_id": "id", "prediction_id": "id", "timestamp": "time", "match_date": "time",
            "prediction": "predicted", "predicted_outcome": "predicted",
            "predicted_result": "predicted", "actual_result": "actual", "actual_outcome": "actual",
        }  # fmt: skip
        return values[alias.get(name, name)]

    row = {name: value(name) for name in (*header, *DEFAULT_FEATURES) if name not in FEATURES}
    row |= {name: str(number) for name, number in FEATURES.items()}
    loaded = desk.load([row], header=list(row))
    assert loaded.errors["event_id"].tolist() == [make_id(1)]
    assert loaded.labelled_rows == 1


def test_defect_4_a_missing_column_is_named_with_spellings_and_columns_found(desk: Desk) -> None:
    with pytest.raises(DataError) as caught:
        desk.load([], header=["event_id", "timestamp", "guess", "actual_result", "confidence"])
    message = str(caught.value)
    assert "lacks prediction (tried prediction, predicted_outcome, predicted_result)" in message
    assert "It has: event_id, timestamp, guess, actual_result, confidence" in message


def test_defect_4_a_log_without_any_time_is_refused(desk: Desk) -> None:
    with pytest.raises(DataError, match=r"timestamp \(tried timestamp, match_date, evaluated_at\)"):
        desk.load([], header=["event_id", "prediction", "actual_result", "confidence"])


def test_configured_spellings_come_first(desk: Desk) -> None:
    rows = [make_row(1) | {"truth": "H"}]
    loaded = desk.load(
        rows, header=list(rows[0]), log__columns={"actual_result": ["truth", "actual_result"]}
    )
    assert labelled(loaded)["result"].tolist() == ["H"]


def test_a_column_that_stands_twice_is_refused(desk: Desk) -> None:
    with pytest.raises(DataError, match="two columns called 'confidence'"):
        desk.load_text("event_id,confidence,confidence\n")


def test_columns_that_nobody_reads_may_stand_twice(desk: Desk) -> None:
    """Names that differ in case are two columns, and each feature is read from its own."""
    names = ["Age", "age", " x ", "day"]
    row = make_row(1, features="")
    header = [*row, "note", "Note", "note", "", "", *names]
    with (desk.folder / "log.csv").open("w", newline="") as file:
        cells = ["a", "b", "c", "", "", "1", "2", "3", "4"]
        csv.writer(file).writerows([header, [*row.values(), *cells]])
    settings = settings_for(desk.folder / "log.csv", data__features=names)
    loaded = load_log(None, settings, make_log_request(), desk.folder)  # type: ignore[arg-type]
    (found,) = labelled(loaded)[names].to_numpy().astype(float).tolist()
    assert found == [1, 2, 3, 4]
    file_of_rows = LabelledFile.read(loaded.labelled_path, settings.data)
    assert file_of_rows.last.features.tolist() == [[1, 2, 3, 4]]
    ((count, _),) = days_of(loaded.labelled_path, settings).values()
    assert count == 1


# Names of relations, columns and functions of our own statements.
OURS = (
    "day", "events", "numbers", "fault", "known", "outcome", "to_learn", "features", "texts",
    "found", "wanted", "rowid", "c0", "r", "h", "p", "row_no", "event", "place", "file", "count",
    "left", "true", "filename", "COLUMNS(*)", "*", "a,b", 'say "hi"', "it's", " x ", "index",
)  # fmt: skip


def test_no_name_of_a_feature_meets_one_of_ours(tmp_path: Path) -> None:
    values = {name: float(place) for place, name in enumerate(OURS)}
    rows = [make_row(number, features=json.dumps(values)) for number in (1, 2, 30)]
    path = write_log(tmp_path / "log.csv", rows)
    settings = settings_for(path, data__features=list(OURS), data__target="known_label")
    loaded = load_log(None, settings, make_log_request(), tmp_path)  # type: ignore[arg-type]
    frame = labelled(loaded)
    for name, value in values.items():
        assert frame[name].astype(float).tolist() == [value] * 3, name
    rows_again = LabelledFile.read(loaded.labelled_path, settings.data).last.features
    assert rows_again.tolist() == [list(values.values())] * 3
    counted = days_of(loaded.labelled_path, settings).values()
    assert sum(number for number, _ in counted) == 3


def test_a_feature_called_like_a_column_of_the_csv_is_refused(desk: Desk) -> None:
    with pytest.raises(ConfigError, match="confidence"):
        desk.load([make_row(1)], data__features=["confidence"])


# ------------------------------------------------------------------------------------ times


def test_defect_13_naive_times_are_utc_and_never_swallowed(desk: Desk) -> None:
    rows = [
        make_row(1, evaluated_at="2026-03-14T01:59:00"),
        make_row(2, evaluated_at="2026-03-14T03:30:00+02:00"),
        make_row(3, evaluated_at="2026-03-14 01:00:00Z"),
        make_row(4, evaluated_at="20260314T003000Z"),
        make_row(5, evaluated_at="2026-03-13"),
    ]
    loaded = desk.load(rows)
    assert loaded.report.bad == 0
    assert sorted(text[:19] for text in loaded.errors["known_at"]) == [
        "2026-03-13T00:00:00",
        "2026-03-14T00:30:00",
        "2026-03-14T01:00:00",
        "2026-03-14T01:30:00",
        "2026-03-14T01:59:00",
    ]


def test_the_time_is_evaluated_at_and_else_the_timestamp(desk: Desk) -> None:
    row = make_row(1, evaluated_at="nan", timestamp="2026-03-13T10:00:00")
    assert desk.load([row]).errors["known_at"].tolist() == ["2026-03-13T10:00:00.000000+00:00"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"evaluated_at": "yesterday"}, "time is not ISO 8601"),
        ({"evaluated_at": "13/03/2026"}, "time is not ISO 8601"),
        ({"evaluated_at": "1773453600"}, "time is not ISO 8601"),
        ({"evaluated_at": "", "timestamp": ""}, "no time"),
        ({"evaluated_at": "2026-03-14T03:00:01"}, "known_at is in the future"),
        ({"evaluated_at": "infinity"}, "known_at is in the future"),
        ({"timestamp": "2062-03-14T02:00:00Z"}, "timestamp is in the future"),
        ({"timestamp": "2026-03-15T02:00:01Z"}, "timestamp is in the future"),
        (
            {"timestamp": "2062-03-14", "actual_result": "", "evaluated_at": ""},
            "timestamp is in the future",
        ),
        ({"evaluated_at": "1961-03-14"}, "time is out of range"),
        ({"event_id": " "}, "event_id is empty"),
        ({"prediction": "", "actual_result": ""}, "neither prediction nor outcome"),
        ({"prediction": ""}, "outcome without a prediction"),
        ({"prediction": "X"}, "unknown prediction label"),
        ({"actual_result": "X"}, "unknown outcome label"),
        ({"confidence": "nan"}, "confidence is NaN"),
        ({"confidence": "-inf"}, "confidence is infinite"),
        ({"confidence": "-0.1"}, "confidence is negative"),
        ({"confidence": "high"}, "confidence is not a number"),
        ({"confidence": "0,9"}, "confidence is not a number"),
        ({"confidence": ""}, "confidence is empty"),
        (
            {"confidence": "90"},
            "confidence is over 1 (percent? set log.confidence_unit: percent)",
        ),
    ],
)
def test_a_bad_row_is_counted_and_named(
    desk: Desk, changes: Mapping[str, str], reason: str
) -> None:
    loaded = desk.load([make_row(1), make_row(2, **changes)])
    assert (loaded.report.bad, loaded.report.labelled) == (1, 1)
    assert reasons(loaded) == {reason: 1}
    assert [(row["row"], row["reason"]) for row in rejected(loaded)] == [("2", reason)]


def test_a_bad_row_is_bad_outside_the_window_too(desk: Desk) -> None:
    request = make_log_request(learn_from=NOW - timedelta(days=1))
    rows = [make_row(24 * 90, confidence="3"), make_row(24 * 90, prediction="X")]
    assert desk.load(rows, request=request).report.bad == 2


def test_the_tolerance_for_the_future_can_be_set(desk: Desk) -> None:
    row = make_row(1, evaluated_at=(NOW + timedelta(hours=5)).isoformat())
    assert desk.load([row], log__future_tolerance_minutes=301.0).report.bad == 0


def test_a_prediction_of_a_match_to_come_is_pending_and_not_bad(desk: Desk) -> None:
    row = without_outcome(1, timestamp=(NOW + timedelta(days=9)).isoformat())
    report = desk.load([row]).report
    assert (report.pending, report.bad) == (1, 0)


def test_rows_of_the_future_that_came_into_the_table_by_themselves_are_bad(desk: Desk) -> None:
    rows = [
        make_row(1),
        make_row(2, evaluated_at="2062-03-14T02:00:00+00:00"),
        without_outcome(3, timestamp="2062-03-14T02:00:00+00:00"),
        without_outcome(4, timestamp="2026-03-20T02:00:00+00:00"),
    ]
    fill_table(desk.store, rows)
    loaded = desk.load_file("table")
    assert (loaded.report.bad, loaded.report.labelled) == (2, 1)
    assert reasons(loaded) == {"known_at is in the future": 1, "timestamp is in the future": 1}


def test_percentages_are_read_when_the_settings_say_so(desk: Desk) -> None:
    rows = [
        make_row(1, confidence="90"),
        make_row(2, confidence="70"),
        make_row(3, confidence="101"),
    ]
    loaded = desk.load(rows, log__confidence_unit="percent")
    assert loaded.errors["confidence"].tolist() == [0.9]
    assert reasons(loaded) == {"confidence is over 100 percent": 1}
    assert labelled(loaded)["confidence"].tolist() == ["0.9", "0.7"]


# ----------------------------------------------------------------------------------- labels


@pytest.mark.parametrize("nothing", ["", "nan", "NaN", "None", "null", " "])
def test_defect_14_an_outcome_that_is_nan_is_pending_and_never_an_error(
    desk: Desk, nothing: str
) -> None:
    loaded = desk.load([make_row(1, actual_result=nothing)])
    assert (loaded.report.pending, len(loaded.errors), loaded.report.bad) == (1, 0, 0)


def test_labels_are_read_in_the_spellings_of_the_map(desk: Desk) -> None:
    spellings = ["H", "h", " H ", "0", "home", "HOME_WIN"]
    loaded = desk.load([make_row(n, prediction=text) for n, text in enumerate(spellings, 1)])
    assert set(labelled(loaded)["prediction"]) == {"H"}
    assert loaded.report.bad == 0


def test_the_same_class_in_two_spellings_is_no_error(desk: Desk) -> None:
    assert desk.load([make_row(1, prediction="away_win", actual_result="V")]).errors.empty


def test_case_matters_when_two_spellings_differ_by_it(desk: Desk) -> None:
    changes: dict[str, Any] = {"data__classes": ["a", "A"], "data__labels": {"x": "a", "X": "A"}}
    rows = [
        make_row(1, prediction="x", actual_result="X"),
        make_row(2, prediction="a", actual_result="A"),
    ]
    loaded = desk.load(rows, **changes)
    assert labelled(loaded)["prediction"].tolist() == ["a", "a"]
    assert len(loaded.errors) == 2


def test_without_a_map_any_label_is_accepted_as_it_is(desk: Desk) -> None:
    rows = [
        make_row(1, prediction="spam", actual_result="Ham, or so"),
        make_row(2, prediction="nat", actual_result="nat"),
        make_row(3, prediction="UNCERTAIN", actual_result="spam"),
        make_row(24 * 50, prediction="spam", actual_result="ham"),
        make_row(24 * 50, prediction="spam", actual_result="Ham"),
    ]
    request = make_log_request(learn_from=NOW - timedelta(days=1))
    loaded = desk.load(rows, request=request, data__classes=None)
    assert labelled(loaded)["result"].tolist() == ["spam", "Ham, or so", "nat"]
    assert loaded.errors["event_id"].tolist() == [make_id(1)]
    assert reasons(loaded) == {"conflicting outcomes": 2}


def test_rows_of_another_model_name_are_ignored_and_not_bad(desk: Desk) -> None:
    rows = [make_row(1, model_name="other", confidence="bad"), make_row(2, model_name="")]
    report = desk.load(rows).report
    assert (report.other_model, report.labelled, report.bad) == (1, 1, 0)


def test_an_outcome_of_another_models_event_belongs_to_that_model(desk: Desk) -> None:
    rows = [without_outcome(1, model_name="other"), outcome_only(1)]
    report = desk.load(rows).report
    assert (report.other_model, report.bad) == (2, 0)


# ---------------------------------------------------------------------------------- folding


def test_a_prediction_and_its_later_outcome_are_one_event(desk: Desk) -> None:
    for rows in ([without_outcome(1), outcome_only(1)], [outcome_only(1), without_outcome(1)]):
        loaded = desk.load(rows)
        assert (loaded.report.folded, loaded.report.labelled, loaded.report.pending) == (1, 1, 0)
        error = loaded.errors.iloc[0]
        assert (error["prediction"], error["result"], error["model_id"]) == ("H", "A", "m-1")
        assert error["known_at"] == "2026-03-14T01:00:00.123456+00:00"
        assert error["home_team_form"] == 0.5


def test_the_time_is_the_outcomes_and_not_the_predictions(desk: Desk) -> None:
    rows = [without_outcome(1, timestamp="2025-01-01T00:00:00"), outcome_only(1)]
    assert len(desk.load(rows, request=make_log_request(learn_from=NOW - timedelta(days=2))).errors)


def test_fields_come_from_the_first_row_that_has_them(desk: Desk) -> None:
    rows = [
        make_row(1, confidence="", features="", model_id="", match_id=""),
        make_row(1, confidence="0.8"),
        make_row(1, confidence="0.6", model_id="m-9"),
    ]
    error = desk.load(rows).errors.iloc[0]
    assert (error["confidence"], error["model_id"], error["match_id"]) == (0.8, "m-1", "match-1")
    assert error["home_team_form"] == 0.5


def test_defect_14_equal_repeats_count_once(desk: Desk) -> None:
    loaded = desk.load([make_row(1)] * 5 + [make_row(2)])
    assert (len(loaded.errors), loaded.labelled_rows, loaded.report.folded) == (2, 2, 4)


def test_an_outcome_counts_from_the_first_time_it_was_known(desk: Desk) -> None:
    later = outcome_only(1, evaluated_at=NOW.isoformat())
    for rows in ([make_row(1), later], [later, make_row(1)]):
        loaded = desk.load(rows)
        assert loaded.errors["known_at"].tolist() == ["2026-03-14T01:00:00.123456+00:00"]


def test_an_old_event_repeated_now_stays_old(desk: Desk) -> None:
    rows = [make_row(24 * 90), outcome_only(24 * 90, evaluated_at=NOW.isoformat())]
    loaded = desk.load(rows, request=make_log_request(learn_from=NOW - timedelta(days=1)))
    assert (loaded.report.outside, loaded.report.folded, loaded.labelled_rows) == (1, 1, 0)
    assert loaded.labelled_by_day == {(NOW - timedelta(days=90)).date(): 1}


@pytest.mark.parametrize("hours", [1, 24 * 90])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"actual_result": "D"}, "conflicting outcomes"),
        ({"prediction": "D"}, "conflicting predictions"),
    ],
)
def test_contradicting_rows_of_one_event_are_all_bad(
    desk: Desk, changes: Mapping[str, str], reason: str, hours: int
) -> None:
    rows = [make_row(hours), make_row(2), make_row(hours, **changes), make_row(hours)]
    loaded = desk.load(rows, request=make_log_request(learn_from=NOW - timedelta(days=1)))
    assert reasons(loaded) == {reason: 3}
    assert [row["row"] for row in rejected(loaded)] == ["1", "3", "4"]
    assert loaded.errors["event_id"].tolist() == [make_id(2)]


def test_a_contradiction_across_the_edge_of_the_window_is_seen(desk: Desk) -> None:
    rows = [make_row(24 * 90), outcome_only(24 * 90, actual_result="D", evaluated_at=str(NOW))]
    loaded = desk.load(rows, request=make_log_request(learn_from=NOW - timedelta(days=1)))
    assert reasons(loaded) == {"conflicting outcomes": 2}


def test_a_bad_row_does_not_spoil_the_good_one_of_its_event(desk: Desk) -> None:
    report = desk.load([make_row(1), make_row(1, confidence="7")]).report
    assert (report.bad, report.labelled, report.folded) == (1, 1, 0)


def test_repeated_outcomes_without_a_prediction_are_bad(desk: Desk) -> None:
    loaded = desk.load([outcome_only(1), outcome_only(1), make_row(2)])
    assert reasons(loaded) == {"outcome without a prediction": 2}


# --------------------------------------------------------------------------------- features


def test_features_come_from_metadata_when_they_have_no_column(desk: Desk) -> None:
    row = make_row(1, features="", metadata=json.dumps({"features": FEATURES, "league": "E0"}))
    assert desk.load([row]).errors["away_team_form"].tolist() == [1.5]


def test_features_in_metadata_are_found_beside_rows_that_have_their_own(desk: Desk) -> None:
    inner = json.dumps({"features": FEATURES})
    rows = [make_row(1), make_row(2, features="", metadata=inner), make_row(3, features="")]
    loaded = desk.load(rows)
    assert labelled(loaded)["event_id"].tolist() == [make_id(1), make_id(2)]
    assert reasons(loaded) == {"unusable: no features": 1}


def test_features_come_from_columns_of_their_names(desk: Desk) -> None:
    row = make_row(1, features=None) | {name: f" {n} " for name, n in FEATURES.items()}
    row |= {"home_team_form": "", "away_team_form": "nan"}
    error = desk.load([row], header=list(row)).errors.iloc[0]
    assert np.isnan(error["home_team_form"])
    assert np.isnan(error["away_team_form"])
    assert error["home_advantage"] == 4.5


OPEN: dict[str, Any] = {"data__classes": None, "data__ordered": False}


def test_an_outcome_that_the_model_does_not_know_is_set_aside(desk: Desk) -> None:
    rows = [make_row(1), make_row(2, actual_result="banana"), make_row(3, actual_result=" H ")]
    loaded = desk.load(rows, request=make_log_request(classes=("A", "H")), **OPEN)
    assert sorted(labelled(loaded)["event_id"]) == [make_id(1), make_id(3)]
    reason = "unusable: outcome is no class of the model"
    assert reasons(loaded) == {reason: 1}
    assert loaded.report.examples == {reason: make_id(2)}
    anything = desk.load(rows, **OPEN)
    assert len(labelled(anything)) == 3


def test_too_much_that_cannot_be_learned_is_refused_but_never_a_single_row(desk: Desk) -> None:
    good, bad = [make_row(n) for n in range(1, 19)], make_row(20, features='{"a": 1}')
    one, two = desk.load([*good[:1], bad]).report, desk.load([*good, bad, bad | {"event_id": "x"}])
    few = settings_for("table", log__max_bad_rows=0.05)
    one.require_usable(few)
    two.report.require_usable(settings_for("table", log__max_bad_rows=0.1))
    with pytest.raises(DataError) as refused:
        two.report.require_usable(few)
    assert str(refused.value).startswith(
        f"2 of 20 results to learn from {desk.folder / 'log.csv'} cannot be learned (10.0%, "
        "log.max_bad_rows allows 5.0%): feature home_team_form is absent (2, for example event "
        f"{make_id(20)}). Correct what logs them, or raise log.max_bad_rows"
    )


def test_a_null_feature_is_a_missing_value_and_left_empty(desk: Desk) -> None:
    values: dict[str, Any] = FEATURES | {"home_team_form": None, "away_team_form": "", "more": [1]}
    loaded = desk.load([make_row(1, features=json.dumps(values | {"home_advantage": "0.25"}))])
    row = labelled(loaded).iloc[0]
    assert (row["home_team_form"], row["away_team_form"], row["home_advantage"]) == ("", "", "0.25")


def test_nan_in_json_is_a_missing_value(desk: Desk) -> None:
    loaded = desk.load([make_row(1, features=json.dumps(FEATURES | {"home_advantage": np.nan}))])
    assert labelled(loaded)["home_advantage"].tolist() == [""]


def _with(**changes: object) -> str:
    return json.dumps({**FEATURES, **changes})


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        ("", "no features"),
        ("{}", "no features"),
        ("{'home_team_form': 1}", "features are not JSON"),
        ("[1, 2]", "features are not a JSON object"),
        ('{"home_team_form": 1}', "feature away_team_form is absent"),
        (_with(home_advantage="much"), "feature home_advantage is not a number"),
        (_with(home_advantage=True), "feature home_advantage is not a number"),
        (_with(home_advantage=[1]), "feature home_advantage is not a number"),
        (_with(home_advantage=1e200), "feature home_advantage is beyond 1e+150"),
        (_with(home_advantage="-2e150"), "feature home_advantage is beyond 1e+150"),
        (_with(away_team_form="inf"), "feature away_team_form is not finite"),
        (_with(away_team_form=float("inf")), "feature away_team_form is not finite"),
        (json.dumps(dict.fromkeys(FEATURES)), "all features are missing"),
    ],
)
def test_an_event_without_usable_features_is_an_error_and_not_learned(
    desk: Desk, features: str, reason: str
) -> None:
    loaded = desk.load([make_row(1, features=features), make_row(2)])
    assert reasons(loaded) == {f"unusable: {reason}": 1}
    assert (loaded.report.labelled, loaded.report.unusable, loaded.report.bad) == (2, 1, 0)
    assert labelled(loaded)["event_id"].tolist() == [make_id(2)]
    # What is not set aside can be read to be learned.
    assert len(labelled_file.read_labelled(str(loaded.labelled_path), settings_for("table"))) == 1
    assert loaded.report.unusable_path is not None
    assert pd.read_csv(loaded.report.unusable_path).to_dict("records") == [
        {"event_id": make_id(1), "reason": reason, "outcome": "A"}
    ]
    error = loaded.errors[loaded.errors["event_id"] == make_id(1)].iloc[0]
    assert np.isnan([error[name] for name in DEFAULT_FEATURES]).all()


def test_feature_names_may_hold_anything(desk: Desk) -> None:
    names = ["a/b", "c~d", 'e"f', "g h", "it's", "$.x"]
    row = make_row(1, features=json.dumps({name: n for n, name in enumerate(names)}))
    loaded = desk.load([row], data__features=names)
    assert [loaded.errors.iloc[0][name] for name in names] == [0, 1, 2, 3, 4, 5]


# --------------------------------------------------------------------------------- bad rows


def test_a_feature_may_be_called_like_a_column_of_the_load(desk: Desk) -> None:
    names = ["day", "fault", "known", "is_wanted", "numbers"]
    rows = [
        make_row(hour, features=json.dumps(dict.fromkeys(names, float(hour))))
        for hour in (1, 30, 60)
    ]
    loaded = desk.load(rows, data__features=names)
    assert labelled(loaded)["day"].tolist() == ["60.0", "30.0", "1.0"]


def test_too_many_bad_rows_stop_the_load_and_leave_only_the_rejects(desk: Desk) -> None:
    rows = [make_row(n) for n in range(1, 17)] + [make_row(n, prediction="X") for n in (20, 21)]
    rows += [make_row(22, confidence="7"), make_row(23, evaluated_at="x")]
    with pytest.raises(DataError) as caught:
        desk.load(rows, log__max_bad_rows=0.19)
    message = str(caught.value)
    assert "4 of 20 rows" in message
    assert "20.0%" in message
    assert "unknown prediction label (2), confidence is over 1" in message
    path = desk.work / "rejected_20260314_020000.csv"
    assert str(path) in message
    assert list(desk.work.iterdir()) == [path]
    assert desk.load(rows, log__max_bad_rows=0.2).report.bad == 4


def test_a_rejected_row_shows_its_text_cut_to_two_thousand_characters(desk: Desk) -> None:
    loaded = desk.load([make_row(1, prediction="X", features="f" * 5000)])
    (row,) = rejected(loaded)
    assert row["text"].startswith(f"{make_row(1)['timestamp']},{make_id(1)},m-1,match-1,X,A,0.9,")
    assert len(row["text"]) == 2000


def test_rejects_of_an_earlier_load_do_not_stay(desk: Desk) -> None:
    desk.load([make_row(1, prediction="X")])
    assert desk.load([make_row(1)]).report.rejects_path is None
    assert not list(desk.work.glob("rejected_*"))


# ------------------------------------------------------------------------------------ table


def test_the_table_is_loaded_like_a_file(desk: Desk) -> None:
    rows = [make_row(n) for n in (1, 2, 30)] + [make_row(3, actual_result="H")]
    fill_table(desk.store, [*rows, without_outcome(4), make_row(5, model_name="other")])
    request = make_log_request(count_from=NOW - timedelta(days=3))
    loaded = desk.load_file("table", request=request)
    assert sorted(loaded.errors["event_id"]) == [make_id(1), make_id(2), make_id(30)]
    assert (loaded.report.rows, loaded.labelled_rows) == (4, 4)
    assert sum(loaded.labelled_by_day.values()) == 4
    assert desk.load_file("table").labelled_by_day == {}


def test_an_empty_table_is_an_empty_log(desk: Desk) -> None:
    loaded = desk.load_file("table")
    assert (loaded.report.rows, len(loaded.errors), loaded.labelled_rows) == (0, 0, 0)


def test_of_the_table_only_the_rows_to_learn_and_the_errors_are_moved(desk: Desk) -> None:
    fill_table(desk.store, [make_row(n, actual_result="H") for n in range(24, 60)])
    fill_table(desk.store, [make_row(1), make_row(70)])
    loaded = desk.load_file("table", request=make_log_request(learn_from=NOW - timedelta(hours=5)))
    assert loaded.report.rows == 2
    assert sorted(loaded.errors["event_id"]) == [make_id(1), make_id(70)]
    assert (loaded.report.labelled, loaded.report.outside) == (1, 1)


def test_rows_of_the_table_pass_the_same_validation(desk: Desk) -> None:
    events = [
        make_event(1, confidence=None, timestamp=NOW, evaluated_at=NOW - timedelta(hours=1)),
        make_event(2, prediction="X", timestamp=NOW, evaluated_at=NOW - timedelta(hours=2)),
    ]
    desk.store.append_events(frame_of(events))
    loaded = desk.load_file("table")
    assert reasons(loaded) == {"confidence is empty": 1, "unknown prediction label": 1}


def test_errors_of_the_champions_lineage_count(desk: Desk) -> None:
    configured = settings_for("table")
    assert serving_models(desk.store, configured.model_name) is None
    desk.store.register(make_model("m-1"))
    desk.store.register(make_model("m-2", anchor_id="m-1"))
    desk.store.register(make_model("m-3"))
    desk.store.promote(make_promotion("m-2", None))
    assert serving_models(desk.store, configured.model_name) == ("m-1", "m-2")


def test_the_history_for_a_replay_is_every_usable_labelled_row(desk: Desk) -> None:
    fill_table(desk.store, [make_row(1), make_row(24 * 300), make_row(2, features="{}")])
    frame = read_labelled(desk.store, settings_for("table"), desk.work, now=NOW)
    assert list(frame.columns) == [*LABELLED_COLUMNS, *DEFAULT_FEATURES, "result"]
    assert frame["event_id"].tolist() == [make_id(24 * 300), make_id(1)]
    assert frame[list(DEFAULT_FEATURES)].dtypes.eq("float64").all()
    assert frame["is_error"].tolist() == [False, True]


def test_the_facade_writes_the_error_samples_of_the_environments_store(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(desk.folder)
    monkeypatch.setenv("ML_PIPELINE_LOCAL", str(desk.folder / "store"))
    monkeypatch.setenv("ML_PIPELINE__MODEL_NAME", MODEL_NAME)
    assert prepare_retraining_data() == (None, 0)
    now = datetime.now(UTC)
    recent = {"timestamp": now - timedelta(hours=2), "evaluated_at": now - timedelta(hours=1)}
    desk.store.append_events(frame_of([make_event(1, **recent), make_event(2, **recent)]))
    path, count = prepare_retraining_data(lookback_days=7, confidence_threshold=0.85)
    assert count == 2
    assert path is not None
    assert len(pd.read_csv(path)) == 2
    assert prepare_retraining_data(confidence_threshold=0.95) == (None, 0)


def test_the_facade_raises_what_went_wrong(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk.folder)
    monkeypatch.setenv("ML_PIPELINE_LOCAL", str(desk.folder / "store"))
    monkeypatch.setenv("ML_PIPELINE__LOG__SOURCE", str(desk.folder / "missing.csv"))
    with pytest.raises(DataError, match="There is no log"):
        prepare_retraining_data()
    with pytest.raises(ConfigError, match="lookback_days"):
        prepare_retraining_data(lookback_days=-1)


# ------------------------------------------------------------------------------- properties

_HOURS = st.sampled_from([1, 2, 5, 30, 100, 24 * 20])


@st.composite
def _events(draw: st.DrawFn) -> list[dict[str, str]]:
    """Sound events with distinct ids, as a table can hold them."""
    numbers = draw(st.lists(st.integers(1, 60), unique=True, max_size=12))
    return [
        make_row(
            number,
            evaluated_at=(NOW - timedelta(hours=draw(_HOURS), minutes=number)).isoformat(),
            prediction=draw(st.sampled_from(["H", "D", "A", "UNCERTAIN"])),
            actual_result=draw(st.sampled_from(["H", "D", "A"])),
            confidence=draw(st.sampled_from(["0.5", "0.7", "0.71", "1.0"])),
            model_id=draw(st.sampled_from(["m-1", "m-0"])),
            features=draw(
                st.sampled_from([_with(), _with(home_advantage=None), _with(x="y"), "[]"])
            ),
        )
        for number in numbers
    ]


def _as_log(events: list[dict[str, str]], seed: int) -> tuple[list[dict[str, str]], int]:
    """The events split, repeated and shuffled among rows that must not matter."""
    chance = random.Random(seed)
    rows: list[dict[str, str]] = []
    for event in events:
        prediction = event | {"actual_result": "", "evaluated_at": ""}
        names = ("event_id", "actual_result", "evaluated_at")
        outcome = {name: event[name] for name in names}
        shapes = ([event], [prediction, outcome], [event, event], [prediction, prediction, event])
        rows += chance.choice(shapes)
    noise = [
        without_outcome(500),
        make_row(501, confidence="9"),
        outcome_only(502),
        make_row(503, model_name="other"),
        make_row(504, prediction="D"),
        make_row(504, prediction="A"),
    ]
    noise = chance.sample(noise[:4], chance.randint(0, 4)) + noise[4:]
    rows += noise
    chance.shuffle(rows)
    return rows, sum(row["event_id"] in {make_id(n) for n in (501, 502, 504)} for row in noise)


@settings(max_examples=tries(8), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(events=_events(), seed=st.integers(0, 10_000), late=st.booleans())
def test_a_file_and_the_table_give_the_same_rows_and_all_counts_add_up(
    events: list[dict[str, str]], seed: int, *, late: bool
) -> None:
    request = make_log_request(
        model_ids=("m-1",), learn_from=NOW - timedelta(hours=10) if late else None
    )
    rows, bad = _as_log(events, seed)
    with TemporaryDirectory() as name:
        desk = Desk(Path(name))
        fill_table(desk.store, events)
        table = desk.load_file("table", request=request)
        from_table = table.errors, table.labelled_path.read_bytes()
        file = desk.load(rows, request=request)
        pd.testing.assert_frame_equal(from_table[0], file.errors)
        assert from_table[1] == file.labelled_path.read_bytes()
        assert (file.report.rows, file.report.bad, table.report.bad) == (len(rows), bad, 0)
        expected = [e for e in events if _is_error(e)]
        assert sorted(file.errors["event_id"]) == sorted(e["event_id"] for e in expected)
        assert file.report.labelled == sum(
            request.learn_from is None
            or datetime.fromisoformat(e["evaluated_at"]) >= request.learn_from
            for e in events
        )
        assert sum(file.labelled_by_day.values()) == len(events)


def _is_error(event: Mapping[str, str]) -> bool:
    """The rule, in Python."""
    return (
        event["prediction"] not in {event["actual_result"], "UNCERTAIN"}
        and float(event["confidence"]) > 0.7
        and event["model_id"] == "m-1"
        and NOW - timedelta(days=7) <= datetime.fromisoformat(event["evaluated_at"]) < NOW
    )


def test_a_load_can_be_repeated(desk: Desk) -> None:
    path = write_log(desk.folder / "log.csv", [make_row(1), make_row(2)])
    first = desk.load_file(path)
    before = first.labelled_path.read_bytes()
    assert desk.load_file(path).labelled_path.read_bytes() == before
    assert len(list(desk.work.iterdir())) == 2


def test_the_log_may_stand_in_storage(desk: Desk) -> None:
    with pytest.raises(NotFound, match=r"evaluation_log\.csv"):
        load_log(desk.store, settings_for("storage"), make_log_request(), desk.work)
    path = write_log(desk.folder / "log.csv", [make_row(1), make_row(2)])
    desk.store.put("model-artifacts", "evaluation_log.csv", path)
    loaded = load_log(desk.store, settings_for("storage"), make_log_request(), desk.work)
    assert (loaded.labelled_rows, loaded.report.rows) == (2, 2)


@pytest.mark.parametrize(("count", "line"), [(100, 50), (3000, 50)])
def test_every_line_behind_a_quote_that_is_not_closed_is_a_bad_row(
    desk: Desk, count: int, line: int
) -> None:
    rows = [make_row(number, features=None) for number in range(1, count + 1)]
    lines = write_log(desk.folder / "log.csv", rows).read_text().split("\n")
    lines[line] = lines[line].replace("match-", '"match-')
    loaded = desk.load_text("\n".join(lines))
    report = loaded.report
    assert (report.rows, report.bad, report.labelled) == (count, count - line + 1, line - 1)
    (reason,) = [reason for reason in report.reasons if reason.startswith("malformed: ")]
    assert "hides further lines" in reason
    assert report.reasons[reason] == count - line + 1
    with pytest.raises(DataError, match=r"log\.max_bad_rows allows"):
        desk.load_file(desk.folder / "log.csv", log__max_bad_rows=0.05)


@pytest.mark.parametrize("source", ["table", "log.csv"])
def test_what_came_after_a_run_that_is_replayed_is_no_row_of_the_future(
    desk: Desk, source: str
) -> None:
    rows = [make_row(1), make_row(2, evaluated_at="2026-04-14T02:00:00+00:00")]
    request = make_log_request(read_at=NOW + timedelta(days=60))
    if source == "table":
        fill_table(desk.store, rows)
        loaded = desk.load_file(source, request=request)
    else:
        loaded = desk.load(rows, request=request)
    assert (loaded.report.bad, loaded.report.labelled) == (0, 1)
    assert len(pd.read_csv(loaded.labelled_path)) == 1


def test_a_row_says_whether_the_line_that_learns_it_answered(desk: Desk) -> None:
    models = ("m-0", "m-1", "m-2", "app", "")
    rows = [make_row(number, model_id=model) for number, model in enumerate(models, 1)]
    for ids, anchor, answered in (
        (("m-0", "m-1", "m-2"), "m-0", {"m-1", "m-2"}),
        (("m-0",), "m-0", set()),
        (None, None, set()),
    ):
        loaded = desk.load(rows, request=make_log_request(model_ids=ids, anchor_id=anchor))
        learned = pd.read_csv(loaded.labelled_path, dtype=str, keep_default_na=False)
        assert set(learned["model_id"]) == set(models)
        assert set(learned["model_id"][learned["of_line"] == "true"]) == answered
