"""Tables and lines on a person's terminal: text as it is, never as markup."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from ml_pipeline.printable import printable

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


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


def show(*parts: Table | str) -> None:
    """Print tables and lines on stderr."""
    from rich.console import Console

    console = Console(file=sys.stderr, highlight=False)
    for part in parts:
        if isinstance(part, str):
            console.print(printable(part), markup=False, emoji=False, soft_wrap=True)
        else:
            console.print(part)
