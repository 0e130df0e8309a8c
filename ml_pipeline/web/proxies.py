"""The page behind a proxy: whose headers are believed, and under which path it stands."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flask import Flask, request
from flask.sessions import SecureCookieSessionInterface
from werkzeug.middleware.proxy_fix import ProxyFix

from ml_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class CookieAsSent(SecureCookieSessionInterface):
    """Sessions whose cookie is `Secure` where the browser came by HTTPS, and one of each port."""

    def get_cookie_name(self, app: Flask) -> str:
        """The name with the port of the page: browsers send cookies to every port of a host."""
        port = request.host.rpartition(":")[2]
        name = super().get_cookie_name(app)
        return f"{name}_{port}" if port.isdecimal() and port.isascii() else name

    def get_cookie_path(self, app: Flask) -> str:  # noqa: ARG002 - the base class's signature
        """The path under which the page stands, also where another application mounts it."""
        return request.script_root or "/"

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002 - the base class's signature
        """Whether the browser may send the cookie by HTTPS alone."""
        return request.is_secure


@dataclass(frozen=True, kw_only=True, slots=True)
class Proxies:
    """What stands in front: the path under which the page is shown, and how many are believed.

    What a proxy says of address, scheme and host of the browser (`X-Forwarded-For`, `-Proto`,
    `-Host`) is believed of the last `trusted` alone: everybody else could say it as well.
    Raises ConfigError for a path that is none.
    """

    base_path: str = ""
    trusted: int = 0

    def __post_init__(self) -> None:
        path = self.base_path.strip().strip("/")
        if not re.fullmatch(r"([A-Za-z0-9_~-][A-Za-z0-9._~-]*(/|$))*", path):
            raise ConfigError(
                f"--base-path {self.base_path!r} is no path of a page.",
                hint="It looks like /ml or /tools/ml.",
            )
        object.__setattr__(self, "base_path", f"/{path}" if path else "")


def place_behind(app: Flask, proxies: Proxies) -> None:
    """Let the application stand under its path, and believe the proxies that are trusted."""
    app.session_interface = CookieAsSent()
    app.wsgi_app = placed(app.wsgi_app, proxies)  # type: ignore[assignment,method-assign]


def placed(inner: WSGIApplication, proxies: Proxies) -> WSGIApplication:
    """The same for any application: under its path, and by what trusted proxies say."""
    if proxies.base_path:
        inner = _Under(inner, proxies.base_path)
    if proxies.trusted:
        hops = proxies.trusted
        inner = ProxyFix(inner, x_for=hops, x_proto=hops, x_host=hops)
    return inner


class _Under:
    """The application under a path, whether the proxy has taken that path off or not."""

    def __init__(self, inner: WSGIApplication, base_path: str) -> None:
        self._inner = inner
        self._base = base_path

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path: str = environ.get("PATH_INFO", "")
        if path == self._base or path.startswith(f"{self._base}/"):
            environ["PATH_INFO"] = path.removeprefix(self._base) or "/"
        environ["SCRIPT_NAME"] = self._base
        return self._inner(environ, start)
