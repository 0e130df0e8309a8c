"""Messages have one shape on stderr and in a run's own file, without what libraries log."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ml_pipeline.config.environment import LoggingSettings
from ml_pipeline.config.log_lines import LineFormatter
from ml_pipeline.errors import DataError
from ml_pipeline.runs.run_log import JsonFormatter, RunLog, configure

# 2025-01-15 14:23:45.123 UTC.
MOMENT = 1736951025.123


@pytest.fixture(autouse=True)
def _loggers_as_they_were() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def _record(message: str = "Trained on %d rows", *values: object) -> logging.LogRecord:
    record = logging.LogRecord("attempt", logging.WARNING, __file__, 1, message, values, None)
    record.created, record.msecs = MOMENT, 123.0
    return record


def test_a_line_has_the_shape_of_the_documents_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "America/New_York")
        time.tzset()
        assert time.localtime(MOMENT).tm_hour == 9
        line = LineFormatter().format(_record("Trained on %d rows", 40))
    time.tzset()
    assert line == "2025-01-15 14:23:45,123 - attempt - WARNING - Trained on 40 rows"


def test_a_json_line_holds_the_same_and_is_one_line() -> None:
    line = JsonFormatter().format(_record("Two\nlines, %s", "ü"))
    assert "\n" not in line
    assert json.loads(line) == {
        "timestamp": "2025-01-15T14:23:45.123Z",
        "logger": "attempt",
        "level": "WARNING",
        "message": "Two\nlines, ü",
    }


def test_a_json_line_brings_the_traceback_along() -> None:
    record = _record("It failed")
    try:
        raise DataError("Empty.")  # noqa: TRY301 - a traceback is what is wanted
    except DataError as error:
        record.exc_info = (DataError, error, error.__traceback__)
    entry = json.loads(JsonFormatter().format(record))
    assert entry["message"] == "It failed"
    assert entry["traceback"].endswith("ml_pipeline.errors.DataError: Empty.")


def test_debugging_does_not_let_the_http_libraries_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(LoggingSettings(level="DEBUG"))
    logging.getLogger("attempt").debug("Shown")
    for name in ("httpx", "httpcore.http11", "hpack", "h2.stream"):
        logging.getLogger(name).debug("apikey: secret")
        logging.getLogger(name).info("apikey: secret")
    shown = capsys.readouterr().err
    assert "attempt - DEBUG - Shown" in shown
    assert "secret" not in shown


def test_a_log_that_is_set_up_twice_writes_every_message_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(LoggingSettings())
    configure(LoggingSettings())
    logging.getLogger("attempt").warning("Once")
    assert capsys.readouterr().err.count("Once") == 1


def test_the_file_of_a_run_gets_the_lines_of_that_run_and_no_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(LoggingSettings())
    log, path = logging.getLogger("attempt"), tmp_path / "run.log"
    log.info("Before")
    with closing(RunLog(path)) as run_log:
        run_log.open()
        log.info("During ü")
        run_log.flush()
        assert path.read_text(encoding="utf-8").endswith(" - attempt - INFO - During ü\n")
    log.info("After")
    assert len(path.read_text(encoding="utf-8").splitlines()) == 1
    assert len(capsys.readouterr().err.splitlines()) == 3
