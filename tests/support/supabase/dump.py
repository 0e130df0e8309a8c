"""A bench's project as files: the schema as it was applied, all rows as SQL, the objects' bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.supabase.project import Bench

SCHEMA, ROWS, OBJECTS = "schema.sql", "rows.sql", "objects"
# No triggers and no foreign keys: the rows come as they stood, in any order.
_AS_THEY_STOOD = "set session_replication_role = replica;"


def dump(bench: Bench, schema: str, folder: Path) -> None:
    """Write the project whose database `schema` was applied to."""
    (folder / SCHEMA).write_text(schema, encoding="utf-8")
    tables = [str(row["name"]) for row in bench.sql("select name from bench.tables order by 1")]
    statements = [_AS_THEY_STOOD, *(f"delete from {table};" for table in tables)]  # noqa: S608
    for table in tables:
        statements += _insertions(bench, table)
    for row in bench.sql(
        "select format('%I.%I', schemaname, sequencename) as name, last_value from pg_sequences"
        " where schemaname = 'public' and last_value is not null order by 1"
    ):
        statements.append(f"select setval('{row['name']}', {row['last_value']});")
    (folder / ROWS).write_text("\n".join([*statements, ""]), encoding="utf-8")
    shutil.copytree(bench.storage.folder, folder / OBJECTS)


def _insertions(bench: Bench, table: str) -> list[str]:
    """One statement a row; texts without a type, so that each becomes its column's."""
    columns = [
        str(row["name"])
        for row in bench.sql(
            "select quote_ident(attname) as name from pg_attribute where attrelid = %s::regclass"
            " and attnum > 0 and not attisdropped and attgenerated = '' order by attnum",
            [table],
        )
    ]
    names = ", ".join(columns)
    values = ", ', ', ".join(f"quote_nullable({column}::text)" for column in columns)
    rows = bench.sql(f"select concat({values}) as row from {table} order by 1")  # noqa: S608
    start = f"insert into {table} ({names}) overriding system value values"
    return [f"{start} ({row['row']});" for row in rows]


def restore(bench: Bench, folder: Path) -> None:
    """Start the bench over with the project that was dumped into the folder."""
    bench.blank()
    bench.apply((folder / SCHEMA).read_text(encoding="utf-8"))
    bench.sql((folder / ROWS).read_text(encoding="utf-8"))
    shutil.copytree(folder / OBJECTS, bench.storage.folder, dirs_exist_ok=True)
    bench.keep()
