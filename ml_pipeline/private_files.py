"""Files with rows or secrets: for their owner alone, from the moment they are there.

Commands do all their work inside of `for_owner_alone`. What applications call in a process of
their own may not change it for everybody, so it makes its files by the functions here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

FILE, FOLDER = 0o600, 0o700


# The mask that a person's own programs get; the one this process has, until it is changed here.
_KEEP = -1
_persons_mask: list[int] = []


@contextmanager
def for_owner_alone() -> Iterator[None]:
    """Whatever this process makes inside is for its user alone; what is there keeps its mode."""
    before = os.umask(0o077)
    _persons_mask.append(before)
    try:
        yield
    finally:
        _persons_mask.pop()
        os.umask(before)


def mask_of_others() -> int:
    """For `subprocess.Popen`: the mask of a program that is not ours."""
    return _persons_mask[0] if _persons_mask else _KEEP


def make_folder(path: str | os.PathLike[str]) -> None:
    """The folder, and those above it that are missing. Raises OSError."""
    place = os.path.abspath(path)
    if os.path.isdir(place):
        return
    if os.path.dirname(place) != place:
        make_folder(os.path.dirname(place))
    try:
        os.mkdir(place, FOLDER)
    except FileExistsError:
        if not os.path.isdir(place):
            raise


def make_file(path: str | os.PathLike[str]) -> None:
    """An empty file, unless there is one. Raises OSError.

    One that is there is not opened: closing any handle of a file gives up all locks that this
    process has on it (POSIX), also those of an open database.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE))
    except FileExistsError:
        return


def opener(path: str, flags: int) -> int:
    """For `open`: a file that is new is for its owner alone."""
    return os.open(path, flags, FILE)


def keep_access(path: str | os.PathLike[str], file: int) -> None:
    """Give an open file, which is to take the place of another one, its owner, group and mode.

    Else whoever has to write there could not any more, when it was somebody else who wrote it anew.
    """
    old = os.stat(path)
    for owner, group in ((old.st_uid, -1), (-1, old.st_gid)):
        with suppress(OSError):  # another user's file may be replaced, and not be given away
            os.fchown(file, owner, group)
    os.fchmod(file, stat.S_IMODE(old.st_mode))
