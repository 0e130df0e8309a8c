"""A command answers with one JSON object and an exit code, and writes its messages to stderr."""

from __future__ import annotations

import argparse
import json
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ml_pipeline.commands import common, progress, usage
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
    parser.add_argument("--output-dir", default="models")
    parser.add_argument("--fine-tune", type=common.boolean, default=False)


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
        (["--some_long_flag"], ["--some-long-flag"]),
        (["--to=model-a-1"], ["--to=model-a-1"]),
        (["--a_b=c=d_e"], ["--a-b=c=d_e"]),
        (["model-id", "-v", "-1", "--"], ["model-id", "-v", "-1", "--"]),
        ([], []),
    ],
)
def test_only_the_names_of_flags_are_rewritten(given: list[str], read: list[str]) -> None:
    assert usage.with_dashes(given) == read


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
def test_numbers_that_json_lacks_are_not_printed(
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
    with progress.progress_bars() as bars:
        advance = bars("days", 2)
        advance()
        advance()
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")


# --------------------------------------------------------------------------- messages


@pytest.mark.parametrize("form", ["text", "json"])
def test_messages_go_to_stderr_and_the_answer_to_stdout(
    form: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_FORMAT", form)

    def run(_: argparse.Namespace) -> int:
        logging.getLogger("attempt").info("Began")
        logging.getLogger("attempt").debug("Hidden")
        common.print_json({"status": "completed"})
        return 0

    assert _main([], run) == 0
    printed = capsys.readouterr()
    assert printed.out == '{"status": "completed"}\n'
    (line,) = printed.err.splitlines()
    message = json.loads(line)["message"] if form == "json" else line.rsplit(" - ", 1)[1]
    assert message == "Began"


def test_s5_wrong_usage_that_quotes_an_argument_drives_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        _main(["--\x1b]52;c;QUJD\x07\u202e"], lambda _: 0)
    shown = capsys.readouterr().err
    assert "unrecognized arguments" in shown
    assert not {"\x1b", "\x07", "\u202e"} & {*shown}
