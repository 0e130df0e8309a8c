"""What a person meets on a terminal: tables, help, suggestions, progress, Ctrl-C."""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import re
import shlex
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ml_pipeline.cli import COMMANDS
from ml_pipeline.cli import main as cli_main
from ml_pipeline.commands import common, progress
from ml_pipeline.commands.completion import actions_of, whole
from tests.conftest import FirstModel
from tests.support import league, shell, terminal, warm
from tests.support.build_reference import every, parser_of
from tests.support.shell import PYTHON

BASH = shutil.which("bash") or "bash"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, first_model: FirstModel) -> Path:
    """A store whose champion was wrong on three nights, and that a run has promoted another in."""
    folder = tmp_path_factory.mktemp("terminal")
    nights = league.nights_before(datetime.now(UTC), 3)
    league.open_league(folder / "store", first_model.path, first_model.model, nights).close()
    return folder


@pytest.fixture(scope="module")
def learned(store: Path) -> Path:
    """The same, after a run that was seen on a terminal."""
    seen = terminal.run("run", "--local", "store", cwd=store)
    assert seen.code == 0, seen.text
    (store / "seen.txt").write_text(seen.text)
    return store


def fits(seen: terminal.Seen) -> bool:
    return max(map(len, seen.lines)) <= terminal.COLUMNS


def test_u1_a_run_shows_tables_and_its_sentence_in_80_columns(learned: Path) -> None:
    seen = terminal.Seen(0, (learned / "seen.txt").read_text())
    assert fits(seen)
    assert "Both models on the same new results" in seen.text
    assert "Promoted: " in seen.text
    assert "Now loading the evaluation log" in seen.text
    assert not [line for line in seen.lines if line.startswith("{")]
    assert " - INFO - " not in seen.text


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("status", ["Latest runs", "promoted", "Promoted: ", "Champion of default: "]),
        ("runs list", ["promoted", "right", "Promoted: "]),
        ("models list", [league.FIRST_MODEL, "champion", "retired", "accuracy"]),
        pytest.param(
            f"models show {league.FIRST_MODEL}",
            ["model id", "retired", "artifact path"],
            marks=pytest.mark.long,
        ),
        pytest.param("requests list", ["The queue is empty."], marks=pytest.mark.long),
        pytest.param("doctor --quick", ["settings", "fault"], marks=pytest.mark.long),
        ("decay", ["results"]),
        pytest.param("decay --quick", ["results"], marks=pytest.mark.long),
        ("predict --predict 1.8 1.2 0.4 0.6 0.1 --no-log", ["% sure", "Answered by"]),
        pytest.param("predict --info", ["model id"], marks=pytest.mark.long),
        pytest.param(
            "reconcile", ["The CSV log and the table", "missing in table"], marks=pytest.mark.long
        ),
        pytest.param("analyse", ["results", "chance"], marks=pytest.mark.long),
        pytest.param("report", ["reports/"], marks=pytest.mark.long),
        pytest.param("models prune --keep 1", ["dry run"], marks=pytest.mark.long),
        pytest.param(
            "export rows --output rows.csv",
            ["labelled rows stand in rows.csv"],
            marks=pytest.mark.long,
        ),
    ],
)
def test_u1_what_a_person_sees_is_no_json_and_fits_80_columns(
    learned: Path, command: str, words: list[str]
) -> None:
    seen = terminal.run(*command.split(), "--local", "store", cwd=learned)
    assert seen.code == 0, seen.text
    assert not [line for line in seen.lines if line.startswith(("{", '"'))]
    assert fits(seen), seen.text
    for text in words:
        assert text in seen.text, seen.text


def test_u1_json_on_a_terminal_is_that_of_a_pipe(learned: Path) -> None:
    words = ("models", "list", "--local", "store")
    piped = warm.ml_pipeline(*words, cwd=learned)
    assert terminal.run(*words, "--json", cwd=learned).text == piped.stdout
    assert json.loads(piped.stdout)["models"]


def test_u1_a_quiet_command_shows_its_result_and_what_went_wrong_alone(learned: Path) -> None:
    words = ("run", "--local", "store", "--dry-run", "--min-errors", "100000", "--quiet")
    piped = warm.ml_pipeline(*words, cwd=learned)
    assert (piped.stderr, piped.json["outcome"]) == ("", "skipped_insufficient_errors")
    seen = terminal.run("decay", "--quick", "--quiet", "--local", "store", cwd=learned)
    assert (len(seen.lines), seen.code) == (1, 0), seen.text
    checked = warm.ml_pipeline("doctor", "--quick", "--quiet", "--local", "store", cwd=learned)
    assert checked.json["status"] == "healthy"
    assert not [line for line in checked.stderr.splitlines() if line.startswith("ok ")]
    failed = warm.ml_pipeline("models", "show", "none", "--local", "store", "--quiet", cwd=learned)
    assert failed.code == 1
    assert "none" in failed.stderr


def test_u1_a_fault_on_a_terminal_is_its_sentence_without_json(learned: Path) -> None:
    seen = terminal.run("models", "show", "none", "--local", "store", cwd=learned)
    assert seen.code == 1
    assert not [line for line in seen.lines if line.startswith("{")]
    assert seen.text.startswith("NotFound: ")


# --------------------------------------------------------------------------- help and usage


@pytest.mark.parametrize("name", COMMANDS)
def test_u2_every_help_shows_examples_that_are_right_usage_and_flags_with_dashes(
    name: str,
) -> None:
    for parser in every(parser_of(name)):
        text = parser.format_help()
        assert max(map(len, text.splitlines())) <= terminal.COLUMNS, text
        examples = re.findall(
            r"^  ml-pipeline (.+)$", text.partition("examples:\n")[2], re.MULTILINE
        )
        assert examples, parser.prog
        for example in examples:
            first, *words = shlex.split(re.split(r" (?:\||>+) ", example)[0])
            assert first == name
            parser_of(name).parse_args(words)
        assert not re.findall(r"(?<!\w)--\w+_\w+", text)
        assert not {"--parent-watch", "--leash", "--champion-path"} & {*text.split()}
        assert "==SUPPRESS==" not in text


def test_u2_choices_are_listed_in_the_help() -> None:
    listed = {
        "train": ("adaptive, sgd, refit or errors_only", "HistGradientBoosting"),
        "run": ("auto_daily,manual,decay_triggered", "adaptive, sgd, refit or errors_only"),
        "backtest": ("frozen, seed, refit, adaptive", "HistGradientBoosting"),
        "completion": ("bash,zsh",),
    }
    for name, words in listed.items():
        text = "".join(parser_of(name).format_help().split())
        for one in words:
            assert "".join(one.split()) in text, name


def code_of(*words: str) -> object:
    """The exit code of the program in this process."""
    try:
        return cli_main([*words])
    except SystemExit as ended:
        return ended.code


def test_u2_help_of_a_command_is_its_help_and_alone_the_list(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def shown(*words: str) -> str:
        assert code_of(*words) == 0
        return capsys.readouterr().out

    assert shown("help") == shown("--help")
    assert shown("help", "models", "promote") == shown("models", "promote", "--help")
    assert "ml-pipeline models promote MODEL_ID" in shown("help", "models", "promote")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("statsu", "status"),
        ("STATUS", "status"),
        ("hepl", "help"),
        ("help statsu", "status"),
        ("models lst", "list"),
        ("models promot x", "promote"),
        ("run --lookbak-days 3", "--lookback-days"),
        ("run --lookbak_days=3", "--lookback-days"),
        ("models list --jsno", "--json"),
        ("run --source manul", "manual"),
        ("requests submit --priority hihg", "high"),
        ("completion bsh", "bash"),
    ],
)
def test_u2_a_slip_is_answered_with_what_was_meant(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = code_of(*typed.split())
    printed = capsys.readouterr()
    assert (code, printed.out) == (2, "")
    assert f"Did you mean {meant}?" in printed.err


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("train --strategy adaptve", "adaptive"),
        ("train --algorithm logisticregresion", "LogisticRegression"),
        ("backtest --csv none.csv --policies adaptve", "adaptive"),
    ],
)
def test_u2_a_slip_in_a_setting_too(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli_main(typed.split()) == 1
    assert f"Did you mean {meant}?" in capsys.readouterr().err


def test_u2_a_slip_in_the_name_of_a_setting_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text("run:\n  lookback_day: 3\n")
    assert cli_main(["status", "--config", str(tmp_path / "c.yaml")]) == 1
    assert "no such setting. Did you mean run.lookback_days?" in capsys.readouterr().err


def test_u2_what_is_like_nothing_gets_no_guess(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli_main(["zzz"]) == 2
    shown = capsys.readouterr().err
    assert "Did you mean" not in shown
    assert "`ml-pipeline help` lists the commands." in shown


# --------------------------------------------------------------------------- completion


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_u2_the_completion_knows_every_command_action_and_flag(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli_main(["completion", shell]) == 0
    script = capsys.readouterr().out
    shown = {
        flag
        for action in actions_of(whole())
        if action.help is not argparse.SUPPRESS
        for flag in action.option_strings
    }
    assert {"--lookback-days", "--with-artifacts", "--json"} <= shown
    for word in {*COMMANDS, *shown, "promote", "decay_triggered"}:
        assert word in script, word
    assert "--parent-watch" not in script


def test_u2_bash_completes_a_command_and_a_flag(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli_main(["completion", "bash"]) == 0
    (tmp_path / "c.bash").write_text(capsys.readouterr().out)
    ask = """
    . ./c.bash
    complete_ml() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
      $(complete -p ml-pipeline | sed 's/.*-F \\([^ ]*\\) .*/\\1/'); echo "${COMPREPLY[@]}"; }
    complete_ml ml-pipeline sta
    complete_ml ml-pipeline models pro
    complete_ml ml-pipeline run --lookb
    """
    done = shell.run([BASH, "-c", ask], cwd=tmp_path)
    assert done.stdout.split() == ["status", "promote", "--lookback-days"]


# --------------------------------------------------------------------------- progress


class Watched(io.StringIO):
    """Standard error with a person before it."""

    def isatty(self) -> bool:
        return True


def watched_by_a_person(monkeypatch: pytest.MonkeyPatch) -> Watched:
    screen = Watched()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    # Of a command before this one, whose streams are closed.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    return screen


def flags(parser: argparse.ArgumentParser) -> None:
    common.add_common(parser)


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_u2_what_takes_over_two_seconds_shows_that_it_is_at_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    watched = watched_by_a_person(monkeypatch)
    monkeypatch.setattr(progress, "AFTER_S", 0.01)

    def run(_: argparse.Namespace) -> int:
        until(lambda: "test is working" in watched.getvalue())
        # Where the result goes to a file it must not end up above the line.
        common.print_json({"status": "completed"})
        with progress.held():
            begun = len(watched.getvalue())
            time.sleep(0.1)
            assert "is working" not in watched.getvalue()[begun:]
        return 0

    assert common.main("test", "It.", flags, run, [], with_log=False) == 0
    assert capsys.readouterr().out == '{"status": "completed"}\n'


def test_u2_an_answer_of_a_command_that_awaits_nothing_does_not_show_it_at_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As `decay --watch` and `worker` answer, once a check and a job."""
    watched = watched_by_a_person(monkeypatch)
    monkeypatch.setattr("sys.stdout", Watched())
    monkeypatch.setattr(progress, "AFTER_S", 0.01)

    def run(args: argparse.Namespace) -> int:
        with progress.held():
            begun = len(watched.getvalue())
            common.answer(args, {"status": "completed"}, lambda: ["Checked."])
            time.sleep(0.1)
            assert "is working" not in watched.getvalue()[begun:]
        until(lambda: "is working" in watched.getvalue())
        return 0

    assert common.main("test", "It.", flags, run, [], with_log=False) == 0


def test_u2_a_quick_or_quiet_command_shows_nothing_of_the_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = watched_by_a_person(monkeypatch)
    assert common.main("test", "It.", flags, lambda _: 0, [], with_log=False) == 0
    monkeypatch.setattr(progress, "AFTER_S", 0.01)

    def run(_: argparse.Namespace) -> int:
        with progress.progress_bars() as bars:
            bars("rows", 2)()
        time.sleep(0.1)
        return 0

    assert common.main("test", "It.", flags, run, ["--quiet"], with_log=False) == 0
    assert watched.getvalue() == ""


# --------------------------------------------------------------------------- Ctrl-C

ENDLESS = {
    "monitor --port 0": "Ctrl-C ends it.",
    "serve --port 0": "Ctrl-C ends it.",
    "worker": "",
    "decay --watch": "result",
}
# A cold prediction is done before anybody can press a key: it waits where it loads this.
HELD = "ml_pipeline.serving.engine"
# What starts the tests may ignore Ctrl-C, and its children inherit that.
STARTED = f"""
import signal, sys, time, ml_pipeline.cli as c
signal.signal(signal.SIGINT, signal.default_int_handler)
class Held:
    def find_spec(self, name, *_):
        if name == "{HELD}":
            print("up", flush=True)
            time.sleep(60)
if sys.argv[3] == "predict":
    sys.meta_path.insert(0, Held())
else:
    print("up", flush=True)
sys.exit(c.main(sys.argv[3:]))
"""


def interrupted(command: str, folder: Path, *, when: str) -> terminal.Seen:
    """What a command showed that got Ctrl-C once those words were there."""
    sent: list[float] = []

    def press(_: object, shown: str, master: int) -> None:
        if when in shown and not sent:
            time.sleep(0.05)  # It loads its libraries: no command is done so soon.
            os.write(master, b"\x03")
            sent.append(time.monotonic())

    program = folder / "python"
    program.write_text(f'#!/bin/sh\nexec "{PYTHON}" -c \'{STARTED}\' "$@"\n')
    program.chmod(0o755)
    return terminal.run(
        *command.split(), "--local", "store", cwd=folder, program=program, at_start=press
    )


def assert_is_one_sentence(seen: terminal.Seen) -> None:
    assert seen.code == 130, seen.text
    assert "Traceback" not in seen.text
    last = seen.text.rpartition("^C")[2]
    assert last.count("Stopped by ") == 1, seen.text
    assert "{" not in last


@pytest.mark.parametrize("command", ["train"])
def test_u2_ctrl_c_on_a_terminal_is_one_sentence_and_exit_code_130(
    command: str, tmp_path: Path
) -> None:
    seen = interrupted(command, tmp_path, when=ENDLESS.get(command, "up"))
    assert_is_one_sentence(seen)


@pytest.mark.long
@pytest.mark.parametrize(
    "command",
    [*(name for name in COMMANDS if name not in {"monitor", "serve", "worker"}), *ENDLESS],
)
def test_u2_ctrl_c_ends_every_command_so(command: str, tmp_path: Path) -> None:
    parser = parser_of(command.split(maxsplit=1)[0])
    examples = re.findall(r"^  ml-pipeline (.+)$", parser.format_help(), re.MULTILINE)
    words = command if " " in command else re.split(r" (?:\||>+) ", examples[0])[0]
    words = re.sub(r" --local \S+| --demo", "", words).replace('"', "")
    seen = interrupted(words, tmp_path, when=ENDLESS.get(command, "up"))
    assert_is_one_sentence(seen)
