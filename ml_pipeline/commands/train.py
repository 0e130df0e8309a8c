"""Train a base, or fine-tune a model on new rows: `ml-pipeline train`.

A nightly run starts this module as a child process, so that a trainer that crashes, hangs or
asks for too much memory cannot take the run's record with it.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ml_pipeline.commands import common
from ml_pipeline.commands.usage import choices_of
from ml_pipeline.config import defaults
from ml_pipeline.config.sections import BaseAlgorithm, Strategy
from ml_pipeline.config.settings import Settings, load_settings
from ml_pipeline.errors import ConfigError, TrainingError
from ml_pipeline.reports.summary import METRICS
from ml_pipeline.training.parallel import on_cluster
from ml_pipeline.training.request import NamedModel, TrainingRequest
from ml_pipeline.training.trainer import end_with_parent, limit_memory

if TYPE_CHECKING:
    from ml_pipeline.reports.terminal import Part

# Flags that not every strategy has a use for.
CHOICES = ("learning_rate", "epochs", "algorithm", "model_path", "strategy")

EXAMPLES = (
    "train --register",
    "train --dataset rows.csv --algorithm HistGradientBoosting",
    "train --from-log --register",
    "train --fine-tune --dataset new_rows.csv --model-path model.skops",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `train`."""
    common.add_common(parser, *EXAMPLES)
    add = parser.add_argument
    add("--dataset", help="training CSV or Parquet (default: data.training_dataset of the config)")
    add("--output-dir", default="./models", help="folder for the model (default: %(default)s)")
    add(
        "--fine-tune",
        nargs="?",
        const=True,
        default=False,
        type=common.boolean,
        help="learn on top of an existing model (default: false)",
    )
    add("--model-path", help="model to fine-tune (default: the store's champion, else a new base)")
    add("--learning-rate", type=float, help="step of strategy sgd "
        f"(default: {defaults.LEARNING_RATE})")  # fmt: skip
    add("--epochs", type=int, help="most Newton steps, or passes of strategy sgd "
        f"(default: {defaults.FINE_TUNE_EPOCHS})")  # fmt: skip
    add("--random-seed", type=int, help=f"(default: {defaults.RANDOM_STATE})")
    add("--algorithm", metavar="NAME", help=f"base algorithm: {choices_of(BaseAlgorithm)} "
        "(default: LogisticRegression)")  # fmt: skip
    add("--model-id", help="name of the new model (default: made from algorithm and time)")
    add("--from-table", action="store_true", help="train on ground_truth.table of the store")
    add("--from-log", action="store_true", help="train on the results of the store's log")
    add(
        "--register",
        action="store_true",
        help="register the model, judge it beside the champion, promote it by the gate",
    )
    add(
        "--every-days",
        type=int,
        default=0,
        help="with --register: only when the last base registered so is that old (default: 0)",
    )
    add("--strategy", metavar="NAME", help="how new results are learned: "
        f"{choices_of(Strategy)} (default: adaptive)")  # fmt: skip
    add("--cluster", metavar="tcp://HOST:PORT", help="cross-validate on this Dask cluster")
    _add_run_flags(parser)


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    """What a run passes to its trainer; no person does."""

    def add(flag: str, **how: Any) -> None:  # noqa: ANN401 - what argparse takes
        parser.add_argument(flag, help=argparse.SUPPRESS, **how)

    # sha256 that the model at --model-path must have.
    add("--model-digest")
    # The serving model, when it is not the one to fine-tune.
    add("--champion-path")
    add("--champion-digest")
    add("--champion-id")
    add("--memory-limit-mb", type=int)
    # End when standard input ends.
    add("--parent-watch", type=common.boolean, default=False)
    # A run of 0.1.0 that goes on while the package is updated calls it so.
    add("--leash", dest="parent_watch", type=common.boolean, default=argparse.SUPPRESS)
    # The serving model stands on another base than the model to fine-tune.
    add("--other-base", type=common.boolean, default=False)
    # Since which day (counted from the year 1) one of that base serves.
    add("--compared-from", type=int)
    # Every labelled row, when experts are due.
    add("--known")
    # Learn again what the model learned after that day (counted from the year 1).
    add("--restart-night", type=int)
    # A base for the shadow.
    add("--new-base", choices=["fresh", "carried"])
    # The UTC day up to which rows are learned.
    add("--today")


def settings_from(args: argparse.Namespace) -> Settings:
    """Settings of the command, flags last."""
    return load_settings(
        common.path_or_none(args.config),
        flags={
            "training.learning_rate": args.learning_rate,
            "training.epochs": args.epochs,
            "training.random_seed": args.random_seed,
            "training.algorithm": args.algorithm,
            "training.strategy": args.strategy,
        },
    )


def request_from(
    args: argparse.Namespace, settings: Settings, *, now: datetime, new_id: str
) -> TrainingRequest:
    """What the flags ask for. What goes with `--fine-tune` alone is left out without it."""
    algorithm = settings.training.algorithm.lower()
    tunes = bool(args.fine_tune)
    return TrainingRequest(
        dataset=args.dataset or settings.data.training_dataset,
        settings=settings,
        output_dir=Path(args.output_dir),
        model_id=args.model_id or f"{algorithm}_{now:%Y%m%d_%H%M%S}_{new_id[:8]}",
        now=now,
        today=date.fromisoformat(args.today) if args.today else now.date(),
        fine_tune=tunes,
        parent=_named(args.model_path, args.model_digest) if tunes else None,
        champion=_named(args.champion_path, args.champion_digest, args.champion_id)
        if tunes
        else None,
        other_base=tunes and args.other_base,
        compared_from=args.compared_from if tunes else None,
        new_base=args.new_base if tunes else None,
        known=Path(args.known) if tunes and args.known else None,
        restart_night=args.restart_night if tunes else None,
        local=args.local,
        chosen=frozenset(name for name in CHOICES if getattr(args, name) is not None),
    )


def _named(path: str | None, digest: str | None, model_id: str | None = None) -> NamedModel | None:
    if not path:
        return None
    return NamedModel(path=Path(path), digest=digest, model_id=model_id or "")


def run(args: argparse.Namespace, *, now: datetime, new_id: str) -> int:
    """Train, write model, evidence and result, print the result as JSON."""
    if args.parent_watch:
        threading.Thread(target=end_with_parent, daemon=True).start()
    if args.memory_limit_mb:
        limit_memory(args.memory_limit_mb)
    from ml_pipeline.datasets.dataset import LOG

    try:
        settings = settings_from(args)
        named = [bool(args.from_table), bool(args.from_log), bool(args.dataset)]
        if sum(named) > 1:
            raise ConfigError("Give one of --from-table, --from-log and --dataset.")
        request = request_from(args, settings, now=now, new_id=new_id)
        is_log = args.from_log or (not any(named) and request.dataset == LOG)
        if is_log or (args.register and not any(named)):
            from ml_pipeline.commands.train_from_log import rows_of_log

            request = rows_of_log(request, wanted=is_log)
        with on_cluster(args.cluster):
            result = _trained(args, request)
    except MemoryError:
        limit = "the memory limit (training.memory_limit_mb)"
        raise TrainingError(f"Training asked for more memory than {limit} allows.") from None
    common.answer(args, result, lambda: view(result))
    return 0


def _trained(args: argparse.Namespace, request: TrainingRequest) -> dict[str, Any]:
    """Train as the flags say.

    What only the judging needs, values of rows and their outcomes, stays for a parent process
    alone, which keeps it where `erase` finds it.
    """
    from ml_pipeline.registry.trained import forget_rows

    try:
        if not (args.from_table or args.register):
            from ml_pipeline.training.job import train

            result = train(request)
        else:
            from ml_pipeline.evaluation_log.answering.asking import why_a_person_decides
            from ml_pipeline.training.train_and_register import train_with_store

            settings, now = request.settings, request.now
            result = train_with_store(
                request,
                from_table=args.from_table,
                register=args.register,
                every_days=args.every_days,
                ask_first=lambda store: why_a_person_decides(store, settings, now=now),
            )
    finally:
        if not args.parent_watch:
            forget_rows(request.folder)
    if not args.parent_watch:
        result.pop("evidence_path", None)
    return result


def view(result: Mapping[str, Any]) -> Iterator[Part]:
    """What was trained, how good it is, and what became of it."""
    from ml_pipeline.reports import terminal

    if result.get("model_id") is not None:
        rows = result.get("dataset_size")
        yield f"Trained {result['model_id']} ({result.get('algorithm')}) on {rows:,} rows."
    metrics = [
        (name, f"{value:.4f}")
        for name, value in (result.get("metrics") or {}).items()
        if name in METRICS and value is not None
    ]
    if metrics:
        yield terminal.table("On rows held out", ("measure", "value"), metrics, right={"value"})
    if result.get("outcome_reason"):
        yield str(result["outcome_reason"])
    elif result.get("model_path"):
        yield f"Saved as {result['model_path']}"


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main(
        "train",
        __doc__,
        add_arguments,
        lambda args: run(args, now=datetime.now(UTC), new_id=uuid4().hex),
        argv,
    )
