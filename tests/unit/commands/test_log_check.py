"""What `doctor` says of a log is what a run does with it."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from ml_pipeline.commands.checks.examined import Examined
from ml_pipeline.commands.checks.log import evaluation_log
from ml_pipeline.config.kind import Kind
from ml_pipeline.datasets.reference import LEVELS, reference_of
from ml_pipeline.store.inputs.cells import level_code
from ml_pipeline.store.records import Lineage
from tests.support.factories import NOW, make_model, make_promotion
from tests.support.logs import Desk, fill_table, make_row, settings_for, write_log


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


@pytest.mark.parametrize("source", ["table", "file"])
@pytest.mark.parametrize(("days", "level"), [(2, "info"), (9, "warning")])
def test_outcomes_that_come_late_are_told_with_what_they_forbid(
    tmp_path: Path, source: str, days: int, level: str
) -> None:
    desk = Desk(tmp_path)
    rows = [
        make_row(
            n,
            timestamp=(NOW - timedelta(days=days, hours=n)).isoformat(),
            evaluated_at=(NOW - timedelta(hours=n)).isoformat(),
        )
        for n in range(1, 21)
    ]
    fill_table(desk.store, rows)
    path = write_log(tmp_path / "log.csv", rows) if source == "file" else "table"
    settings = settings_for(path)
    found = {
        f.name: f for f in evaluation_log(Examined(store=desk.store, settings=settings, now=NOW))
    }
    assert str(found["log_delay"].severity) == level
    assert f"within {days} days of the prediction" in str(found["log_delay"])
    assert ("learned about 9 days after it came" in str(found["log_delay"])) == (days > 7)


@pytest.mark.parametrize(("new", "level"), [(0, "info"), (1, "warning")])
def test_of_a_category_with_too_many_levels_to_list_nobody_says_that_training_knew_them(
    tmp_path: Path, new: int, level: str
) -> None:
    desk = Desk(tmp_path)
    plans = np.asarray([level_code("free"), level_code("paid")])
    kinds = {"plan": Kind.CATEGORY, "shop": Kind.CATEGORY}
    shops = np.arange(LEVELS + 1.0)
    numbers = np.column_stack([np.resize(plans, len(shops)), shops])
    lineage = Lineage(reference=reference_of(numbers, list(kinds), None, kinds))
    desk.store.register(make_model(lineage=lineage))
    desk.store.promote(make_promotion("m-1", None))
    rows = [
        make_row(n, features=json.dumps({"plan": "team" if n <= new else "free", "shop": f"s{n}"}))
        for n in range(1, 21)
    ]
    path = write_log(tmp_path / "log.csv", rows)
    settings = settings_for(path, data__features={name: str(kind) for name, kind in kinds.items()})
    found = {
        f.name: f for f in evaluation_log(Examined(store=desk.store, settings=settings, now=NOW))
    }
    assert str(found["log_levels"].severity) == level
    assert "plan" in found["log_levels"].what
    assert "shop" not in found["log_levels"].what
    assert "every category" not in found["log_levels"].what
