"""How far the inputs of a run have moved: counted from its rows, told in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ml_pipeline.config.kind import Kind
from ml_pipeline.datasets.drift import inputs
from ml_pipeline.datasets.drift.inputs import drift_of_file
from ml_pipeline.datasets.reference import ColumnSummary, LevelSummary
from ml_pipeline.reports import report
from ml_pipeline.reports.drift import drift_view
from ml_pipeline.store.inputs.cells import level_code
from tests.support.factories import make_finished_run

RANDOM = np.random.default_rng(7)


def reference() -> dict[str, Any]:
    """Of a base trained on 1,000 rows of two numbers and a category."""
    numbers = {name: ColumnSummary.of(RANDOM.normal(size=1_000)) for name in ("calm", "moved")}
    plans = LevelSummary.of(np.asarray([level_code("free"), level_code("paid")] * 500))
    summaries = {**numbers, "plan": plans}
    return {
        "features": list(summaries),
        "kinds": {"plan": str(Kind.CATEGORY)},
        "text_column": None,
        "columns": {
            name: {field: getattr(summary, field) for field in summary.__slots__}
            for name, summary in summaries.items()
            if summary is not None
        },
    }


def write(path: Path, rows: int, *, by: float, plan: str = "free") -> Path:
    """Labelled rows; the later half has moved, and other plans."""
    half = rows // 2
    pd.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(rows)],
            "calm": RANDOM.normal(size=rows).round(4),
            "moved": (RANDOM.normal(size=rows) + by * (np.arange(rows) >= half)).round(4),
            "plan": ["free", "paid"] * (half // 2) + [plan, "paid"] * ((rows - half) // 2),
        }
    ).to_csv(path, index=False)
    return path


def test_the_inputs_of_a_run_are_compared_and_told_worst_first(tmp_path: Path) -> None:
    found = drift_of_file(reference(), write(tmp_path / "l.csv", 400, by=3.0, plan="team"), 400)
    view = drift_view({"at": "2026-03-14T02:00", "inputs": [it.as_json() for it in found]})
    assert view is not None
    assert {(it.name, it.word) for it in view.shifts} == {
        ("moved", "large"), ("plan", "large"), ("calm", "none"),
    }  # fmt: skip
    assert view.sentence.startswith("2 inputs have shifted much from what the model was trained on")
    assert "on 400 results that were read on 2026-03-14" in view.sentence
    assert "1,000 training rows" in view.sentence
    notes = {it.name: it.note for it in view.shifts}
    assert notes == {"moved": "", "calm": "", "plan": "25.0 % are new: team"}


def test_of_a_long_file_the_newest_rows_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "l.csv", 800, by=3.0)
    monkeypatch.setattr(inputs, "ROWS_COMPARED", 400)
    newest, _, calmest = drift_of_file(reference(), path, 800)
    assert (newest.column, newest.rows) == ("moved", 400)
    assert newest.psi > 2
    assert calmest.psi < 0.2


def test_of_few_rows_nothing_is_said(tmp_path: Path) -> None:
    assert drift_of_file(reference(), write(tmp_path / "l.csv", 36, by=3.0), 36) == []
    assert drift_view(None) is None


def test_what_chance_may_bring_about_is_no_shift(tmp_path: Path) -> None:
    found = drift_of_file(reference(), write(tmp_path / "l.csv", 40, by=0.0), 40)
    assert max(it.psi for it in found) > 0.1, "an index of forty rows is rarely near 0"
    view = drift_view({"at": "2026-03-14T02:00", "inputs": [it.as_json() for it in found]})
    assert view is not None
    assert {it.word for it in view.shifts} == {"none"}
    assert view.sentence.startswith("No input has shifted from what the model was trained on")


def test_an_input_that_the_log_has_no_more_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", 400, by=0.0)
    pd.read_csv(path).drop(columns="plan").to_csv(path, index=False)
    found = {drift.column: drift for drift in drift_of_file(reference(), path, 400)}
    assert found["plan"].psi > 2


def test_report_and_markdown_show_it() -> None:
    kept = {"column": "<b>x", "psi": 0.31, "ks": 0.2, "p_value": 0.0, "rows": 300,
            "reference_rows": 900, "noise": 0.1}  # fmt: skip
    drift = {"at": "2026-03-14T02:00:00+00:00", "inputs": [kept]}
    run = make_finished_run(details={"drift": drift})
    page, text = report.as_html(run), report.as_markdown(run)
    assert "&lt;b&gt;x has shifted much" in page
    assert '<meter min="0" max="0.5" low="0.1" high="0.25" optimum="0" value="0.310"' in page
    assert "has shifted much from what the model was trained on" in text
    assert "<b>" not in page.partition("<body>")[2]
