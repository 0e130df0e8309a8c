"""The process that has the imports done and forks one for each who asks: `SOCKET EXECUTABLE`.

It ends with its standard input. Each forked process has a keeper, which tells the caller how it
ended, and ends it when the caller is gone.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to become."""

    argv: list[str]
    cwd: str
    environ: dict[str, str]
    limits: list[tuple[int, list[int]]]
    files: list[int]


def next_wanted(address: str) -> Wanted:
    """Fork for each who asks; return in the forked processes alone."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(100)
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    importlib.import_module("tests.support.warm_imports")
    # What nobody looks at is not copied.
    gc.collect()
    gc.freeze()
    # Keepers are nobody's business once they run.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        ready, _, _ = select.select([0, listening.fileno()], [], [])
        if 0 in ready:
            os._exit(0)
        caller, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            return _keep(caller)
        caller.close()


def _keep(caller: socket.socket) -> Wanted:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, files, _, _ = socket.recv_fds(caller, 1, 3)
    answers = caller.makefile("rw", encoding="ascii")
    wanted: dict[str, Any] = json.loads(answers.readline())
    pid = os.fork()
    if pid == 0:
        answers.close()
        caller.close()
        return Wanted(files=files, **wanted)
    for file in files:
        os.close(file)
    answers.write(f"{pid}\n")
    answers.flush()
    ended = os.pidfd_open(pid)
    if ended not in select.select([caller.fileno(), ended], [], [])[0]:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    answers.write(f"{status}\n")
    answers.flush()
    os._exit(0)


def become(wanted: Wanted, executable: str) -> None:
    """Be as a process that was just started."""
    os.setsid()
    for number, file in enumerate(wanted.files):
        os.dup2(file, number)
        os.close(file)
    for limit, (soft, hard) in wanted.limits:
        if resource.getrlimit(limit) != (soft, hard):
            resource.setrlimit(limit, (soft, hard))
    os.chdir(wanted.cwd)
    os.environ.clear()
    os.environ.update(wanted.environ)
    time.tzset()
    sys.executable = executable
    sys.stdin, sys.stdout, sys.stderr = (
        open(0, closefd=False, encoding="utf-8"),  # noqa: SIM115 - until the end
        open(1, "w", closefd=False, encoding="utf-8"),  # noqa: SIM115
        open(2, "w", closefd=False, encoding="utf-8", errors="backslashreplace", buffering=1),  # noqa: SIM115
    )
    sys.path[0] = wanted.cwd
    sys.argv = ["-m", *wanted.argv[1:]]


def run(module: str) -> None:
    """Run a module and end as the interpreter does, but for the long tidying up of its memory."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = _exit_code(end.code)
    except KeyboardInterrupt:
        traceback.print_exc()
        code = 128 + signal.SIGINT
    except BaseException:  # noqa: BLE001 - whatever it is, it is shown
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _exit_code(value: object) -> int:
    if value is None or isinstance(value, int):
        return int(value or 0)
    sys.stderr.write(f"{value}\n")
    return 1


if __name__ == "__main__":
    found = next_wanted(sys.argv[1])
    become(found, sys.argv[2])
    run(found.argv[0])
