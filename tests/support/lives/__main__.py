"""Live many lives: `python -m tests.support.lives --seed 1 --lives 200 --processes 2`.

Prints the seeds of the lives in which something did not hold; each is repeated by its seed.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import shutil
import sys
import tempfile
import time
import traceback
from functools import partial
from pathlib import Path

from tests.support.lives.life import Life
from tests.support.lives.place import Site


def lived(seed: int, *, verbose: bool = False) -> str:
    """Live a life in a folder of its own; what did not hold, or nothing."""
    folder = Path(tempfile.mkdtemp(prefix=f"life-{seed}-"))
    life: Life | None = None
    try:
        life = Life.born(seed, Site.embedded(folder))
        life.live()
    except Exception:  # noqa: BLE001 - whatever it is, it is shown with its seed
        history = [] if life is None else life.history
        return "\n".join([f"seed {seed}", *history, traceback.format_exc()])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if verbose:
        sys.stdout.write("\n".join(life.history) + "\n")
    return ""


def main() -> int:
    """Live as many lives as was asked for; 1 when something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first life")
    parser.add_argument("--lives", type=int, default=200)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="tell every life's history")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    seeds, begun, failed = range(args.seed, args.seed + args.lives), time.monotonic(), 0
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        found = pool.imap_unordered(partial(lived, verbose=args.verbose), seeds, chunksize=5)
        for number, fault in enumerate(found, 1):
            if fault:
                failed += 1
                sys.stdout.write(fault + "\n")
            if number % 500 == 0 or number == args.lives:
                took = time.monotonic() - begun
                sys.stdout.write(f"{number} lives, {failed} failed, {took:.0f} s\n")
            sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
