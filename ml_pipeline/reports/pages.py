"""Templates: everything that is put into a page is cleaned and escaped, but for our own markup."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ml_pipeline.printable import plain_markdown, printable

if TYPE_CHECKING:
    from jinja2 import Environment

_TYPED = re.compile(r"`([^`]+)`")


def render(template: str, **values: Any) -> str:  # noqa: ANN401 - whatever the template shows
    """Fill a template of the package."""
    return environment().get_template(template).render(style=style(), **values)


@cache
def environment() -> Environment:
    """The package's templates; `.md` files escape what Markdown would read as markup."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    made = Environment(
        loader=PackageLoader("ml_pipeline", "templates"),
        # Markdown is escaped by its own filter.
        autoescape=select_autoescape(disabled_extensions=("md",), default=True),
        undefined=StrictUndefined,
        finalize=_clean,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "plain": plain_markdown,
        "sentence": sentence,
        "number": number,
        "percent": percent,
        "signed": signed,
        "seconds": seconds,
    }
    return made


def _clean(value: object) -> object:
    """What is put into a page, without control characters; markup is ours and stays markup."""
    if not isinstance(value, str):
        return value
    cleaned = printable(value, lines=True)
    return value if cleaned == value else type(value)(cleaned)


@cache
def style() -> Any:  # noqa: ANN401 - markup
    """The style sheet that all pages share."""
    from markupsafe import Markup

    sheet = files("ml_pipeline") / "templates" / "style.css"
    return Markup(sheet.read_text(encoding="utf-8"))  # noqa: S704 - our own file


def sentence(text: str) -> Any:  # noqa: ANN401 - markup
    """A text for people, in which `what one types` is shown as such; all else stays text."""
    from markupsafe import Markup

    parts = _TYPED.split(text)
    code = Markup("<code>{}</code>")
    return Markup("").join(code.format(it) if n % 2 else it for n, it in enumerate(parts))


def number(value: object, digits: int = 4) -> str:
    """A number with so many digits; nothing for a value that is not there."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share as a percentage; nothing for a value that is not there."""
    return "" if value is None else f"{100 * value:.1f} %"


def seconds(value: float | None) -> str:
    """A duration; nothing for one that has not ended."""
    return "" if value is None else f"{value:.1f} s"


def signed(value: float | None, digits: int = 4) -> str:
    """A difference with its sign; nothing for a value that is not there."""
    return "" if value is None else f"{value:+.{digits}f}"
