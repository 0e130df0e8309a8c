"""Who may see the page and who may press its buttons."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from flask import Request, Response, session

from ml_pipeline.config.environment import MONITOR_TOKEN_VARIABLE
from ml_pipeline.errors import ConfigError

SIGNED_IN = "signed_in"
CSRF = "csrf"
POLICY = (
    "default-src 'none'; style-src {style}; script-src 'self'; connect-src 'self'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Guard:
    """The rules of one server. `token` is None when none is required, on loopback only."""

    token: str | None
    names: frozenset[str] | None = None

    @classmethod
    def for_host(
        cls, host: str, token: str | None, *, variable: str = MONITOR_TOKEN_VARIABLE
    ) -> Self:
        """The rules for an address; raises ConfigError when other machines would need no token.

        `variable` is where people set it.
        """
        if token is not None:
            return cls(token=token)
        if not is_loopback(host):
            raise ConfigError(
                f"{host} can be reached from other machines, and no token is set.",
                hint=f"Set {variable} to a long secret, or listen on 127.0.0.1.",
            )
        # A page of another site whose name resolves to this machine would send its own name.
        return cls(token=None, names=frozenset({host, "localhost", "127.0.0.1", "::1"}))

    @property
    def requires_token(self) -> bool:
        """Whether people have to sign in."""
        return self.token is not None

    def accepts_host(self, request: Request) -> bool:
        """Whether the request means this server by a name that it has."""
        if self.names is None:
            return True
        with suppress(ValueError):
            return (urlsplit(f"//{request.host}").hostname or "") in self.names
        return False

    def is_valid_token(self, token: str) -> bool:
        """Compare in a time that does not depend on where, or by how much, they differ."""
        if self.token is None:
            return False
        digests = [hashlib.sha256(text.encode()).digest() for text in (token, self.token)]
        return hmac.compare_digest(*digests)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bearer_token(request: Request) -> str | None:
    """The token in the request's header, None where there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def csrf_token() -> str:
    """The session's secret for its forms, made when it is first needed."""
    if CSRF not in session:
        session[CSRF] = secrets.token_urlsafe(32)
    return str(session[CSRF])


def is_forged(request: Request) -> bool:
    """Whether a POST comes from elsewhere than a form of ours in this session."""
    # A browser says so itself, whatever name a proxy in between puts into Host.
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is None and origin is not None and origin.partition("://")[2] != request.host:
        return True
    if site not in {None, "same-origin", "none"}:
        return True
    expected = session.get(CSRF)
    sent = request.form.get(CSRF, "")
    return not expected or not hmac.compare_digest(str(expected).encode(), sent.encode())


def protect(response: Response, *, inline_style: str | None = None) -> Response:
    """Headers of every answer; `inline_style` is the one style sheet that may stand in the page."""
    style = "'self'" if inline_style is None else f"'sha256-{_digest(inline_style)}'"
    response.headers.setdefault("Content-Security-Policy", POLICY.format(style=style))
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["X-Frame-Options"] = "DENY"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
