"""Names and values come out of a statement as they went in, in both databases."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import duckdb
import pytest

from ml_pipeline.store.sql_text import identifier, literal

ODD = (
    'a "quoted" name',
    '"',
    '""',
    "it's",
    "''",
    "'; DROP TABLE t; --",
    '"; DROP TABLE t; --',
    "schema.table",
    "back\\slash",
    "two\nlines",
    "$$ %s ? :name {0}",
    "100 %",
    "Übergröße ✓ 🎯",
    " ",
)


@pytest.mark.parametrize("text", ODD)
def test_a_name_names_its_column(text: str) -> None:
    statements = (
        f"CREATE TABLE {identifier(f't {text}')} ({identifier(text)} TEXT)",
        f"INSERT INTO {identifier(f't {text}')} VALUES ('kept')",  # noqa: S608 - tested
        f"SELECT t.{identifier(text)} FROM {identifier(f't {text}')} AS t",  # noqa: S608 - tested
    )
    with duckdb.connect() as db:
        for statement in statements:
            db.execute(statement)
        assert (db.description[0][0], db.fetchall()) == (text, [("kept",)])
    with closing(sqlite3.connect(":memory:")) as lite:
        for statement in statements:
            cursor = lite.execute(statement)
        assert (cursor.description[0][0], cursor.fetchall()) == (text, [("kept",)])


@pytest.mark.parametrize("text", ODD)
def test_a_value_is_that_text(text: str) -> None:
    query = f"SELECT {literal(text)}"
    with duckdb.connect() as db:
        assert db.execute(query).fetchall() == [(text,)]
    with closing(sqlite3.connect(":memory:")) as lite:
        assert lite.execute(query).fetchall() == [(text,)]
