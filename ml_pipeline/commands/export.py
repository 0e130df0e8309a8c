"""Write labelled rows of the log into a file, for what trains elsewhere.

One row an answer whose outcome is known; erased rows are never among them.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from ml_pipeline.commands import common
from ml_pipeline.config.defaults import CONFIG_FILE
from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.config.export import ROW_CHOICES, ROW_FORMATS
from ml_pipeline.config.settings import Settings, load_settings
from ml_pipeline.errors import InputError

EXAMPLES = ("export rows --format csv --since 2026-11-01",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `export`."""
    common.add_common(parser, *EXAMPLES)
    actions = common.add_actions(parser)
    rows = common.add_action(
        actions,
        "rows",
        "labelled rows of the log",
        "export rows --format csv --since 2026-11-01",
        "export rows --format chat --only accepted --output chat.jsonl",
    )
    add = rows.add_argument
    add("--format", choices=ROW_FORMATS, help="csv, parquet, jsonl, or chat: conversations as "
        "JSON lines (default: export.format of the settings)")  # fmt: skip
    add("--since", type=_moment, metavar="DAY", help="rows whose outcome became known from then "
        "on, a UTC day or an ISO time (default: all)")  # fmt: skip
    add("--only", choices=ROW_CHOICES, help="errors are wrong and confident, accepted right, "
        "rejected wrong (default: export.only of the settings)")  # fmt: skip
    add("--output", metavar="FILE", help="where to (default: MODEL_NAME_rows and the format's "
        "ending, in this folder); a file that is there is replaced")  # fmt: skip


def _moment(text: str) -> datetime:
    from ml_pipeline.store.records import parse_utc

    try:
        return parse_utc(text)
    except ValueError:
        message = f"{text!r} is no day and no time, such as 2026-11-01"
        raise argparse.ArgumentTypeError(message) from None


def run(args: argparse.Namespace, *, now: datetime) -> int:
    """Write the rows and print where they are and how many."""
    from ml_pipeline.evaluation_log.exporting.rows import SUFFIXES, RowRequest, write_rows
    from ml_pipeline.registry.model_inputs import inputs_of
    from ml_pipeline.store.opening import open_store

    settings = load_settings(common.path_or_none(args.config))
    if args.since is not None and args.since > now:
        raise InputError(
            f"--since {args.since.isoformat()} lies in the future.",
            hint="Give a day that has begun.",
        )
    row_format, only = args.format or settings.export.format, args.only or settings.export.only
    target = Path(args.output or f"{settings.model_name}_rows{SUFFIXES[row_format]}")
    _check_target(target, settings, args.config)
    store = open_store(load_store_settings(args.local))
    try:
        inputs = inputs_of(store, store.champion(model_name=settings.model_name))
        settings = settings if inputs is None else inputs.completing(settings)
        request = RowRequest(now=now, since=args.since, row_format=row_format, only=only)
        done = write_rows(store, settings, request, target)
    finally:
        store.close()
    result = {
        "status": "completed", "path": str(target), "format": row_format,
        "only": only, "rows": done.rows, "labelled": done.labelled,
        "unusable": done.unusable,
    }  # fmt: skip
    sentence = _sentence(done.rows, done.unusable, target)
    common.answer(args, result, list, remarks=[sentence])
    return 0


def _check_target(target: Path, settings: Settings, config: str | None) -> None:
    """Raise InputError for what must not be replaced: folders, devices, and our own files."""
    if target.is_dir():
        raise InputError(f"{target} is a folder.", hint="Give --output the name of a file.")
    if target.exists() and not target.is_file():
        raise InputError(f"{target} is no file.", hint="Give --output the name of a file.")
    ours = (settings.log.source, settings.log.csv_file, config or CONFIG_FILE)
    for name in ours:
        if name and target.exists() and Path(name).exists() and target.samefile(name):
            raise InputError(
                f"{target} is read by the pipeline itself and would be lost.",
                hint="Give --output another name.",
            )


def _sentence(rows: int, unusable: int, target: Path) -> str:
    written = f"{rows:,} labelled rows stand in {target}."
    left_out = f" {unusable:,} were left out: they lack usable inputs." if unusable else ""
    return written + left_out


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main(
        "export", __doc__, add_arguments, lambda args: run(args, now=datetime.now(UTC)), argv
    )
