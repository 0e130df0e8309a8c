"""Requests and replies, as they go through the gateway."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.client import HTTPMessage
from typing import Any
from urllib.parse import parse_qs, unquote


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One request, read to its end. `path` is as sent, `query` without its question mark."""

    method: str
    path: str
    query: str
    headers: HTTPMessage
    body: bytes

    @property
    def segments(self) -> list[str]:
        """The path's parts, decoded."""
        return [unquote(part) for part in self.path.strip("/").split("/")]

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path

    def parameter(self, name: str) -> str:
        return parse_qs(self.query).get(name, [""])[0]

    def with_authorization(self, value: str) -> Request:
        headers = HTTPMessage()
        for name, kept in self.headers.items():
            if name.lower() != "authorization":
                headers[name] = kept
        headers["Authorization"] = value
        return replace(self, headers=headers)

    def json(self) -> dict[str, Any]:
        found = json.loads(self.body or b"{}")
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """One answer. `length` is announced in place of the body's when set."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    length: int | None = None


class HungUp(Exception):
    """Close the connection without an answer."""


Upstream = Callable[[Request], Reply]


def json_reply(status: int, content: object) -> Reply:
    body = json.dumps(content, default=str).encode()
    return Reply(status=status, headers=[("Content-Type", "application/json")], body=body)
