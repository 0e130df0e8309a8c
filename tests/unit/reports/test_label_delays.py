"""How late outcomes come, from a file, and in words."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from ml_pipeline.commands.backtest import days_of_log
from ml_pipeline.reports.label_delays import (
    consequence,
    delays_json,
    delays_of_file,
    described,
    is_late,
    sentence,
)
from ml_pipeline.store.alerts import LabelDelays
from tests.support.factories import NOW
from tests.support.logs import Desk, make_row


def test_delays_of_a_log_in_a_file_are_those_of_its_labelled_rows(tmp_path: Path) -> None:
    known = NOW - timedelta(hours=1)
    rows = [
        make_row(
            days, timestamp=(known - timedelta(days=days)).isoformat(),
            evaluated_at=known.isoformat(),
        )
        for days in range(1, 11)
    ]  # fmt: skip
    rows.append(make_row(50, evaluated_at=None))
    found = delays_of_file(Desk(tmp_path).load(rows).labelled_path)
    assert found.rows == 10
    assert found.median == pytest.approx(5)
    assert found.most == pytest.approx(9)


def test_a_file_without_times_of_outcomes_knows_none(tmp_path: Path) -> None:
    loaded = Desk(tmp_path).load([make_row(1, evaluated_at=None)])
    found = delays_of_file(loaded.labelled_path)
    assert found == LabelDelays(rows=0)
    assert described(delays_json(found)) is None
    assert described(None) is None
    assert sentence(found) == "No outcome says how long after its prediction it was known."


def test_what_people_read() -> None:
    soon, late = (
        LabelDelays(rows=10, median=median, most=most) for median, most in ((0.1, 1.0), (9.04, 31))
    )
    assert sentence(soon) == (
        "Half of the outcomes were known within 2 hours of the prediction, nine tenths within "
        "1 day."
    )
    assert (is_late(soon), consequence(soon)) == (False, "")
    assert described(delays_json(late)) == (
        "Half of the outcomes were known within 9 days of the prediction, nine tenths within "
        "31 days. So a change in the world is learned about 9 days after it came, one that goes "
        "again sooner is learned when it is over, and a model that became worse is noticed as late."
    )
    assert not is_late(LabelDelays(rows=1, median=7.0, most=7.0))


def test_backtest_reads_the_delay_of_each_row_of_the_log() -> None:
    known = ["2026-03-14T00:00:00Z", "2026-03-14T23:00:00Z", "2026-03-14T01:00:00Z"]
    made = ["2026-03-13T23:59:00Z", "2026-03-01T00:00:00Z", ""]
    frame = pd.DataFrame({"known_at": known, "predicted_at": made}, index=[7, 8, 9])
    for read, delays in ((frame, [1, 13, 0]), (frame[["known_at"]], [0, 0, 0])):
        days = days_of_log(read)
        assert (days.known - days.predicted).tolist() == delays
