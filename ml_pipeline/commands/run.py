"""One run of the loop, from trigger to recorded outcome: `ml-pipeline run`."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from ml_pipeline.commands import common
from ml_pipeline.commands.progress import progress_bars
from ml_pipeline.commands.usage import choices_of
from ml_pipeline.config import defaults
from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.config.sections import Strategy
from ml_pipeline.config.settings import load_settings, work_dir
from ml_pipeline.errors import RunInProgress
from ml_pipeline.reports import summary
from ml_pipeline.runs import recording
from ml_pipeline.runs.attempt import STAGES
from ml_pipeline.runs.recording import Clock, Failed, Order
from ml_pipeline.runs.stopping import Stop
from ml_pipeline.store.records import Source

log = logging.getLogger("auto_reinforcement")

EXAMPLES = (
    "run --local ml_store",
    "run --lookback-days 14 --min-errors 5",
    "run --dry-run --json",
    "run --demo",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `run`."""
    common.add_common(parser, *EXAMPLES)
    add = parser.add_argument
    add("--lookback-days", type=float, help="days to look back for errors "
        f"(default: {defaults.DEFAULT_LOOKBACK_DAYS})")  # fmt: skip
    add("--confidence-threshold", type=float, help="errors are wrong with more confidence "
        f"(default: {defaults.ERROR_CONFIDENCE_THRESHOLD})")  # fmt: skip
    add("--min-errors", type=int, help="errors that trigger training "
        f"(default: {defaults.MIN_ERROR_SAMPLES_FOR_RETRAINING})")  # fmt: skip
    add("--source", choices=[str(s) for s in Source], help="what started the run "
        "(default: manual when a request waits, else auto_daily)")  # fmt: skip
    add("--request-id", help="serve this request first")
    add("--strategy", metavar="NAME", help="how new results are learned: "
        f"{choices_of(Strategy)} (default: adaptive)")  # fmt: skip
    add("--dry-run", action="store_true", help="do everything but write to the store")
    add("--demo", action="store_true", help="show the loop on bundled real football results")


def run(args: argparse.Namespace, *, clock: Clock, new_id: Callable[[], str]) -> int:
    """Do one run and print its JSON; exit code 1 only when it failed."""
    if args.demo:
        from ml_pipeline.commands.demo import run_demo

        return run_demo(args, new_id=new_id)
    from ml_pipeline.store.opening import open_store

    settings = load_settings(
        common.path_or_none(args.config),
        flags={
            "run.lookback_days": args.lookback_days,
            "run.confidence_threshold": args.confidence_threshold,
            "run.min_error_samples": args.min_errors,
            "training.strategy": args.strategy,
        },
    )
    store_settings = load_store_settings(args.local)
    store = open_store(store_settings)
    stop = Stop()
    order = Order(
        settings=settings,
        work_dir=work_dir(settings, store_settings.local_dir),
        source=Source(args.source) if args.source else None,
        request_id=args.request_id,
        dry_run=args.dry_run,
        stop=stop,
        clock=clock,
        new_id=new_id,
    )
    try:
        with stop.on_signals(), progress_bars() as bars:
            outcome = recording.run(store, replace(order, on_stage=bars("run", STAGES)))
    except RunInProgress as busy:
        log.warning("%s", busy)
        common.answer(
            args,
            {"status": "running", "outcome": None, "outcome_reason": str(busy)},
            lambda: ["Nothing was started."],
        )
        return 1 if settings.run.when_busy == "fail" else 0
    finally:
        store.close()
    target = settings.data.target
    common.answer(args, dict(outcome.result), lambda: summary.view(outcome.result, target=target))
    if isinstance(outcome, Failed):
        return common.INTERRUPTED if stop.was_interrupted else 1
    return 0


def run_auto_reinforcement(
    lookback_days: float | None = None,
    source: str = "auto_daily",
    request_id: str | None = None,
) -> bool:
    """Run the loop once with the environment's store; True unless the run failed."""
    from ml_pipeline.store.opening import open_store

    settings = load_settings(flags={"run.lookback_days": lookback_days})
    store_settings = load_store_settings()
    store = open_store(store_settings)
    try:
        order = Order(
            settings=settings,
            work_dir=work_dir(settings, store_settings.local_dir),
            source=Source(source),
            request_id=request_id,
        )
        return not isinstance(recording.run(store, order), Failed)
    finally:
        store.close()


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main(
        "run",
        __doc__,
        add_arguments,
        lambda args: run(args, clock=lambda: datetime.now(UTC), new_id=lambda: str(uuid4())),
        argv,
    )
