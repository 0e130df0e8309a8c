"""Latest runs, queue and champion at a glance: `ml-pipeline status`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime

from ml_pipeline.commands import common
from ml_pipeline.commands.in_words import outcome_of
from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.config.settings import load_settings
from ml_pipeline.decay import messages
from ml_pipeline.decay.refresh import versions
from ml_pipeline.reports import overview, terminal
from ml_pipeline.reports.overview import Overview
from ml_pipeline.reports.terminal import Part

RUNS_PRINTED = 10

EXAMPLES = (
    "status",
    "status --json | jq -r .champion.model_id",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `status`."""
    common.add_common(parser, *EXAMPLES)


def run(args: argparse.Namespace, *, now: datetime) -> int:
    """Show the overview."""
    from ml_pipeline.store.opening import open_store

    settings = load_settings(common.path_or_none(args.config))
    store = open_store(load_store_settings(args.local))
    try:
        found = overview.read_overview(store, settings, now=now)
    finally:
        store.close()
    result = {"status": "completed", **found.as_json()}
    common.answer(args, result, lambda: view(found))
    return 0


def view(found: Overview) -> Iterator[Part]:
    """What a person sees: the runs and the queue as tables, the rest in sentences."""
    runs = [
        (f"{it.started_at:%Y-%m-%d %H:%M}", terminal.coloured(*outcome_of(it)),
         it.dataset_size, it.training_rows)
        for it in found.runs[:RUNS_PRINTED]
    ]  # fmt: skip
    queue = [
        (f"{it.created_at:%Y-%m-%d %H:%M}", str(it.status), str(it.priority), it.reason)
        for it in found.requests
    ]
    columns = ("started", "outcome", "errors", "rows")
    numbers = {"errors", "rows"}
    if runs:
        yield terminal.table("Latest runs", columns, runs, right=numbers)
    if found.latest is not None and found.latest.outcome_reason:
        yield found.latest.outcome_reason
    if queue:
        columns = ("requested", "status", "priority", "reason")
        yield terminal.table("Requests", columns, queue, fold=True)
    yield from _lines(found)


def _lines(found: Overview) -> list[str]:
    champion = "none yet" if found.champion is None else found.champion.model_id
    lines = [it for it in (found.answering, found.proposal) if it]
    lines.append(f"Champion of {found.model_name}: {champion}.")
    lines += [
        f"Waiting for approval: `ml-pipeline models promote {model.model_id}`."
        for model in found.waiting
    ]
    lines += [
        f"{messages.headline(alert)}. {versions.sentence_of(alert)}".rstrip()
        for alert in found.alerts
        if alert.status.is_open
    ]
    return [*lines, _due(found)]


def _due(found: Overview) -> str:
    """When the next run is expected, or that it is late."""
    if found.due_at is None:
        return "No run yet."
    due = f"{found.due_at:%Y-%m-%d %H:%M} UTC"
    late = f"Late: the next run was expected by {due}."
    return late if found.is_late else f"Next run expected by {due}."


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main(
        "status", __doc__, add_arguments, lambda args: run(args, now=datetime.now(UTC)), argv
    )
