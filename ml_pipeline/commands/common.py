"""What all commands share: results on stdout, messages on stderr, exit codes.

A result is tables and sentences for a person on a terminal, and one JSON object in a pipe.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress

from ml_pipeline.commands.usage import (
    add_action,
    add_actions,
    add_common,
    boolean,
    parsed,
    parser_for,
)
from ml_pipeline.errors import PipelineError, Stopped
from ml_pipeline.printable import printable, wrapped
from ml_pipeline.private_files import for_owner_alone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType, TracebackType
    from typing import Any

    from ml_pipeline.reports.terminal import Part
    from ml_pipeline.store.backup.folder import Manifest

__all__ = [
    "add_action", "add_actions", "add_common", "answer", "backup_json", "boolean", "guarded",
    "is_for_people", "main", "path_or_none", "print_json", "remember_interrupts", "say", "stopped",
]  # fmt: skip

INTERRUPTED = 130  # 128 and the number of SIGINT: what a shell says of a process that it ended
_STOPPED = "What it had finished stays, nothing is half-written; start it again to go on."
_STOPPED_HERE = "Stopped by Ctrl-C: w" + _STOPPED[1:]


def path_or_none(text: str | None) -> Path | None:
    """The path, if one was given."""
    from pathlib import Path

    return None if text is None else Path(text)


def print_json(result: Mapping[str, Any]) -> None:
    """One object on the last line of stdout; JSON has no NaN, so none gets in."""
    sys.stdout.write(json.dumps(result, allow_nan=False) + "\n")
    sys.stdout.flush()


def is_for_people(args: argparse.Namespace) -> bool:
    """Whether the result is read on a terminal, and no JSON was asked for."""
    return not args.json and sys.stdout.isatty()


def answer(
    args: argparse.Namespace,
    result: Mapping[str, Any],
    view: Callable[[], Iterable[Part]] | None = None,
    *,
    remarks: Iterable[str] = (),
) -> None:
    """The result of a command: what `view` shows on a terminal, else JSON on the last line.

    Without a view a terminal shows names and values. Remarks stand above the view; beside JSON they
    go to stderr, unless `--quiet`.
    """
    if is_for_people(args):
        _show(result, view, remarks)
        return
    if not args.quiet:
        for remark in remarks:
            say(remark)
    print_json(result)


def _show(
    result: Mapping[str, Any], view: Callable[[], Iterable[Part]] | None, remarks: Iterable[str]
) -> None:
    from ml_pipeline.commands.progress import held
    from ml_pipeline.reports import terminal

    facts = {name: it for name, it in result.items() if (name, it) != ("status", "completed")}
    shown = [terminal.facts(facts)] if view is None else view()
    with held():
        terminal.show(*remarks, *shown, to=sys.stdout)


def say(text: str) -> None:
    """A message for people on stderr."""
    shown = printable(text, lines=True)
    sys.stderr.write((wrapped(shown) if sys.stderr.isatty() else shown) + "\n")


def backup_json(manifest: Manifest) -> dict[str, Any]:
    """What `backup` and `restore` say of a backup."""
    return {
        "kind": manifest.kind,
        "created_at": manifest.created_at,
        "schema_version": manifest.schema_version,
        "rows": manifest.rows,
        "files": len(manifest.files),
        "bytes": sum(file.size for file in manifest.files),
        "missing": list(manifest.missing),
    }


def main(  # noqa: PLR0913 - what a command consists of
    name: str,
    description: str | None,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    run: Callable[[argparse.Namespace], int],
    argv: list[str] | None,
    *,
    with_log: bool = True,
    shares_files: bool = False,
) -> int:
    """Parse, set up logging, run; a PipelineError becomes a message and its exit code.

    A command that is not `with_log` sets up no logging; its rare warnings go to stderr as they are.
    Files are for their owner alone, unless it `shares_files`.
    """
    parser = parser_for(name, description)
    add_arguments(parser)
    args = parsed(parser, argv)

    def started() -> int:
        with ExitStack() as stack:
            if sys.stderr.isatty() and not args.quiet:
                from ml_pipeline.commands.progress import waiting

                stack.enter_context(waiting(name))
            return run(args)

    with ExitStack() as stack:
        if not shares_files:
            stack.enter_context(for_owner_alone())
        return guarded(
            started, with_log=with_log, is_quiet=args.quiet, for_people=is_for_people(args)
        )


def guarded(
    run: Callable[[], int],
    *,
    with_log: bool = True,
    is_quiet: bool = False,
    for_people: bool = False,
) -> int:
    """Run a command; a PipelineError becomes a message, JSON and an exit code over 0.

    There is no JSON where the result is `for_people`.

    Ctrl-C ends it with one sentence and exit code 130, also where a library made an error of it:
    some do so while they load, and one written in Rust raises what is no Exception.
    """
    interrupts = remember_interrupts()
    # Of a command before this one in the same process, if anything.
    interrupts.clear()
    try:
        if with_log:
            from ml_pipeline.config.environment import load_logging_settings
            from ml_pipeline.runs import run_log

            is_short = for_people and sys.stderr.isatty()
            run_log.configure(load_logging_settings(), is_quiet=is_quiet, is_short=is_short)
        return run()
    except KeyboardInterrupt:
        return stopped(for_people=for_people)
    except SystemExit:
        raise
    except BaseException as error:
        if interrupts:
            return stopped(for_people=for_people)
        if isinstance(error, OSError) and error.filename is not None:
            error = _about_a_place(error)
        if isinstance(error, PipelineError):
            return _report(error, for_people=for_people)
        # A fault of our own may quote what others wrote: its traceback is cleaned as well.
        sys.excepthook = _printable_traceback
        raise


def _printable_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    import traceback

    say("".join(traceback.format_exception(kind, error, trace)).rstrip())


def _about_a_place(error: OSError) -> PipelineError:
    """What the system refused to do with a file or folder, in words."""
    import os
    from pathlib import Path

    return PipelineError(
        f"{Path(os.fsdecode(error.filename)).absolute()}: {error.strerror}.",
        hint="Choose a place that is there, that you may read and write, and that has room.",
    )


_interrupts: list[int] = []


def remember_interrupts() -> list[int]:
    """Note each SIGINT in the list that is returned, and raise KeyboardInterrupt as ever.

    DuckDB, for one, puts an error of its own in the place of what a signal raised. In a thread
    beside the main one, which gets no signals, nothing is changed.
    """
    import signal

    def note(number: int, frame: FrameType | None) -> None:
        _interrupts.append(number)
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        with suppress(ValueError):
            signal.signal(signal.SIGINT, note)
    return _interrupts


def stopped(*, for_people: bool) -> int:
    """Say in one sentence that Ctrl-C ended the command; returns the exit code."""
    say(_STOPPED_HERE)
    if not for_people:
        _print_error(Stopped("Stopped by Ctrl-C.", hint=_STOPPED))
    return INTERRUPTED


def _report(error: PipelineError, *, for_people: bool) -> int:
    say(f"{type(error).__name__}: {error.message}")
    if error.hint:
        say(error.hint)
    if not for_people:
        _print_error(error)
    return error.exit_code


def _print_error(error: PipelineError) -> None:
    print_json({"status": "failed", "error": str(error), "error_type": type(error).__name__})
