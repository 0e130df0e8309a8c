"""A command answers with one JSON object and an exit code, and writes its messages to stderr."""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ml_pipeline.commands import common
from ml_pipeline.config.environment import LoggingSettings
from ml_pipeline.errors import (
    ArtifactCorrupt,
    ConfigError,
    DataError,
    PipelineError,
    PromotionRefused,
    RunInProgress,
    StoreUnavailable,
    TrainingError,
)
from ml_pipeline.runs.run_log import JsonFormatter, LineFormatter, RunLog, configure

# 2025-01-15 14:23:45.123 UTC.
MOMENT = 1736951025.123


@pytest.fixture(autouse=True)
def _loggers_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("LOG_LEVEL", "LOG_FORMAT", "DEBUG"):
        monkeypatch.delenv(name, raising=False)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def _flags(parser: argparse.ArgumentParser) -> None:
    common.add_common(parser)
    parser.add_argument("--output_dir", default="models")
    parser.add_argument("--fine_tune", type=common.boolean, default=False)


def _main(argv: list[str], run: Callable[[argparse.Namespace], int]) -> int:
    return common.main("test", "Do a thing.\n\nMore of it.", _flags, run, argv)


# ------------------------------------------------------------------------------------- flags


def test_flags_may_be_written_with_dashes_or_underscores() -> None:
    seen = []

    def run(args: argparse.Namespace) -> int:
        seen.append((args.output_dir, args.fine_tune, args.local))
        return 0

    assert _main(["--output-dir", "a-b", "--fine-tune=yes", "--local", "my-dir"], run) == 0
    assert _main(["--output_dir=a-b", "--fine_tune", "1", "--local=my-dir"], run) == 0
    assert seen == [("a-b", True, "my-dir")] * 2


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["--some-long-flag"], ["--some_long_flag"]),
        (["--to=model-a-1"], ["--to=model-a-1"]),
        (["--a-b=c=d-e"], ["--a_b=c=d-e"]),
        (["model-id", "-v", "-1", "--"], ["model-id", "-v", "-1", "--"]),
        ([], []),
    ],
)
def test_only_the_names_of_flags_are_rewritten(given: list[str], read: list[str]) -> None:
    assert common.with_underscores(given) == read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[(text, True) for text in ("true", " TRUE ", "1", "yes")],
        *[(text, False) for text in ("false", "0", "No")],
    ],
)
def test_a_flag_is_true_or_false(text: str, value: bool) -> None:  # noqa: FBT001 - a case
    assert common.boolean(text) is value


def test_a_flag_that_is_neither_is_refused() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="'maybe' is neither true nor false"):
        common.boolean("maybe")


def test_an_unknown_flag_is_a_fault_of_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        _main(["--speed", "9"], lambda _: 0)
    assert stopped.value.code == 2
    assert "--speed" in capsys.readouterr().err


def test_help_names_the_command_and_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        _main(["--help"], lambda _: 0)
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: ml-pipeline test")
    assert "Do a thing." in shown
    assert "More of it." not in shown
    for name in ("SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY", "ML_PIPELINE_LOCAL", "LOG_FORMAT"):
        assert name in shown


def test_a_path_that_was_not_given_is_none() -> None:
    assert common.path_or_none(None) is None
    assert common.path_or_none("a/b") == Path("a/b")


# ----------------------------------------------------------------------------------- answers


@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_exit_code_is_what_the_command_returns(code: int) -> None:
    assert _main([], lambda _: code) == code


def test_an_answer_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    common.print_json({"text": "two\nlines and ü", "loss": 0.1 + 0.2, "none": None})
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert json.loads(printed) == {"text": "two\nlines and ü", "loss": 0.1 + 0.2, "none": None}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_json_has_no_word_for_is_not_printed(
    number: float, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        common.print_json({"metrics": {"loss": number}})
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "kind",
    [
        ArtifactCorrupt,
        ConfigError,
        DataError,
        PipelineError,
        PromotionRefused,
        RunInProgress,
        TrainingError,
    ],
)
def test_a_fault_is_a_message_a_json_object_and_exit_code_one(
    kind: type[PipelineError], capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_: argparse.Namespace) -> int:
        raise kind("The rows are wrong.", hint="Repair them.")

    assert _main([], run) == 1
    printed = capsys.readouterr()
    assert printed.err == f"{kind.__name__}: The rows are wrong.\nRepair them.\n"
    assert json.loads(printed.out) == {
        "status": "failed",
        "error": "The rows are wrong. Repair them.",
        "error_type": kind.__name__,
    }


def test_a_fault_without_a_hint_has_its_kinds_own_or_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(error: PipelineError) -> Callable[[argparse.Namespace], int]:
        def failing(_: argparse.Namespace) -> int:
            raise error

        return failing

    _main([], run(DataError("Empty.")))
    assert capsys.readouterr().err == "DataError: Empty.\n"
    _main([], run(StoreUnavailable("No answer.")))
    assert capsys.readouterr().err.splitlines()[1] == ("Try again later; nothing was half-written.")


def test_settings_of_the_log_that_cannot_be_are_a_fault_as_well(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_FORMAT", "xml")
    assert _main([], lambda _: 0) == 1
    assert json.loads(capsys.readouterr().out)["error_type"] == "ConfigError"


def test_nothing_is_drawn_when_nobody_is_watching(capsys: pytest.CaptureFixture[str]) -> None:
    with common.progress_bars() as bars:
        advance = bars("nights", 2)
        advance()
        advance()
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")


# --------------------------------------------------------------------------- messages


def _record(message: str = "Trained on %d rows", *values: object) -> logging.LogRecord:
    record = logging.LogRecord("night", logging.WARNING, __file__, 1, message, values, None)
    record.created, record.msecs = MOMENT, 123.0
    return record


def test_a_line_has_the_shape_of_the_documents_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "America/New_York")
        time.tzset()
        assert time.localtime(MOMENT).tm_hour == 9
        line = LineFormatter().format(_record("Trained on %d rows", 40))
    time.tzset()
    assert line == "2025-01-15 14:23:45,123 - night - WARNING - Trained on 40 rows"


def test_a_json_line_holds_the_same_and_is_one_line() -> None:
    line = JsonFormatter().format(_record("Two\nlines, %s", "ü"))
    assert "\n" not in line
    assert json.loads(line) == {
        "timestamp": "2025-01-15T14:23:45.123Z",
        "logger": "night",
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


@pytest.mark.parametrize("form", ["text", "json"])
def test_messages_go_to_stderr_and_the_answer_to_stdout(
    form: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_FORMAT", form)

    def run(_: argparse.Namespace) -> int:
        logging.getLogger("night").info("Began")
        logging.getLogger("night").debug("Not told")
        common.print_json({"status": "completed"})
        return 0

    assert _main([], run) == 0
    printed = capsys.readouterr()
    assert printed.out == '{"status": "completed"}\n'
    (line,) = printed.err.splitlines()
    told = json.loads(line)["message"] if form == "json" else line.rsplit(" - ", 1)[1]
    assert told == "Began"


def test_debugging_does_not_make_the_http_libraries_talk(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(LoggingSettings(level="DEBUG"))
    logging.getLogger("night").debug("Told")
    for name in ("httpx", "httpcore.http11", "hpack", "h2.stream"):
        logging.getLogger(name).debug("apikey: secret")
        logging.getLogger(name).info("apikey: secret")
    shown = capsys.readouterr().err
    assert "night - DEBUG - Told" in shown
    assert "secret" not in shown


def test_setting_the_log_up_twice_tells_everything_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(LoggingSettings())
    configure(LoggingSettings())
    logging.getLogger("night").warning("Once")
    assert capsys.readouterr().err.count("Once") == 1


def test_the_file_of_a_run_gets_the_lines_of_that_run_and_no_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(LoggingSettings())
    log, path = logging.getLogger("night"), tmp_path / "run.log"
    log.info("Before")
    with closing(RunLog(path)) as run_log:
        run_log.open()
        log.info("During ü")
        run_log.flush()
        assert path.read_text(encoding="utf-8").endswith(" - night - INFO - During ü\n")
    log.info("After")
    assert len(path.read_text(encoding="utf-8").splitlines()) == 1
    assert len(capsys.readouterr().err.splitlines()) == 3
