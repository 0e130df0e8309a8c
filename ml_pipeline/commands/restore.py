"""Make a store of a backup: `ml-pipeline restore DIR`."""

from __future__ import annotations

import argparse
import logging

from ml_pipeline.commands import common
from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.config.quick import evaluation_csv
from ml_pipeline.config.settings import load_settings
from ml_pipeline.store import opening

log = logging.getLogger("restore")

EXAMPLES = ("restore backups/monday --local ml_store",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `restore`."""
    common.add_common(parser, *EXAMPLES)
    parser.add_argument("directory", metavar="DIR", help="the folder that `backup` has made")
    parser.add_argument("--database-url", metavar="URL", help="for a Supabase project without "
        "rows of ours: its database, as for `init`; SUPABASE_URL and the key are needed as "
        "well")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Check the backup, then restore it into a store that is not there yet."""
    settings = load_settings(common.path_or_none(args.config))
    chosen = load_store_settings(args.local)
    if chosen.local_dir is not None:
        csv = evaluation_csv(settings.log.csv_file, chosen.local_dir)
        manifest = opening.restore_local(args.directory, chosen.local_dir, csv)
    else:
        manifest = opening.restore_project(chosen, args.database_url, args.directory)
    log.info("Restored what was saved at %s. Next: `ml-pipeline doctor`", manifest.created_at)
    common.answer(args, {"status": "completed", **common.backup_json(manifest)})
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main("restore", __doc__, add_arguments, run, argv)
