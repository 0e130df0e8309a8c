"""Our ways to learn and other people's on the same nights.

`python -m tests.benchmarks.bench_learning --data DIR` predicts every night of every stream from
earlier labels only, and prints a line of JSON for each replay and one table. LightGBM, XGBoost and
river come with `pip install -r tests/benchmarks/requirements.txt`; without `--data` and without
them it measures what is there, and says what is not. `--table FILE …` prints the table of lines
that were measured before. `--only scale` measures single nights that are large or odd.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ml_pipeline.training.parallel import spread
from tests.benchmarks.learning import peers, scale, streams
from tests.benchmarks.learning.replay import LABELS, Case, replayed, started
from tests.benchmarks.learning.table import NAMES, Measured, table

POLICIES = ("frozen", "refit", "adaptive", "experts", *peers.PEERS)
# These neither draw nor start from anything drawn.
WITHOUT_SEED = ("frozen", "refit", "seed", "lightgbm", "xgboost")
QUICK_NIGHTS = 40


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = options.add_argument
    add("--streams", nargs="+", choices=streams.STREAMS, default=streams.STREAMS)
    add("--policies", nargs="+", choices=list(NAMES), default=POLICIES)
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add("--delay-days", nargs="+", type=int, default=[0], help="from an answer to its label")
    add("--labels", nargs="+", choices=list(LABELS), default=["all"], help="which answers get one")
    add("--data", type=Path, metavar="DIR", help="folder of further streams")
    add("--quick", action="store_true", help=f"{QUICK_NIGHTS} nights and the first seed")
    add("--only", choices=["scale"], help="single nights, what they cost and weigh")
    add("--table", nargs="+", type=Path, metavar="FILE", help="files of lines to show")
    add("--night", choices=list(scale.NIGHTS), help=argparse.SUPPRESS)
    return options


def cases(args: argparse.Namespace, stream: str) -> Iterator[Case]:
    """What is measured of a stream, in the order of the table; the frozen base in any case."""
    seeds = args.seeds[:1] if args.quick else args.seeds
    is_made = stream in streams.CONCEPTS
    for seed in seeds if is_made else seeds[:1]:
        yield Case(stream=stream, policy="frozen", seed=seed)
    for delay, labels, policy in itertools.product(args.delay_days, args.labels, args.policies):
        if policy == "frozen" or peers.missing(policy):
            continue
        if policy == "experts" and labels != "all":
            continue
        is_drawn = policy not in WITHOUT_SEED or labels == "tenth" or is_made
        for seed in seeds if is_drawn else seeds[:1]:
            yield Case(stream=stream, policy=policy, seed=seed, delay_days=delay, labels=labels)


def measured(piece: tuple[Case, Path | None, bool]) -> Measured:
    """One replay."""
    case, folder, is_quick = piece
    history = streams.read(case.stream, folder, case.seed)
    if is_quick:
        history = streams.shortened(history, QUICK_NIGHTS)
    return Measured.of(case, *replayed(case, started(history, case.seed)))


def left_out(args: argparse.Namespace) -> Iterator[str]:
    """What is not measured, and why."""
    for name in args.streams:
        if not streams.there_are(name, args.data):
            yield f"{name} is left out: name the folder of its file {name}.csv.gz with --data DIR."
    for name in args.policies:
        package = peers.missing(name)
        if package is not None:
            yield f"{NAMES[name]} is left out: the package {package} is not installed."


def measure(args: argparse.Namespace) -> list[Measured]:
    """Measure stream by stream, and print a line for each replay as it ends."""
    lines = []
    for stream in args.streams:
        if streams.there_are(stream, args.data):
            pieces = [(case, args.data, args.quick) for case in cases(args, stream)]
            for one in spread(measured, pieces):
                print(one.line(), flush=True)
                lines.append(one)
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, or show what was measured."""
    args = parser().parse_args(argv)
    if args.night:
        print(scale.measured(args.night))
        return
    files = args.table or []
    texts = [text for file in files for text in file.read_text(encoding="utf-8").splitlines()]
    if args.only == "scale":
        print(scale.table(map(json.loads, texts) if texts else scale.measured_apart()))
        return
    if texts:
        print(table(map(Measured.read, texts)))
        return
    lines = measure(args)
    print(f"\n{table(lines)}")
    for sentence in left_out(args):
        print(f"\n{sentence}")
    if not lines:
        sys.exit("Nothing was measured.")


if __name__ == "__main__":
    main()
