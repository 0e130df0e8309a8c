"""How a project is reached from here: the proxy and the certificates that the environment names.

The libraries read the environment of their own accord, fail on an entry that has nothing to do with
the project, and take passwords from `.netrc`; here one address is asked about, once.
"""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from ml_pipeline.errors import ConfigError

_SCHEMES: Final = ("http", "https", "socks5", "socks5h")


@dataclass(frozen=True, kw_only=True, slots=True)
class Proxy:
    """A proxy, and the environment variable that names it."""

    address: httpx.Proxy
    variable: str


def proxy_of(url: str) -> Proxy | None:
    """The proxy through which the address is reached, None for none.

    Raises ConfigError, without the proxy's own text, which may hold a password, for one that is
    none or that needs a package which is not installed.
    """
    parts = urlsplit(url)
    proxies = getproxies()
    kind = parts.scheme if proxies.get(parts.scheme) else "all"
    address = proxies.get(kind, "").strip()
    if not address or _is_excepted(parts):
        return None
    variable = _variable(f"{kind}_proxy")
    if "://" not in address:
        address = f"http://{address}"
    if address.partition("://")[0].lower() not in _SCHEMES:
        raise ConfigError(
            f"{variable} is of no kind of proxy that can be used here.",
            hint="Use http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT, or unset it.",
        )
    try:
        proxy = httpx.Proxy(address)
        httpx.HTTPTransport(proxy=proxy, verify=False).close()
    except ImportError:
        raise ConfigError(
            f"{variable} names a SOCKS proxy, for which the package socksio is missing.",
            hint="Install it with `pip install socksio`, or name an http:// proxy.",
        ) from None
    except (ValueError, httpx.InvalidURL):
        raise ConfigError(
            f"{variable} is not the address of a proxy.",
            hint="It looks like http://HOST:PORT; write characters such as @ : / in a password "
            "as %40 %3A %2F.",
        ) from None
    return Proxy(address=proxy, variable=variable)


def _is_excepted(parts: SplitResult) -> bool:
    """Whether NO_PROXY, or the system's own list, names the host.

    As a name or its ending (`.example.com`, `*.example.com`), as an address, with its port, or as a
    network (`10.0.0.0/8`); an IPv6 address may stand in brackets.
    """
    host = (parts.hostname or "").lower()
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    if proxy_bypass(host):
        return True
    for entry in getproxies().get("no", "").lower().split(","):
        name = entry.strip()
        if name.endswith(f":{port}") and (name.count(":") == 1 or "]" in name):
            name = name.removesuffix(f":{port}")
        name = name.removeprefix("*").strip("[]")
        if name and (name.lstrip(".") == host or host.endswith(f".{name.lstrip('.')}")):
            return True
        with suppress(ValueError):
            if ip_address(host) in ip_network(name, strict=False):
                return True
    return False


def certificates() -> ssl.SSLContext:
    """The certificates to trust: SSL_CERT_FILE or SSL_CERT_DIR where set, else the usual ones.

    Raises ConfigError when they cannot be read.
    """
    file, folder = (os.environ.get(name) or None for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"))
    if file is None and folder is None:
        return httpx.create_ssl_context(trust_env=False)
    if file is None and folder is not None and not Path(folder).is_dir():
        raise ConfigError(
            f"SSL_CERT_DIR names a folder that is not there: {folder}.",
            hint="Correct it, or unset it to trust the usual certificates.",
        )
    try:
        return ssl.create_default_context(cafile=file, capath=None if file else folder)
    except OSError as error:
        reason = error.strerror if error.filename is None and not error.errno else str(error)
        raise ConfigError(
            f"SSL_CERT_FILE names a file whose certificates cannot be read: {file} ({reason}).",
            hint="Correct it, or unset it to trust the usual certificates.",
        ) from None


def _variable(name: str) -> str:
    """The variable as it is written in the environment."""
    return next((found for found in (name, name.upper()) if os.environ.get(found)), name.upper())
