"""The answers of a frozen classifier, and the same corrected night by night.

`python -m tests.benchmarks.bench_incumbent --data DIR` fits boosting on the initial rows of each
stream, once, and replays the nights: with its probabilities known, with its label and confidence
alone, and with a confidence that is a lie (p³). It prints a line of JSON for each, and a row of the
table in docs/your-model.md. Without `--data` there is weather, which is bundled.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from tests.benchmarks.learning import streams
from tests.support.incumbents import Told, corrected, frozen_answers, told

STREAMS = ("elec2", "weather", "football5", "intl")


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = options.add_argument
    add("--streams", nargs="+", choices=STREAMS, default=STREAMS)
    add("--told", nargs="+", choices=get_args(Told), default=get_args(Told))
    add("--data", type=Path, metavar="DIR", help="folder of further streams")
    add("--nights", type=int, help="so many nights alone (default: all)")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    args = parser().parse_args(argv)
    for name in args.streams:
        if not streams.there_are(name, args.data):
            sys.stderr.write(f"{name} is left out: name the folder of its file with --data DIR.\n")
            continue
        history = streams.read(name, args.data, 0)
        if args.nights is not None:
            history = streams.shortened(history, args.nights)
        shares = frozen_answers(history)
        for what in args.told:
            replays = corrected(history, told(shares, what))
            figures = {key: replay.figures(replays["frozen"]) for key, replay in replays.items()}
            before, after = figures["frozen"], figures["adaptive"]
            print(json.dumps({"stream": name, "told": what} | figures))
            print(
                f"| {name} | {what} | {100 * before['accuracy']:.2f} / {before['log_loss']:.4f} "
                f"| {100 * after['accuracy']:.2f} / {after['log_loss']:.4f} "
                f"| {after['worst_block_points']:.1f} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
