"""Add labels that people gave to the table that `train --from-table` reads.

A label that is there already is counted, one that contradicts it is refused and listed, and so is
what is no label; the others are added.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ml_pipeline.commands import common
from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.config.settings import Settings, load_settings
from ml_pipeline.errors import ConfigError, InputError

TABLE = "ml_data"

EXAMPLES = ("labels add --csv labels.csv",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `labels`."""
    common.add_common(parser, *EXAMPLES)
    actions = common.add_actions(parser)
    adding = common.add_action(
        actions,
        "add",
        "add the labels of a file, or one",
        "labels add --csv labels.csv",
        "labels add --id ticket-17 --label refund",
    )
    add = adding.add_argument
    add("--csv", help="file with label, and id or the features or the text; created_at if known")
    add("--id", help="what is labelled: a waiting row, an event or a match, or any id of yours")
    add("--label", help="its label")
    add("--features", metavar="JSON", help="its features (default: those of its prediction)")
    add("--text", help="its text, where the model reads a text")
    add("--source", default="person", help="who says so (default: %(default)s)")
    add("--dry-run", action="store_true", help="check everything and add nothing")


def run(args: argparse.Namespace, *, now: datetime) -> int:
    """Add labels and print the counts; exit code 1 when one was refused."""
    from ml_pipeline.datasets.label_file import add_labels
    from ml_pipeline.registry.model_inputs import inputs_of
    from ml_pipeline.store.opening import open_store

    settings = load_settings(common.path_or_none(args.config))
    table = settings.ground_truth.table
    if table != TABLE:
        raise ConfigError(
            f"Labels are added to {TABLE}, and ground_truth.table is {table}.",
            hint="Write into that table, or take ground_truth.table out of the settings.",
        )
    store = open_store(load_store_settings(args.local))
    try:
        inputs = inputs_of(store, store.champion(model_name=settings.model_name))
        settings = settings if inputs is None else inputs.completing(settings)
        entries, blank = _entries(args, settings, now)
        report = add_labels(store, entries, settings, dry_run=args.dry_run)
    finally:
        store.close()
    result = report.as_json() | {"without_label": blank, "table": table, "dry_run": args.dry_run}
    _show(result)
    common.answer(args, result)
    return 1 if report.refused else 0


def _entries(args: argparse.Namespace, settings: Settings, now: datetime) -> tuple[Any, int]:
    from ml_pipeline.datasets.label_file import LabelEntry, read_label_file

    if args.csv:
        if any((args.id, args.label, args.features, args.text)):
            raise InputError("Give either --csv or one label, not both.")
        return read_label_file(Path(args.csv), settings, now=now, source=args.source)
    if not args.label or not (args.id or args.features or args.text):
        raise InputError("Give --csv FILE, or --label with --id, --features or --text.")
    inputs = _features(args.features)
    if args.text is not None:
        if settings.data.text_column is None:
            raise InputError("The model reads no text.", hint="Give --features, or --id alone.")
        inputs[settings.data.text_column] = args.text
    entry = LabelEntry(
        id=(args.id or "").strip(), label=args.label, created_at=now, source=args.source,
        inputs=inputs,
    )  # fmt: skip
    return [entry], 0


def _features(text: str | None) -> dict[str, object]:
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f"--features is no JSON: {error}.") from None
    if not isinstance(value, dict):
        raise InputError("--features is no JSON object.", hint='For example {"form": 0.5}.')
    return value


def _show(result: dict[str, Any]) -> None:
    """Say on stderr what was refused and why."""
    for refused in result["refused"][:20]:
        where = f"line {refused['line']}: " if refused["line"] else ""
        common.say(f"{where}{refused['reason']} {refused['hint']}".rstrip())
    if len(result["refused"]) > 20:  # noqa: PLR2004 - as many as above
        common.say(f"and {len(result['refused']) - 20} more")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main(
        "labels", __doc__, add_arguments, lambda args: run(args, now=datetime.now(UTC)), argv
    )
