"""Turn into a server that ends when its parent does: `parent_watch.py PARENT USER SIGNAL COMMAND…`.

The kernel sends the signal even when the parent was killed with SIGKILL, so no server outlives
a test run. It counts the death of the *thread* that started us: start servers in the main one.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1


def become(user: str) -> None:
    """Give up root for good."""
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def main(parent: str, user: str, signal: str, *command: str) -> None:
    if user:
        become(user)
    # Changing credentials clears the setting, exec keeps it: this is the only place for it.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal))
    if os.getppid() != int(parent):
        sys.exit("the parent is gone already")
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(*sys.argv[1:])
