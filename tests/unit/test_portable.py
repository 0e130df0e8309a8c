"""What macOS has not or has otherwise, without a macOS: the calls that would fail there."""

from __future__ import annotations

import fcntl
import os
import resource
from pathlib import Path

import pytest

from ml_pipeline.evaluation_log.event_csv import EventCsv
from ml_pipeline.training.trainer import limit_memory
from tests.support.factories import make_events


def test_a_log_is_brought_to_the_disk_where_there_is_no_fdatasync(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(os, "fdatasync")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", fcntl.F_GETFD, raising=False)
    log = EventCsv(str(tmp_path / "log.csv"))
    rows: list[dict[str, object]] = make_events(1, 3).to_dict("records")  # type: ignore[assignment]
    span = log.append(rows)
    assert (tmp_path / "log.csv").stat().st_size == span[1]


def test_a_limit_that_the_system_does_not_set_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_kind: int, _limits: tuple[int, int]) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    limit_memory(100)
    assert "memory_limit_mb has no effect on this system" in capsys.readouterr().err


def test_a_test_that_reads_proc_is_left_out_on_macos(request: pytest.FixtureRequest) -> None:
    assert "/proc" in Path(__file__).read_text(encoding="utf-8")
    assert request.node.get_closest_marker("linux") is not None


def test_others_are_not(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("linux") is None
