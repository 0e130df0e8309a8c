"""Backup and restore of a Supabase project: our tables by COPY, our buckets through Storage.

Supabase's own backups hold no objects of Storage, and a copy of its files loses the content types.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from datetime import datetime
from graphlib import TopologicalSorter
from pathlib import Path, PurePosixPath
from typing import Any, Final

from ml_pipeline.errors import ConfigError, NotFound, StoreRefused
from ml_pipeline.store import schema
from ml_pipeline.store.artifact_files import file_errors, segments_of
from ml_pipeline.store.backup.folder import Manifest, finish, new_folder, refuse_other
from ml_pipeline.store.sql_text import identifier
from ml_pipeline.store.supabase.store import SupabaseStore

TABLES: Final = "tables"
ARTIFACTS: Final = "artifacts"
# What `init` fills by itself.
_MADE_ANEW: Final = frozenset({"ml_pipeline_schema_version", "ml_pipeline_leases"})
# How values are written in a backup, whatever a database or a machine sets: 05/11/2026 is two days.
_TEXT: Final = """
    set local client_encoding = 'UTF8'; set local timezone = 'UTC';
    set local datestyle = 'ISO, YMD'; set local intervalstyle = 'postgres';
    set local extra_float_digits = 1"""
_COLUMNS: Final = """
    select attname from pg_attribute
    where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped and attgenerated = ''
    order by attnum"""
_PARENTS: Final = """
    select conrelid::regclass::text, confrelid::regclass::text from pg_constraint
    where contype = 'f' and connamespace = 'public'::regnamespace"""
_SEQUENCES: Final = """
    select attname from pg_attribute
    where attrelid = to_regclass(%s) and attidentity <> '' and not attisdropped"""
_TRIGGERS: Final = """
    select tgname, tgenabled::text from pg_trigger
    where tgrelid = to_regclass(%s) and not tgisinternal and tgenabled <> 'D'"""
_MODES: Final = {"O": "", "A": "always", "R": "replica"}
_OBJECTS: Final = (
    "select bucket_id, name from storage.objects where bucket_id = any (%s) order by 1, 2"
)

_HINT: Final = "`ml-pipeline doctor` says whether the project is as `ml-pipeline init` makes it."

Connection = Any


def back_up(store: SupabaseStore, database_url: str, target: Path, *, now: datetime) -> Manifest:
    """Copy our tables, as they are at one moment, and then our buckets into a new folder.

    An object that is gone although it was listed, or that a model's row names, is `missing`.
    Raises ConfigError, StoreError.
    """
    with new_folder(target, what="the backup") as draft:
        rows: dict[str, int] = {}
        with schema.session(database_url, "copying the tables", hint=_HINT) as opened:
            database = opened.database
            database.execute("set transaction isolation level repeatable read, read only")
            database.execute(_TEXT)
            version = _version(database)
            for table in _tables(database):
                rows[table] = _copy_out(database, table, draft / TABLES / f"{table}.csv")
            named = database.execute(
                "select distinct 'ml-models', artifact_path from model_metadata "
                "where artifact_path is not null and artifact_digest is not null"
            ).fetchall()
            listed = database.execute(_OBJECTS, [list(schema.BUCKETS)]).fetchall()
        objects = sorted({*map(tuple, listed), *map(tuple, named)})
        missing = tuple(_fetched(store, objects, draft / ARTIFACTS))
        return finish(
            draft, kind="supabase", now=now, schema_version=version, rows=rows, missing=missing
        )


def restore(store: SupabaseStore, database_url: str, folder: Path) -> Manifest:
    """Fill a project that holds no rows of ours with a backup, whose digests are checked first.

    The schema is applied, the objects are stored, and then all rows come in one transaction: a
    restore that was interrupted is repeated. Raises ConfigError, StoreError.
    """
    manifest = Manifest.read(folder, kind="supabase")
    if manifest.schema_version > schema.newest():
        raise StoreRefused(
            f"{folder} has schema version {manifest.schema_version}, this package knows "
            f"{schema.newest()}.",
            hint="Install the version of the package that made the backup, or a newer one.",
        )
    saved = _saved_tables(manifest, folder)
    objects = _saved_objects(manifest)
    schema.apply(database_url)
    with schema.session(database_url, "looking for rows", hint=_HINT) as opened:
        _refuse_rows(opened.database, saved)
    for bucket, path in objects:
        store.put(bucket, path, folder / ARTIFACTS / bucket / path)
    with schema.session(database_url, "restoring the rows", hint=_HINT) as opened:
        database = opened.database
        database.execute(_TEXT)
        _refuse_rows(database, saved)
        database.execute("delete from public.ml_pipeline_limits")
        for table in _in_order(database, saved):
            _copy_in(database, table, saved[table])
        _check_counts(database, manifest.rows)
    return manifest


def _saved_tables(manifest: Manifest, folder: Path) -> dict[str, Path]:
    """The file of each table. Raises StoreCorrupt unless each is one of ours, and counted."""
    found = {
        file.path.removeprefix(f"{TABLES}/").removesuffix(".csv"): folder / file.path
        for file in manifest.files
        if file.path.startswith(f"{TABLES}/")
    }
    refuse_other(found, schema.names().tables - _MADE_ANEW, what="tables that are not ours:")
    refuse_other(manifest.rows, found, what="rows of tables that it does not hold:")
    return found


def _saved_objects(manifest: Manifest) -> list[tuple[str, str]]:
    """Bucket and path of each object. Raises StoreCorrupt for a bucket that is not ours."""
    paths = [PurePosixPath(file.path).parts for file in manifest.files]
    found = [(parts[1], "/".join(parts[2:])) for parts in paths if parts[0] == ARTIFACTS]
    refuse_other((bucket for bucket, _ in found), schema.BUCKETS, what="buckets that are not ours:")
    return found


def _tables(database: Connection) -> list[str]:
    there = {
        row[0]
        for row in database.execute(
            "select relname from pg_class where relkind = 'r' "
            "and relnamespace = 'public'::regnamespace"
        ).fetchall()
    }
    return sorted((schema.names().tables & there) - _MADE_ANEW)


def _version(database: Connection) -> int:
    found = database.execute("select to_regclass('public.ml_pipeline_schema_version')").fetchone()
    if found[0] is None:
        raise ConfigError(
            "The database of --database-url has none of the package's tables.",
            hint="Name the database of the project; `ml-pipeline doctor` looks at it.",
        )
    query = "select coalesce(max(version), 0) from public.ml_pipeline_schema_version"
    return int(database.execute(query).fetchone()[0])


def _columns(database: Connection, table: str) -> list[str]:
    return [row[0] for row in database.execute(_COLUMNS, [f"public.{table}"]).fetchall()]


def _copy_out(database: Connection, table: str, place: Path) -> int:
    """The rows as CSV, the names of their columns in the first line."""
    names = ", ".join(map(identifier, _columns(database, table)))
    text = f"copy public.{identifier(table)} ({names}) to stdout (format csv, header)"
    with file_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        cursor = database.cursor()
        with place.open("wb") as file, cursor.copy(text) as rows:
            for block in rows:
                file.write(block)
    return int(cursor.rowcount)


def _copy_in(database: Connection, table: str, place: Path) -> None:
    with place.open("rb") as file:
        (names,) = csv.reader([file.readline().decode()])
        known = set(_columns(database, table))
        if unknown := [name for name in names if name not in known]:
            raise StoreRefused(f"{table} has no column {', '.join(unknown)} in this project.")
        quoted = ", ".join(map(identifier, names))
        # Rows come as they were; what triggers do was done when they were written.
        triggers = database.execute(_TRIGGERS, [f"public.{table}"]).fetchall()
        for name, _ in triggers:
            _alter(database, table, f"disable trigger {identifier(name)}")
        with database.cursor().copy(
            f"copy public.{identifier(table)} ({quoted}) from stdin (format csv)"
        ) as rows:
            while block := file.read(1 << 20):
                rows.write(block)
        for name, mode in triggers:
            _alter(database, table, f"enable {_MODES[mode]} trigger {identifier(name)}")
    for (column,) in database.execute(_SEQUENCES, [f"public.{table}"]).fetchall():
        database.execute(
            f"select setval(pg_get_serial_sequence(%s, %s), max({identifier(column)})) "  # noqa: S608
            f"from public.{identifier(table)} having count(*) > 0",
            [f"public.{table}", column],
        )


def _alter(database: Connection, table: str, change: str) -> None:
    database.execute(f"alter table public.{identifier(table)} {change}")


def _in_order(database: Connection, tables: Iterable[str]) -> list[str]:
    """The tables, each behind those that its rows refer to."""
    parents: dict[str, set[str]] = {table: set() for table in tables}
    for child, parent in database.execute(_PARENTS).fetchall():
        if child in parents and parent in parents and parent != child:
            parents[child].add(parent)
    return list(TopologicalSorter(parents).static_order())


def _refuse_rows(database: Connection, tables: Iterable[str]) -> None:
    filled = [
        table
        for table in sorted(tables)
        if table != "ml_pipeline_limits"
        and database.execute(f"select 1 from public.{identifier(table)} limit 1").fetchone()  # noqa: S608
    ]
    if filled:
        raise StoreRefused(
            f"The project holds rows already, in {', '.join(filled)}.",
            hint="Restore into a project of its own: what is there is never overwritten.",
        )


def _check_counts(database: Connection, rows: Mapping[str, int]) -> None:
    for table, count in rows.items():
        found = database.execute(f"select count(*) from public.{identifier(table)}").fetchone()[0]  # noqa: S608
        if found != count:
            raise StoreRefused(f"{table}: {found} rows came of {count}. Nothing was changed.")


def _fetched(
    store: SupabaseStore, objects: Iterable[tuple[str, str]], folder: Path
) -> Iterable[str]:
    """Download the objects; yields the names of those that are gone."""
    for bucket, path in objects:
        place = folder / bucket
        for segment in segments_of(bucket, path):
            place /= segment
        try:
            with file_errors(place):
                place.parent.mkdir(parents=True, exist_ok=True)
            store.download(bucket, path, place)
        except NotFound:
            yield f"{bucket}/{path}"
