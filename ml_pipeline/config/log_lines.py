"""The shape of a line in a log."""

from __future__ import annotations

import logging
import time

from ml_pipeline.printable import printable

LINE = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"


class LineFormatter(logging.Formatter):
    """The seeds' line shape, in UTC; what others wrote is made fit for a terminal."""

    def __init__(self, line: str = LINE) -> None:
        super().__init__(line)
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        """Render the line, and the traceback if there is one."""
        return printable(super().format(record), lines=True)
