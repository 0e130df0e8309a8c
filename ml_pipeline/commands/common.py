"""What all commands share: flags, JSON on stdout, messages on stderr, exit codes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress

from ml_pipeline.errors import PipelineError, Stopped
from ml_pipeline.printable import printable
from ml_pipeline.private_files import for_owner_alone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType, TracebackType
    from typing import Any, NoReturn

    from ml_pipeline.store.backup.folder import Manifest

HELP_WIDTH = 100
INTERRUPTED = 130  # 128 and the number of SIGINT: what a shell says of a process that it ended
_STOPPED = "What it had finished stays, nothing is half-written; start it again to go on."
ENVIRONMENT = """environment:
  SUPABASE_URL, SUPABASE_SERVICE_KEY   the Supabase project (alias SUPABASE_SERVICE_ROLE_KEY)
  ML_PIPELINE_LOCAL                    folder of an embedded store, like --local
  LOG_LEVEL, LOG_FORMAT, DEBUG         INFO, text or json, false
  LOG_FILE                             log messages go there as well; rotated
  ML_PIPELINE__SECTION__KEY            any setting of model_config.yaml"""


def add_common(parser: argparse.ArgumentParser) -> None:
    """Flags that every command takes."""
    _add_common(parser, default=None)


def add_action(actions: Any, name: str, text: str) -> argparse.ArgumentParser:  # noqa: ANN401
    """A command's action, which takes the common flags as well: before it or behind it."""
    action: argparse.ArgumentParser = actions.add_parser(name, help=text)
    _add_common(action, default=argparse.SUPPRESS)
    return action


def _add_common(parser: argparse.ArgumentParser, *, default: str | None) -> None:
    parser.add_argument(
        "--config",
        default=default,
        help="settings file (default: ./model_config.yaml, else built-in defaults)",
    )
    parser.add_argument(
        "--local",
        metavar="DIR",
        default=default,
        help="embedded store in this folder (or ML_PIPELINE_LOCAL)",
    )


def path_or_none(text: str | None) -> Path | None:
    """The path, if one was given."""
    from pathlib import Path

    return None if text is None else Path(text)


def boolean(text: str) -> bool:
    """Read true or false from a flag."""
    values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.strip().lower() not in values:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return values[text.strip().lower()]


def with_underscores(argv: list[str]) -> list[str]:
    """Accept `--some-flag` for `--some_flag`."""
    tokens = []
    for token in argv:
        name, equals, value = token.partition("=")
        if name.startswith("--"):
            name = "--" + name[2:].replace("-", "_")
        tokens.append(name + equals + value)
    return tokens


def print_json(result: Mapping[str, Any]) -> None:
    """One object on the last line of stdout; JSON has no NaN, so none gets in."""
    sys.stdout.write(json.dumps(result, allow_nan=False) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A message for people on stderr."""
    sys.stderr.write(printable(text, lines=True) + "\n")


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


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int], Callable[[], None]]]:
    """Bars on stderr when a person is watching, nothing of the kind in a pipe.

    Yields a function from (name, total) to the function that advances that bar by one.
    """
    if not sys.stderr.isatty():
        yield lambda _name, _total: lambda: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress, _log_above_bars():

        def start(name: str, total: int) -> Callable[[], None]:
            task = progress.add_task(escape(printable(name)), total=total)
            return lambda: progress.advance(task)

        yield start


@contextmanager
def _log_above_bars() -> Iterator[None]:
    """Send log messages through the current `sys.stderr`, where a bar makes room for them."""
    import logging

    handlers = [h for h in logging.getLogger().handlers if type(h) is logging.StreamHandler]
    streams = [handler.setStream(sys.stderr) for handler in handlers]
    try:
        yield
    finally:
        for handler, stream in zip(handlers, streams, strict=True):
            if stream is not None:
                handler.setStream(stream)


class Parser(argparse.ArgumentParser):
    """Says of a flag that it does not know its name, and never what stood behind it."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        start, found, rest = message.partition("unrecognized arguments: ")
        if found:
            flags = [word.partition("=")[0] for word in rest.split(" ") if word.startswith("-")]
            more = len(rest.split(" ")) - len(flags)
            message = start + found + ", ".join([*flags, *([f"and {more} more"] if more else [])])
        super().error(printable(without_credentials(message)))


def without_credentials(text: str) -> str:
    """The text without passwords of addresses and connection strings."""
    import re

    text = re.sub(r"(://)[^\s/]*@", r"\1***@", text)
    return re.sub(r"(?i)(password|pwd|key|token|secret)(\s*=\s*)[^\s&]+", r"\1\2***", text)


def parser_for(name: str, description: str | None) -> argparse.ArgumentParser:
    """A parser whose help shows the environment as well."""
    return Parser(
        prog=f"ml-pipeline {name}",
        description=(description or "").strip().splitlines()[0],
        epilog=ENVIRONMENT,
        # Asking for the terminal's width loads compression libraries.
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=HELP_WIDTH),
    )


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
    args = parser.parse_args(with_underscores(sys.argv[1:] if argv is None else argv))
    with nullcontext() if shares_files else for_owner_alone():
        return guarded(lambda: run(args), with_log=with_log)


def guarded(run: Callable[[], int], *, with_log: bool = True) -> int:
    """Run a command; a PipelineError becomes a message, JSON and an exit code over 0.

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

            run_log.configure(load_logging_settings())
        return run()
    except KeyboardInterrupt:
        return _report(Stopped("Stopped by Ctrl-C.", hint=_STOPPED), INTERRUPTED)
    except SystemExit:
        raise
    except BaseException as error:
        if interrupts:
            return _report(Stopped("Stopped by Ctrl-C.", hint=_STOPPED), INTERRUPTED)
        if isinstance(error, PipelineError):
            return _report(error, error.exit_code)
        if isinstance(error, OSError) and error.filename is not None:
            return _report(_about_a_place(error), PipelineError.exit_code)
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


def _report(error: PipelineError, exit_code: int) -> int:
    say(f"{type(error).__name__}: {error.message}")
    if error.hint:
        say(error.hint)
    print_json({"status": "failed", "error": str(error), "error_type": type(error).__name__})
    return exit_code
