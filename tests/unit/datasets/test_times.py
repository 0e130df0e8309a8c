"""Columns of times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from ml_pipeline.config.settings import load_settings
from ml_pipeline.datasets.label_file import read_label_file
from ml_pipeline.datasets.times import parsed_times
from ml_pipeline.evaluation_log.outcomes import read_outcomes

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize("end", ["9999-12-31", "0001-01-01T00:00:00Z", "2300/1/1 CET"])
def test_an_open_end_is_read_beside_nanoseconds(end: str) -> None:
    times = parsed_times(pd.Series(["2026-03-14T15:00:00.123456789Z", end, "no time"]))
    assert times.isna().tolist() == [False, False, True]
    assert times[0] - timedelta(microseconds=123456) == pd.Timestamp("2026-03-14T15:00:00Z")


@pytest.mark.parametrize("blank", ["", "NaT", "nan", "None", " <NA> "])
def test_l12_what_a_program_writes_for_no_time_is_now(tmp_path: Path, blank: str) -> None:
    path, settings = tmp_path / "rows.csv", load_settings()
    path.write_text(f"match_id,actual_result,evaluated_at\n1,H,{blank}\n")
    ((outcome,), _) = read_outcomes(path, settings, NOW)
    assert (outcome.known_at, outcome.is_dated) == (NOW, False)
    path.write_text(f"id,label,created_at\n1,H,{blank}\n")
    ((label,), _) = read_label_file(path, settings, now=NOW, source="me")
    assert label.created_at == NOW
