"""Text that others wrote, made fit to be shown: reasons, names, labels, messages of servers.

Such a text may hold what drives a terminal (an escape sequence writes into the clipboard, or paints
over what stands there), what turns a line backwards, or what a page reads as markup. Stored it
stays as it is; wherever people read it, it goes through here.
"""

from __future__ import annotations

SUBSTITUTE = "\ufffd"
_SPACES = "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029"
# C0, DELETE, C1; embeddings, overrides and isolates of the direction; halves of a pair.
_CONTROLS = (
    *range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A),
    0x2028, 0x2029, *range(0xD800, 0xE000),
)  # fmt: skip
_ONE_LINE = dict.fromkeys(_CONTROLS, SUBSTITUTE) | dict.fromkeys(map(ord, _SPACES), " ")
_LINES = _ONE_LINE | {ord("\n"): "\n", ord("\t"): "\t"}
_USUAL_WIDTH = 80
_MARKED = "\\`*_[]|#~!"
# What a spreadsheet takes for the start of a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def printable(text: object, *, lines: bool = False) -> str:
    """The text without control characters, each of which becomes a substitute, or a space.

    On one line, unless `lines` may break: then newlines and tabs stay.
    """
    return str(text).translate(_LINES if lines else _ONE_LINE)


def wrapped(text: str, *, indent: str = "") -> str:
    """The text for the terminal behind stderr: lines broken between words, with that indent."""
    import os
    import textwrap

    try:
        width = os.get_terminal_size(2).columns
    except OSError:
        width = 0
    return "\n".join(
        textwrap.fill(
            line, width=width or _USUAL_WIDTH, subsequent_indent=indent,
            break_long_words=False, break_on_hyphens=False, replace_whitespace=False,
            drop_whitespace=True,
        )
        for line in text.split("\n")
    )  # fmt: skip


def plain_markdown(text: object) -> str:
    """Text for Markdown: on one line, with nothing in it that is markup there or in HTML."""
    shown = " ".join(printable(text).split())
    escaped = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{letter}" if letter in _MARKED else letter for letter in escaped)


def as_cell(text: str) -> str:
    """A cell of a CSV that no spreadsheet calculates: `'` before a formula; a number stays one."""
    if not text.startswith(FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
