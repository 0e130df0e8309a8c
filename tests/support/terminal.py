"""A command with a person before it: a terminal of 80 columns, and what stands on it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support import warm
from tests.support.shell import TIMEOUT_S, environment

COLUMNS = 80
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a command showed, without colours, and its exit code; a redrawn line is several."""

    code: int
    text: str

    @property
    def lines(self) -> list[str]:
        """The lines on the terminal."""
        return [line.rstrip() for line in re.split(r"[\r\n]+", self.text) if line.strip()]


def run(
    *arguments: str | Path,
    cwd: Path,
    program: str | Path | None = None,
    at_start: Callable[[subprocess.Popen[bytes], str, int], None] | None = None,
    **variables: str,
) -> Seen:
    """Run `ml-pipeline` to its end.

    `at_start` is called with the process, what was shown and the terminal, until it is done.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    command = [str(program or warm.interpreter()), "-m", "ml_pipeline", *map(str, arguments)]
    variables = {"TERM": "xterm-256color", "NO_COLOR": "1"} | variables
    process = subprocess.Popen(
        command, cwd=cwd, env=environment(**variables), stdin=slave, stdout=slave, stderr=slave,
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - the terminal is its own
    )  # fmt: skip
    os.close(slave)
    shown, end = b"", time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        if at_start is not None:
            at_start(process, shown.decode(errors="replace"), master)
        if not select.select([master], [], [], 0.05)[0]:
            if process.poll() is not None:
                break
            continue
        try:
            part = os.read(master, 65_536)
        except OSError:
            break
        if not part:
            break
        shown += part
    process.kill() if time.monotonic() >= end else None
    os.close(master)
    text = _ESCAPES.sub("", shown.decode(errors="replace")).replace("\r\n", "\n")
    return Seen(process.wait(), text)
