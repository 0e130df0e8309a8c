"""What a warm interpreter does in the place of starting; `tests.support.warm` appends the call.

It asks the server for a process and stands for it: signals go on to it, and it ends as that ends.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys

LIMITS = {getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
HANDED_ON = (signal.SIGTERM, signal.SIGINT)


def start(real: str, address: str, modules: tuple[str, ...], checkout: str) -> None:
    """Be `python …`: warm for `-m` and one of the modules of the checkout, else the real one."""
    is_ours = os.environ.get("PYTHONPATH") == checkout and sys.argv[1:2] == ["-m"]
    if not is_ours or sys.argv[2] not in modules:
        os.execv(real, [real, *sys.argv[1:]])  # noqa: S606
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDED_ON)
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        code = os.waitstatus_to_exitcode(_stand_for(server))
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _stand_for(server: socket.socket) -> int:
    wanted = {
        "argv": sys.argv[2:],
        "cwd": os.getcwd(),  # noqa: PTH109 - pathlib takes time to import
        "environ": dict(os.environ),
        "limits": [(number, resource.getrlimit(number)) for number in LIMITS],
    }
    socket.send_fds(server, [b"."], [0, 1, 2])
    answers = server.makefile("rw", encoding="ascii")
    answers.write(json.dumps(wanted) + "\n")
    answers.flush()
    pid = int(answers.readline())
    for number in HANDED_ON:
        signal.signal(number, lambda number, _frame: os.kill(pid, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDED_ON)
    return int(answers.readline())
