"""What `doctor` says of a log is what a run does with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml_pipeline.commands.checks.examined import Examined
from ml_pipeline.commands.checks.log import evaluation_log
from tests.support.factories import NOW
from tests.support.logs import Desk, make_row, settings_for, write_log


@pytest.mark.parametrize(("unusable", "level"), [(1, "warning"), (2, "fault")])
def test_results_that_a_run_refuses_to_learn_are_a_fault(
    tmp_path: Path, unusable: int, level: str
) -> None:
    desk = Desk(tmp_path)
    rows = [
        make_row(n, features="[1]" if n <= unusable else make_row()["features"])
        for n in range(1, 21)
    ]
    settings = settings_for(write_log(tmp_path / "log.csv", rows), log__max_bad_rows=0.05)
    found = {
        f.name: f for f in evaluation_log(Examined(store=desk.store, settings=settings, now=NOW))
    }
    assert str(found["log_features"].severity) == level, found["log_features"]


def test_what_to_do_about_bad_rows_is_named(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    rows = [make_row(1), make_row(2, confidence="0,9"), make_row(3, evaluated_at="03/04/2026")]
    settings = settings_for(write_log(tmp_path / "log.csv", rows), log__max_bad_rows=0.05)
    found = {
        f.name: f for f in evaluation_log(Examined(store=desk.store, settings=settings, now=NOW))
    }
    assert "decimal point" in str(found["log_rows"])
    assert "03/04/2026 may be two days" in str(found["log_rows"])
