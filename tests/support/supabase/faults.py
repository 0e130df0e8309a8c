"""Faults on demand: what networks, proxies and overloaded projects do to a request."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from tests.support.supabase.keys import KeyRing
from tests.support.supabase.messages import HungUp, Reply, Request, Upstream

Action = Callable[[Request, Upstream], Reply]

PROXY_PAGE = b"<html><head><title>Web server is down</title></head><body>cloudflare</body></html>"


def hang(seconds: float) -> Action:
    """Wait, then forward: a client that gave up meanwhile finds its write done later."""

    def play(request: Request, forward: Upstream) -> Reply:
        time.sleep(seconds)
        return forward(request)

    return play


def hang_after(seconds: float) -> Action:
    """Forward at once, answer late."""

    def play(request: Request, forward: Upstream) -> Reply:
        reply = forward(request)
        time.sleep(seconds)
        return reply

    return play


def status(code: int, headers: Mapping[str, str] | None = None, body: bytes = PROXY_PAGE) -> Action:
    """Answer in the server's place; an HTML page by default."""
    merged = {"Content-Type": "text/html; charset=UTF-8"} | dict(headers or {})
    reply = Reply(status=code, headers=list(merged.items()), body=body)
    return lambda _request, _forward: reply


def html200() -> Action:
    """Answer as a captive portal or a maintenance page does."""
    return status(200)


def drop_before(request: Request, forward: Upstream) -> Reply:  # noqa: ARG001
    """Lose the connection before the server saw the request."""
    raise HungUp


def drop_after(request: Request, forward: Upstream) -> Reply:
    """Lose the answer: the server has done what was asked."""
    forward(request)
    raise HungUp


def cut_short(request: Request, forward: Upstream) -> Reply:
    """Lose the connection in the middle of the answer's body."""
    reply = forward(request)
    return replace(reply, body=reply.body[: len(reply.body) // 2], length=len(reply.body))


def expired_jwt(keys: KeyRing) -> Action:
    """Let the caller's token expire on its way, so that the real server refuses it."""

    def play(request: Request, forward: Upstream) -> Reply:
        token = (request.headers.get("Authorization") or "").removeprefix("Bearer ")
        return forward(request.with_authorization(f"Bearer {keys.expired(token)}"))

    return play


@dataclass(slots=True)
class Rule:
    """Which requests a fault hits: from the `nth` match on, `times` times."""

    action: Action
    method: str
    path: re.Pattern[str]
    nth: int
    times: int
    seen: int = 0
    hits: int = 0

    def strikes(self, request: Request) -> bool:
        if self.method not in {"*", request.method} or not self.path.search(request.target):
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


@dataclass(slots=True)
class Faults:
    """The rules in force; safe to change while requests are served."""

    rules: list[Rule] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(
        self, action: Action, *, method: str = "*", path: str = "", nth: int = 1, times: int = 1
    ) -> Rule:
        """Play `action` on requests whose path (with query) matches the pattern."""
        rule = Rule(action, method, re.compile(path), nth, times)
        with self.lock:
            self.rules.append(rule)
        return rule

    def clear(self) -> None:
        with self.lock:
            self.rules.clear()

    def take(self, request: Request) -> Action | None:
        """Return the first rule's action that strikes; every rule counts what it matches."""
        with self.lock:
            striking = [rule for rule in self.rules if rule.strikes(request)]
            if not striking:
                return None
            striking[0].hits += 1
            return striking[0].action
