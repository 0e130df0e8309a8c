"""Create a store, or update one: `ml-pipeline init`. Safe to repeat."""

from __future__ import annotations

import argparse
import logging
import secrets
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ml_pipeline.commands import common, init_api, init_example, init_keys, init_repository
from ml_pipeline.config.environment import StoreSettings, is_local, load_store_settings
from ml_pipeline.errors import ConfigError
from ml_pipeline.store import schema
from ml_pipeline.store.scoring import grants

log = logging.getLogger("init")

EXAMPLES = (
    "init --from rows.csv --target churned",
    "init --local ml_store",
    'init --database-url "$DATABASE_URL"',
    "init --workflows .",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `init`."""
    common.add_common(parser, *EXAMPLES)
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--database-url", metavar="URL", help="apply the schema to this PostgreSQL "
        "database and create the buckets; the password may be in PGPASSWORD instead "
        "(neither SUPABASE_URL nor a key is needed)")  # fmt: skip
    way.add_argument("--print-sql", action="store_true", help="print the SQL for the project's "
        "SQL editor; with --output, write migration files")  # fmt: skip
    way.add_argument("--workflows", metavar="DIR", help="write the GitHub workflows, pinned "
        "requirements and settings into the repository in this folder")  # fmt: skip
    way.add_argument("--print-keys", action="store_true", help="print fresh secrets for the "
        "Supabase of docker-compose.yml, as the lines of its .env file")  # fmt: skip
    way.add_argument("--from", dest="file", metavar="FILE", help="look at a CSV or Parquet file "
        "with results, write settings for it, and say whether the loop would help")  # fmt: skip
    way.add_argument("--from-log", action="store_true", help="the same of the results in the "
        "store's log")  # fmt: skip
    parser.add_argument("--package", metavar="REQUIREMENT", help="with --workflows: what pip "
        "installs there (default: where this installation came from)")  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="with --workflows: replace files "
        "that differ, but never the settings")  # fmt: skip
    parser.add_argument("--example", choices=sorted(init_example.EXAMPLES), help="write the "
        "settings and the training data of an example into the working directory")  # fmt: skip
    parser.add_argument("--output", metavar="PATH", help="with --print-sql: a folder for "
        "timestamped files, for example supabase/migrations; with --print-keys: a file that is "
        "not there yet")  # fmt: skip
    parser.add_argument("--grant", metavar="NAMES", type=_grants, default=(), help="with "
        "--database-url or --print-sql: what signed-in users may call, of predict, predict_batch, "
        "correct, record_outcome and add_label, by commas; what that means is said")  # fmt: skip
    parser.add_argument("--to", metavar="ROLE", choices=grants.ROLES, default=grants.ROLES[0],
        help="with --grant: whom (only authenticated)")  # fmt: skip
    group = parser.add_argument_group("with --from or --from-log")
    group.add_argument("--target", metavar="COL", help="the column of what really happened")
    group.add_argument("--id", metavar="COL", help="the column that names the thing predicted")
    group.add_argument("--time", metavar="COL", help="the column of when it was predicted")
    group.add_argument("--force", action="store_true", help="replace the settings that are there")


def run(args: argparse.Namespace, *, now: datetime) -> int:
    """Create or update what the flags name, and print what there is now."""
    _check_together(args)
    if args.grant:
        log.warning("%s", grants.meaning(args.grant))
    if args.print_sql and not args.output:
        sys.stdout.write(schema.whole(_granting(args)))
        return 0
    if args.print_keys:
        return _keys(args, now)
    written: dict[str, Any] = {}
    if args.file or args.from_log:
        from ml_pipeline.commands import init_from

        written = init_from.write(args)
    if args.example:
        files = init_example.write(args.example, Path())
        written = {"status": "written", "example": args.example, "files": files}
        log.info("Wrote %s. Next: `ml-pipeline train --register`", ", ".join(files))
    if not written or args.database_url or is_local(args.local):
        written |= _created(args, now)
    common.answer(args, written, list if args.file or args.from_log else None)
    return 0


def _check_together(args: argparse.Namespace) -> None:
    """Raise ConfigError for flags of which one means nothing beside the other."""
    if args.output and not (args.print_sql or args.print_keys):
        raise ConfigError("--output can be used only together with --print-sql or --print-keys.")
    if (args.package or args.overwrite) and not args.workflows:
        raise ConfigError("--package and --overwrite can be used only together with --workflows.")
    if args.grant and (args.output or not (args.database_url or args.print_sql)):
        raise ConfigError(
            "--grant can be used only together with --database-url or --print-sql.",
            hint="A grant is a statement of SQL: it is applied, or printed for the SQL editor.",
        )
    has_rows = args.file or args.from_log
    if not has_rows and (args.target or args.id or args.time or args.force):
        raise ConfigError(
            "--target, --id, --time and --force can be used only together with --from or "
            "--from-log."
        )
    if args.local and (args.database_url or args.print_sql or args.workflows):
        raise ConfigError(
            "--local creates an embedded store; the other flags are for Supabase.",
            hint="Leave out --local, or --database-url, --print-sql and --workflows.",
        )
    if args.example and (has_rows or args.print_sql or args.workflows):
        raise ConfigError(
            "--example cannot be combined with --from, --from-log, --print-sql or --workflows."
        )


def _keys(args: argparse.Namespace, now: datetime) -> int:
    """Print fresh secrets, or write them into a new file."""
    lines = init_keys.compose_environment(now=now, new_secret=_secret)
    text = "".join(f"{name}={value}\n" for name, value in lines.items())
    if args.output is None:
        sys.stdout.write(text)
        return 0
    init_keys.write(text, Path(args.output))
    common.answer(args, {"status": "written", "kind": "keys", "file": args.output})
    return 0


def _secret(letters: int) -> str:
    return secrets.token_urlsafe(letters)[:letters]


def _created(args: argparse.Namespace, now: datetime) -> Mapping[str, Any]:
    if args.print_sql:
        return _migrations(Path(args.output), now)
    if args.workflows is not None:
        return _repository(Path(args.workflows), args)
    if args.database_url is not None:
        return _applied(args.database_url, args)
    return _embedded(args.local)


def _grants(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    unknown = [name for name in names if name not in grants.GRANTABLE]
    if unknown:
        message = f"{unknown[0]!r} is none of {', '.join(grants.GRANTABLE)}"
        raise argparse.ArgumentTypeError(message)
    return names


def _granting(args: argparse.Namespace) -> str:
    return grants.grant_sql(args.grant, args.to) if args.grant else ""


def _applied(url: str, args: argparse.Namespace) -> Mapping[str, Any]:
    applied = schema.apply(url, _granting(args))
    for warning in applied.warnings:
        log.warning("%s", warning)
    log.info("The database has schema version %d", applied.version)
    return {
        "status": "ready",
        "kind": "supabase",
        "schema_version": applied.version,
        "api": init_api.check(applied.version),
        "applied": applied.names,
        "granted": list(args.grant),
        "buckets": applied.buckets,
        "warnings": applied.warnings,
    }


def _embedded(local: str | None) -> Mapping[str, Any]:
    from ml_pipeline.store.opening import open_store

    try:
        settings = load_store_settings(local)
    except ConfigError:
        settings = StoreSettings()
    if settings.local_dir is None:
        raise ConfigError(
            "It is not clear what to create: a service key alone cannot create tables.",
            hint="Give --database-url URL for Supabase, --print-sql to paste the SQL into its "
            "editor, or --local DIR (or ML_PIPELINE_LOCAL=DIR) for an embedded store.",
        )
    store = open_store(settings)
    try:
        where = store.describe()
    finally:
        store.close()
    return {
        "status": "ready",
        **where,
        "schema_version": schema.newest("local"),
        "applied": [script.name for script in schema.scripts("local")],
        "buckets": list(schema.BUCKETS),
    }


def _repository(folder: Path, args: argparse.Namespace) -> Mapping[str, Any]:
    files = init_repository.write(folder, package=args.package, overwrite=args.overwrite)
    for name in files["kept"]:
        log.info("%s is there already and was not changed", name)
    if files["written"]:
        log.info(
            "Next: set the secrets SUPABASE_URL and SUPABASE_SERVICE_KEY, and commit the files"
        )
    return {"status": "written", "kind": "repository", "directory": str(folder), **files}


def _migrations(folder: Path, now: datetime) -> Mapping[str, Any]:
    """Write the migrations that the folder lacks, under names that sort in their order."""
    files = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for place, script in enumerate(schema.scripts()):
            name = f"ml_pipeline_{script.name}.sql"
            known = sorted(folder.glob(f"*_{name}"))
            # A migration that was applied is never applied again: a changed one needs a new name.
            if known and known[-1].read_text(encoding="utf-8") == script.text:
                continue
            path = folder / f"{now + timedelta(seconds=place):%Y%m%d%H%M%S}_{name}"
            path.write_text(script.text, encoding="utf-8")
            files.append(path.name)
    except OSError as error:
        raise ConfigError(
            f"{folder}: {error.strerror or error}.", hint="Choose a folder you may write to."
        ) from error
    return {
        "status": "written",
        "kind": "supabase",
        "schema_version": schema.newest(),
        "applied": [],
        "buckets": [],
        "directory": str(folder),
        "files": files,
    }


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main(
        "init",
        __doc__,
        add_arguments,
        lambda args: run(args, now=datetime.now(UTC)),
        argv,
        # A repository's workflows and settings are for everybody who works on it.
        shares_files=True,
    )
