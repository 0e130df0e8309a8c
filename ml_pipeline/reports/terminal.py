"""Tables and lines on a person's terminal: text as it is, never as markup."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO, TypeAlias

from ml_pipeline.printable import printable

_LARGE = 10_000

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

# What is shown below one another: tables, and sentences.
Part: TypeAlias = "Table | str"


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Collection[str] = (),
    fold: bool = False,
) -> Table:
    """A table; the columns in `right` hold numbers. Cells that `fold` are never cut."""
    from rich.table import Table
    from rich.text import Text

    made = Table(title=Text(printable(title)) if title else None, title_justify="left")
    for name in columns:
        made.add_column(
            Text(printable(name)),
            justify="right" if name in right else "left",
            overflow="fold" if fold else "ellipsis",
        )
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row))
    return made


def coloured(text: str, colour: str) -> Text:
    """A cell in a colour."""
    from rich.text import Text

    return Text(printable(text), style=colour)


def facts(values: Mapping[str, object]) -> Table:
    """Names and values, each value in words: lists on one line, what is inside another indented."""
    from rich.table import Table
    from rich.text import Text

    made = Table.grid(padding=(0, 2))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in _rows(values, ""):
        made.add_row(Text(printable(name), style="bold"), Text(printable(value)))
    return made


def _rows(values: Mapping[str, object], indent: str) -> Iterable[tuple[str, str]]:
    for name, value in values.items():
        shown = indent + name.replace("_", " ")
        if isinstance(value, Mapping) and value:
            yield shown, ""
            yield from _rows(value, indent + "  ")
        else:
            yield shown, in_words(value)


def in_words(value: object) -> str:
    """A value of a result as people write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < _LARGE else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        value = [f"{name} {in_words(one)}" for name, one in value.items()]
        return ", ".join(value) or "none"
    if isinstance(value, list | tuple):
        return "; ".join(map(in_words, value)) or "none"
    return "none" if value in {None, ""} else str(value)


def show(*parts: Part, to: TextIO | None = None) -> None:
    """Print tables and lines, on stderr unless said otherwise; a terminal breaks between words."""
    from rich.console import Console

    console = Console(file=to or sys.stderr, highlight=False)
    for part in parts:
        if isinstance(part, str):
            unbroken = not console.is_terminal
            console.print(printable(part), markup=False, emoji=False, soft_wrap=unbroken)
        else:
            console.print(part)
