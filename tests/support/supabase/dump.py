"""A test project as files: the schema as applied, all rows as SQL, the objects' bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.supabase.project import SupabaseProject

SCHEMA, ROWS, OBJECTS = "schema.sql", "rows.sql", "objects"
# No triggers and no foreign keys: the rows come as they stood, in any order.
_AS_THEY_STOOD = "set session_replication_role = replica;"


def dump(project: SupabaseProject, schema: str, folder: Path) -> None:
    """Write the project whose database `schema` was applied to."""
    (folder / SCHEMA).write_text(schema, encoding="utf-8")
    tables = [str(row["name"]) for row in project.sql("select name from project.tables order by 1")]
    statements = [_AS_THEY_STOOD, *(f"delete from {table};" for table in tables)]  # noqa: S608
    for table in tables:
        statements += _insertions(project, table)
    for row in project.sql(
        "select format('%I.%I', schemaname, sequencename) as name, last_value from pg_sequences"
        " where schemaname = 'public' and last_value is not null order by 1"
    ):
        statements.append(f"select setval('{row['name']}', {row['last_value']});")
    (folder / ROWS).write_text("\n".join([*statements, ""]), encoding="utf-8")
    shutil.copytree(project.storage.folder, folder / OBJECTS)


def _insertions(project: SupabaseProject, table: str) -> list[str]:
    """One statement a row; texts without a type, so that each becomes its column's."""
    columns = [
        str(row["name"])
        for row in project.sql(
            "select quote_ident(attname) as name from pg_attribute where attrelid = %s::regclass"
            " and attnum > 0 and not attisdropped and attgenerated = '' order by attnum",
            [table],
        )
    ]
    names = ", ".join(columns)
    values = ", ', ', ".join(f"quote_nullable({column}::text)" for column in columns)
    rows = project.sql(f"select concat({values}) as row from {table} order by 1")  # noqa: S608
    start = f"insert into {table} ({names}) overriding system value values"
    return [f"{start} ({row['row']});" for row in rows]


def restore(project: SupabaseProject, folder: Path) -> None:
    """Start the project over with the project that was dumped into the folder."""
    project.blank()
    project.apply((folder / SCHEMA).read_text(encoding="utf-8"))
    project.sql((folder / ROWS).read_text(encoding="utf-8"))
    shutil.copytree(folder / OBJECTS, project.storage.folder, dirs_exist_ok=True)
    project.keep()
