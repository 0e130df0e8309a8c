"""Save a store into a folder, while it is in use: `ml-pipeline backup DIR`."""

from __future__ import annotations

import argparse
import logging
from datetime import UTC, datetime

from ml_pipeline.commands import common
from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.config.quick import evaluation_csv
from ml_pipeline.config.settings import load_settings
from ml_pipeline.store import opening

log = logging.getLogger("backup")

EXAMPLES = (
    "backup backups/monday --local ml_store",
    'backup backups/monday --database-url "$DATABASE_URL"',
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `backup`."""
    common.add_common(parser, *EXAMPLES)
    parser.add_argument("directory", metavar="DIR", help="a folder that is not there yet")
    parser.add_argument("--database-url", metavar="URL", help="for a Supabase project: its "
        "database, as for `init`; SUPABASE_URL and the key are needed as well, for the models "
        "(the password may be in PGPASSWORD instead)")  # fmt: skip


def run(args: argparse.Namespace, *, now: datetime) -> int:
    """Save the store; prints what was saved."""
    settings = load_settings(common.path_or_none(args.config))
    chosen = load_store_settings(args.local)
    if chosen.local_dir is not None:
        csv = evaluation_csv(settings.log.csv_file, chosen.local_dir)
        manifest = opening.back_up_local(chosen.local_dir, csv, args.directory, now=now)
    else:
        manifest = opening.back_up_project(chosen, args.database_url, args.directory, now=now)
    for name in manifest.missing:
        log.warning("%s is not in the store any more, and not in the backup", name)
    common.answer(
        args,
        {
            "status": "incomplete" if manifest.missing else "completed",
            "directory": args.directory,
            **common.backup_json(manifest),
        },
    )
    return 1 if manifest.missing else 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main(
        "backup", __doc__, add_arguments, lambda args: run(args, now=datetime.now(UTC)), argv
    )
