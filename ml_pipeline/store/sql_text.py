"""Names and values as the text of an SQL statement, where a parameter cannot stand.

The rules are those of the standard, which SQLite and DuckDB keep. Values that a statement takes as
parameters are passed as parameters.
"""

from __future__ import annotations


def identifier(name: str) -> str:
    """A name of a table or a column, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: object) -> str:
    """A value as a text constant: a backslash and a line feed in it are themselves."""
    return "'" + str(value).replace("'", "''") + "'"
