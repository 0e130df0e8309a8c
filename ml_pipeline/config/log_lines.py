"""The shape of a line in a log."""

from __future__ import annotations

import logging
import time

from ml_pipeline.printable import printable, wrapped

LINE = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"


class LineFormatter(logging.Formatter):
    """The seeds' line shape, in UTC; what others wrote is made fit for a terminal."""

    def __init__(self, line: str = LINE) -> None:
        super().__init__(line)
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        """Render the line, and the traceback if there is one."""
        return printable(super().format(record), lines=True)


class ShortFormatter(logging.Formatter):
    """What a person reads who watches: the time of day in UTC, and the message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s  %(message)s", "%H:%M:%S")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        """Render the line; from warnings on it says how grave it is."""
        shown = printable(super().format(record), lines=True)
        if record.levelno >= logging.WARNING:
            at, _, rest = shown.partition("  ")
            shown = f"{at}  {record.levelname.capitalize()}: {rest}"
        return wrapped(shown, indent=" " * 10)
