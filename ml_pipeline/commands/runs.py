"""What runs came to: list them, show one."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ml_pipeline.commands import common
from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.config.settings import load_settings
from ml_pipeline.errors import InputError, NotFound
from ml_pipeline.store.contract import Store
from ml_pipeline.store.json_values import run_json, took_seconds
from ml_pipeline.store.records import Outcome, RetrainingRun

if TYPE_CHECKING:
    from ml_pipeline.reports.terminal import Part

LISTED: Final = 20
# Among so many of the latest a run is found by the beginning of its id.
SEARCHED: Final = 1000
# What a list reads of the details, which are the largest part of a run: nothing.
_NONE: Final = ("report_path",)
_SHORT: Final = 8
_WHOLE: Final = 36
RUN_ID: Final = "its id, or the beginning of it"
EXAMPLES = ("runs list", "runs show 1f0c7a52")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `runs`."""
    common.add_common(parser, *EXAMPLES)
    actions = common.add_actions(parser)
    listing = common.add_action(
        actions, "list", "the latest runs, newest first", "runs list --limit 50 --outcome promoted"
    )
    add = listing.add_argument
    add("--limit", type=_count, default=LISTED, help="how many (default: %(default)s)")
    add(
        "--outcome",
        metavar="OUTCOME",
        choices=[str(outcome) for outcome in Outcome],
        help="%(choices)s (default: all)",
    )
    show = common.add_action(actions, "show", "one run", "runs show 1f0c7a52")
    show.add_argument("run_id", help=f"which one: {RUN_ID}")


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= SEARCHED:
        raise argparse.ArgumentTypeError(f"{text!r} is no count from 1 to {SEARCHED}")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """List or show."""
    from ml_pipeline.store.opening import open_store

    settings = load_settings(common.path_or_none(args.config))
    store = open_store(load_store_settings(args.local))
    try:
        if args.action == "list":
            runs = _listed(store, settings.model_name, args.limit, args.outcome)
            result = {"runs": [run_json(one, with_details=False) for one in runs]}
            common.answer(args, result, lambda: listed(runs))
        else:
            found = run_of(store, settings.model_name, args.run_id)
            common.answer(args, run_json(found), lambda: shown(found))
    finally:
        store.close()
    return 0


def _listed(store: Store, name: str, limit: int, outcome: str | None) -> list[RetrainingRun]:
    searched = limit if outcome is None else SEARCHED
    runs = store.list_runs(model_name=name, limit=searched, only=_NONE)
    return [it for it in runs if outcome is None or it.outcome == outcome][:limit]


def run_of(store: Store, name: str, text: str) -> RetrainingRun:
    """The run of that id, or of the model of that `name` whose id alone begins so.

    Raises NotFound, and InputError where several begin so.
    """
    text = text.lower()
    if len(text) >= _WHOLE:
        return store.get_run(text)
    runs = store.list_runs(model_name=name, limit=SEARCHED, only=_NONE)
    ids = [it.run_id for it in runs if it.run_id.startswith(text)]
    if not ids:
        raise NotFound(
            f"No run of {name} has an id that begins with {text}.",
            hint="`ml-pipeline runs list` shows the latest.",
        )
    if len(ids) > 1:
        raise InputError(f"{len(ids)} runs begin with {text}: {', '.join(ids[:LISTED])}.")
    return store.get_run(ids[0])


def listed(runs: list[RetrainingRun]) -> Iterator[Part]:
    """What a person sees of several runs."""
    from ml_pipeline.commands.in_words import outcome_of
    from ml_pipeline.reports import terminal

    if not runs:
        yield "There is no such run. `ml-pipeline run` starts one."
        return
    rows = [
        (it.run_id[:_SHORT], f"{it.started_at:%Y-%m-%d %H:%M}",
         terminal.coloured(*outcome_of(it)), it.dataset_size, it.training_rows,
         _percent(it.metrics.get("accuracy")))
        for it in runs
    ]  # fmt: skip
    columns = ("run", "started", "outcome", "errors", "rows", "right")
    yield terminal.table("", columns, rows, right=columns[3:], fold=True)
    if runs[0].outcome_reason:
        yield f"The latest of these: {runs[0].outcome_reason}"


def shown(found: RetrainingRun) -> Iterator[Part]:
    """What a person sees of one run."""
    from ml_pipeline.reports import terminal

    facts = {name: value for name, value in _facts(found).items() if value is not None}
    yield terminal.facts(facts)
    if found.outcome_reason:
        yield found.outcome_reason
    if found.error_message:
        yield f"Error: {found.error_message.splitlines()[0]}"
    yield f"All of it as a page: `ml-pipeline report {found.run_id}`"


def _facts(found: RetrainingRun) -> dict[str, Any]:
    from ml_pipeline.commands.in_words import outcome_of

    took = took_seconds(found)
    return {
        "run": found.run_id,
        "outcome": outcome_of(found)[0],
        "started": f"{found.started_at:%Y-%m-%d %H:%M} UTC ({found.source})",
        "took": None if took is None else f"{took:.0f} s",
        "errors": found.dataset_size,
        "rows learned": found.training_rows,
        "champion": found.champion_id,
        "challenger": found.challenger_id,
        "right": _percent(found.metrics.get("accuracy")) or None,
    }


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main("runs", __doc__, add_arguments, run, argv)
