"""What callers send: JSON read strictly, and its members by name."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, NoReturn

from ml_pipeline.web.predictions.problems import Problem

MOST_ROWS: Final = 1000
LARGEST_BODY: Final = 2 * 1024 * 1024
Body = Mapping[str, Any]
_ID_NAMES: Final = ("match_id", "entity_id", "id")
_Kind = type | tuple[type, ...]


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Counted once: asked for each name, a body of many would keep a thread for minutes.
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the name {twice[:80]!r} stands there twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON; a missing value is null")


_decode = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_no_number).decode


def read_object(content: bytes) -> Body:
    """The JSON object in a body. Raises Problem for what is none, also only nearly."""
    try:
        found = _decode(content.decode("utf-8"))
    except RecursionError:
        _refuse("The body is nested too deeply.")
    except UnicodeDecodeError as error:
        _refuse(f"The body is no UTF-8: {error.reason} at byte {error.start}.")
    except ValueError as error:
        _refuse(f"The body cannot be read as JSON: {error}.")
    if not isinstance(found, dict):
        _refuse("The body is no JSON object.")
    return found


def _refuse(detail: str, hint: str = "") -> NoReturn:
    raise Problem(HTTPStatus.BAD_REQUEST, detail, hint=hint)


def only(body: Body, names: Sequence[str], where: str = "The body") -> None:
    """Raise Problem where the object has a member of another name: a typing error is no default."""
    unknown = [name for name in body if name not in names]
    if unknown:
        shown = ", ".join(name[:80] for name in unknown[:10])
        _refuse(
            f"{where} has members that are not known: {shown}.", f"It takes {', '.join(names)}."
        )


def member(body: Body, name: str, kind: _Kind, words: str, *, default: Any = None) -> Any:  # noqa: ANN401 - of that kind
    """A member of that kind; `default` where it is absent or null. Raises Problem for another."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        _refuse(f"{name} is no {words}.")
    return value


def flag(body: Body, name: str, *, default: bool) -> bool:
    """A boolean."""
    return bool(member(body, name, bool, "true or false", default=default))


def entity_id(body: Body) -> str | None:
    """The id of what is predicted, by any of its names; a number is taken as its text."""
    found = {name: body[name] for name in _ID_NAMES if body.get(name) is not None}
    texts = set()
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            _refuse(f"{name} is no text.")
        texts.add(str(value))
    if len(texts) > 1:
        _refuse(f"{' and '.join(found)} differ: give one of them.")
    return texts.pop() if texts else None


def row(body: Body, also: Sequence[str] = (), where: str = "The body") -> tuple[Any, Any, Any]:
    """Features, text and id of one row; it may have members that are called as `also`."""
    only(body, ("features", "text", *_ID_NAMES, *also), where)
    features = member(body, "features", (dict, list), "object or list")
    text = member(body, "text", str, "text")
    if features is None and text is None:
        _refuse(
            f"{where} has neither features nor text.",
            'For example {"features": {"form": 0.5}, "entity_id": "a1"}.',
        )
    return features, text, entity_id(body)


def objects(body: Body, name: str, alone: Sequence[str], also: Sequence[str]) -> list[Body]:
    """The objects in the list of that name, or the body itself as the only one.

    Their members are called as `alone` has them; `also` are members of the whole.
    """
    if name not in body:
        only(body, (*alone, *also, name))
        return [{key: value for key, value in body.items() if key not in also}]
    only(body, (name, *also))
    found = rows(body, name)
    for place, one in enumerate(found):
        only(one, alone, f"{name}[{place}]")
    return found


def rows(body: Body, name: str) -> list[Body]:
    """A list of 1 to MOST_ROWS objects."""
    found = member(body, name, list, "list", default=[])
    if not all(isinstance(one, dict) for one in found):
        _refuse(f"{name} is no list of objects.")
    if not 0 < len(found) <= MOST_ROWS:
        _refuse(f"{name} has {len(found)} rows; from 1 to {MOST_ROWS} are taken at once.")
    return list(found)
