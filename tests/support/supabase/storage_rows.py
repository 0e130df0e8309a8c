"""Storage's rows in the database, and the texts of its refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row

Row = dict[str, Any]
Claims = dict[str, Any] | None
Connection = psycopg.Connection[DictRow]


class Refused(Exception):
    """An error answer in Storage's shape."""

    def __init__(self, status: int, error: str, message: str, http: int = 400) -> None:
        super().__init__(message)
        self.body = {"statusCode": str(status), "error": error, "message": message}
        self.http = http


def object_not_found() -> Refused:
    return Refused(404, "not_found", "Object not found")


def bucket_not_found() -> Refused:
    return Refused(404, "Bucket not found", "Bucket not found")


@contextmanager
def transaction(dsn: str) -> Iterator[Connection]:
    """Open a transaction as the owner; the database's refusals become Storage's."""
    try:
        with psycopg.connect(dsn, row_factory=dict_row) as database:
            yield database
    except psycopg.errors.UniqueViolation:
        raise Refused(409, "Duplicate", "The resource already exists") from None
    except psycopg.errors.InsufficientPrivilege as error:
        message = str(error).partition("\n")[0]
        if "row-level security" in message:
            message = "new row violates row-level security policy"
        raise Refused(403, "Unauthorized", message) from None
    except psycopg.errors.QueryCanceled:
        message = "The connection to the database timed out"
        raise Refused(544, "DatabaseTimeout", message, http=544) from None


def become(database: Connection, claims: Claims) -> None:
    database.execute(
        "select set_config('role', %s, true), set_config('request.jwt.claims', %s, true)",
        [(claims or {}).get("role", "anon"), json.dumps(claims or {})],
    )


def insertion(row: Row, *, upsert: bool) -> bytes:
    columns = ", ".join(row)
    values = ", ".join(f"%({name})s" for name in row)
    query = f"insert into storage.objects ({columns}) values ({values})"  # noqa: S608
    if upsert:
        query += (
            " on conflict (bucket_id, name) do update set version = excluded.version,"
            " metadata = excluded.metadata, user_metadata = excluded.user_metadata,"
            " updated_at = now()"
        )
    return query.encode()


def find_bucket(database: Connection, bucket: str) -> Row:
    row = database.execute("select * from storage.buckets where id = %s", [bucket]).fetchone()
    if row is None:
        raise bucket_not_found()
    return row


def find_object(database: Connection, bucket: str, key: str) -> Row:
    query = "select * from storage.objects where bucket_id = %s and name = %s"
    row = database.execute(query, [bucket, key]).fetchone()
    if row is None:
        raise object_not_found()
    return row
