"""Live many lives: `python -m tests.support.lives --seed 1 --lives 200 --processes 2`.

Prints the seeds of the lives in which something did not hold; each is repeated by its seed.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from tests.support.lives.alone import lived

MEMORY = Path("/dev/shm")  # noqa: S108 - each life makes a folder of its own there


def _make_cheap() -> None:
    """For processes begun from now on: files in memory, and one thread for so few rows."""
    if MEMORY.is_dir():
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)
    for library in ("OMP", "OPENBLAS"):
        os.environ[f"{library}_NUM_THREADS"] = "1"


def main() -> int:
    """Live as many lives as was asked for; 1 when something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first life")
    parser.add_argument("--lives", type=int, default=200)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="tell every life's history")
    args = parser.parse_args()
    seeds, begun, failed = range(args.seed, args.seed + args.lives), time.monotonic(), 0
    _make_cheap()
    context = multiprocessing.get_context("spawn")
    with context.Pool(args.processes, logging.disable, (logging.CRITICAL,)) as pool:
        found = pool.imap_unordered(partial(lived, verbose=args.verbose), seeds, chunksize=5)
        for number, fault in enumerate(found, 1):
            if fault:
                failed += 1
                sys.stdout.write(fault + "\n")
            if number % 100 == 0 or number == args.lives:
                took = time.monotonic() - begun
                sys.stdout.write(f"{number} lives, {failed} failed, {took:.0f} s\n")
            sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
