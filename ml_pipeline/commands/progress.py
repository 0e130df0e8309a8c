"""What shows on a terminal that a command is at work; in a pipe nothing of the kind."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from ml_pipeline.printable import printable

AFTER_S = 2.0
_waiting: list[Waiting] = []


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int], Callable[[], None]]]:
    """Bars on stderr when a person is watching, unless `--quiet`; nothing in a pipe.

    Yields a function from (name, total) to the function that advances that bar by one.
    """
    if not _waiting:
        yield lambda _name, _total: lambda: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    bars = Progress(console=Console(stderr=True), transient=True, redirect_stdout=False)
    with held(), bars as progress, _log_above_bars():

        def start(name: str, total: int) -> Callable[[], None]:
            task = progress.add_task(escape(printable(name)), total=total)
            return lambda: progress.advance(task)

        yield start


@contextmanager
def waiting(name: str) -> Iterator[None]:
    """Show on stderr that a command is at work, once it has taken over two seconds."""
    shown = Waiting(name)
    _waiting.append(shown)
    shown.begin()
    try:
        yield
    finally:
        _waiting.remove(shown)
        shown.end()


@contextmanager
def held() -> Iterator[None]:
    """Show nothing inside: something else is shown, a person is asked, or nothing is awaited."""
    # Inside of another one there is nothing to hold, and nothing to begin again afterwards.
    held_here = [shown for shown in _waiting if shown.has_begun]
    for shown in held_here:
        shown.end()
    try:
        yield
    finally:
        for shown in held_here:
            shown.begin()


class Waiting:
    """A line with a command's name and the time that has passed; drawn by a thread of its own."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the line is drawn, or will be when two seconds have passed."""
        return self._thread is not None

    def begin(self) -> None:
        """Draw the line when two seconds have passed."""
        self._ended.clear()
        self._thread = threading.Thread(target=self._draw, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Take the line away."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _draw(self) -> None:
        if self._ended.wait(AFTER_S):
            return
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False),
                   TimeElapsedColumn())  # fmt: skip
        with ExitStack() as stack:
            line = Progress(
                *columns, console=Console(stderr=True), transient=True, redirect_stdout=False
            )
            progress = stack.enter_context(line)
            stack.enter_context(_log_above_bars())
            task = progress.add_task(f"{self._name} is working", total=None)
            progress.tasks[task].start_time = progress.get_time() - AFTER_S
            self._ended.wait()


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
