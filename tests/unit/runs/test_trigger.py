"""A run that has nothing to learn says how much there is, how much is needed, and what now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ml_pipeline.evaluation_log.known.report import LoadReport
from ml_pipeline.evaluation_log.loading import LoadedLog
from ml_pipeline.registry.serving_state import ServingState
from ml_pipeline.runs.preparing import Prepared
from ml_pipeline.runs.trigger import reason_to_skip
from tests.support import league
from tests.support.factories import make_model

SERVING = ServingState(champion=make_model(), head=make_model())


def prepared(serving: ServingState, *, errors: int, rows: int) -> Prepared:
    report = LoadReport(
        source="the table",
        rows=rows,
        bad=0,
        folded=0,
        other_model=0,
        pending=0,
        outside=0,
        labelled=rows,
        unusable=0,
        errors=errors,
        reasons={},
        rejects_path=None,
    )
    loaded = LoadedLog(
        errors_path=Path("errors.csv"),
        labelled_path=Path("labelled.csv"),
        labelled_rows=rows,
        report=report,
        labelled_by_day={},
        features=(),
    )
    return Prepared(
        serving=serving, settings=league.settings_for(), counted_ids=None, loaded=loaded
    )


@pytest.mark.parametrize(
    ("changes", "errors", "rows", "outcome", "reason"),
    [
        pytest.param(
            {"run__trigger": "errors"},
            9,
            1_200,
            "skipped_insufficient_errors",
            "Skipped: 9 confident errors (confidence over 0.7) in the last 7 days, 10 are needed "
            "to train. 1,200 new results wait for a later run; `run.trigger: labels` learns from "
            "them without errors.",
            id="too few errors",
        ),
        pytest.param(
            {"run__trigger": "errors", "run__lookback_days": 1},
            1,
            1,
            "skipped_insufficient_errors",
            "Skipped: 1 confident error (confidence over 0.7) in the last day, 10 are needed to "
            "train. 1 new result waits for a later run; `run.trigger: labels` learns from them "
            "without errors.",
            id="one of each",
        ),
        pytest.param(
            {"run__trigger": "errors"},
            0,
            0,
            "skipped_insufficient_errors",
            "Skipped: 0 confident errors (confidence over 0.7) in the last 7 days, 10 are needed "
            "to train. No new result waits to be learned.",
            id="nothing at all",
        ),
        pytest.param(
            {"run__trigger": "labels"},
            4,
            29,
            "skipped_no_new_data",
            "Skipped: 29 new results, 30 are needed to train. They wait for the next run, with 4 "
            "confident errors (confidence over 0.7) in the last 7 days.",
            id="too few results",
        ),
        pytest.param(
            {"run__trigger": "any"},
            12,
            0,
            "skipped_no_new_data",
            "Skipped: no new result has come in since the last training; everything known is "
            "learned already, with 12 confident errors (confidence over 0.7) in the last 7 days. "
            "The next run looks again.",
            id="nothing new",
        ),
    ],
)
def test_a_skip_says_how_much_there_is_and_how_much_is_needed(
    changes: dict[str, Any], errors: int, rows: int, outcome: str, reason: str
) -> None:
    skip = reason_to_skip(
        prepared(SERVING, errors=errors, rows=rows), league.settings_for(**changes)
    )
    assert skip is not None
    assert (skip.outcome, skip.reason) == (outcome, reason)
    assert (skip.dataset_size, skip.champion_id) == (errors, "m-1")
    assert skip.details["waiting_rows"] == rows


@pytest.mark.parametrize(
    ("trigger", "rows", "start"),
    [
        ("any", 0, "Skipped: no new result can be learned, with 0 confident errors "),
        ("labels", 0, "Skipped: 0 new results, 30 are needed to train. "),
        ("labels", 3, "Skipped: 3 new results, 30 are needed to train. "),
        ("errors", 3, "Skipped: 0 confident errors "),
    ],
)
def test_a_skip_says_what_is_wrong_with_results_that_cannot_be_learned(
    trigger: str, rows: int, start: str
) -> None:
    found = prepared(SERVING, errors=0, rows=rows)
    reason = "unusable: features are not JSON"
    report = replace(
        found.loaded.report,
        rows=rows + 1,
        labelled=rows + 1,
        unusable=1,
        reasons={reason: 1},
        examples={reason: "e-7"},
    )
    flawed = replace(found, loaded=replace(found.loaded, report=report))
    skip = reason_to_skip(flawed, league.settings_for(run__trigger=trigger))
    assert skip is not None
    assert skip.reason.startswith(start)
    assert skip.reason.endswith(
        " 1 result cannot be learned: features are not JSON (1, for example event e-7)."
    )


def test_a_first_champion_needs_more_results() -> None:
    settings = league.settings_for()
    skip = reason_to_skip(prepared(ServingState(), errors=30, rows=49), settings)
    assert skip is not None
    assert (skip.outcome, skip.champion_id) == ("skipped_insufficient_errors", None)
    assert skip.reason == (
        "Skipped: no model serves yet, and 49 results are too few to train a first one (50 are "
        "needed). Wait for more outcomes, or register a model that was trained elsewhere with "
        "`ml-pipeline train --register`."
    )
    assert reason_to_skip(prepared(ServingState(), errors=30, rows=50), settings) is None


@pytest.mark.parametrize(
    ("trigger", "errors", "rows"), [("errors", 10, 10), ("labels", 0, 30), ("any", 0, 1)]
)
def test_with_enough_of_what_the_trigger_asks_for_a_model_is_trained(
    trigger: str, errors: int, rows: int
) -> None:
    settings = league.settings_for(run__trigger=trigger)
    assert reason_to_skip(prepared(SERVING, errors=errors, rows=rows), settings) is None


def test_results_of_a_class_that_nobody_has_named_are_told_with_the_way_out() -> None:
    found = prepared(SERVING, errors=0, rows=3)
    label = "unknown outcome label"
    report = replace(found.loaded.report, reasons={label: 2}, examples={label: "e-7"})
    unnamed = replace(found, loaded=replace(found.loaded, report=report))
    skip = reason_to_skip(unnamed, league.settings_for(run__trigger="labels"))
    assert skip is not None
    assert skip.reason.endswith(
        " 2 results have an outcome that is no class (for example that of event e-7): name a new "
        "class in data.classes, and the class of another spelling in data.labels."
    )
