"""What the environment says about proxies and certificates, for the project's address alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from pydantic import SecretStr

from ml_pipeline.errors import ConfigError, StoreUnavailable
from ml_pipeline.store.supabase.network import certificates, proxy_of
from ml_pipeline.store.supabase.transport import Project, Timeouts

URL = "https://project.supabase.co"
ONCE = Timeouts(attempts=1)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("SSL_CERT"):
            monkeypatch.delenv(name)


def opened(url: str = URL) -> Project:
    return Project(url, SecretStr("sb_secret_key"), ONCE)


@pytest.mark.parametrize("entry", ["::1", "fd00::/8", "[::1]:8000", "10.0.0.0/8", ",,", "*.local"])
def test_o2_an_entry_for_other_hosts_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    monkeypatch.setenv("NO_PROXY", f"localhost,{entry}")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    proxy = proxy_of(URL)
    assert proxy is not None
    assert proxy.address.url.host == "proxy"
    opened().close()


@pytest.mark.parametrize("excepted", ["project.supabase.co", ".supabase.co", "*"])
def test_o2_no_proxy_excepts_the_project(monkeypatch: pytest.MonkeyPatch, excepted: str) -> None:
    monkeypatch.setenv("NO_PROXY", excepted)
    monkeypatch.setenv("HTTPS_PROXY", "ftp://nothing")
    assert proxy_of(URL) is None


@pytest.mark.parametrize(
    ("url", "entry", "is_excepted"),
    [
        ("http://localhost:54321", "localhost:54321", True),
        ("http://localhost:54321", "localhost:8000", False),
        ("http://localhost", "localhost:80", True),
        ("https://a.corp.test", "*.corp.test", True),
        ("https://a.corp.test", " .CORP.test ", True),
        ("https://acorp.test", "corp.test", False),
        ("https://acorp.test", "*.corp.test", False),
        ("http://10.1.2.3:8000", "10.0.0.0/8", True),
        ("http://11.1.2.3:8000", "10.0.0.0/8", False),
        ("http://10.1.2.3", "10.1.2.3:80", True),
        ("http://[::1]:8000", "[::1]", True),
        ("http://[::1]:8000", "::1", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("http://[::1]:8000", "[::1]:9000", False),
        ("http://[fd00::5]:8000", "fd00::/8", True),
    ],
)
def test_o2_no_proxy_is_read_in_each_of_its_forms(
    monkeypatch: pytest.MonkeyPatch, url: str, entry: str, is_excepted: object
) -> None:
    monkeypatch.setenv("NO_PROXY", f"other.test,{entry}")
    monkeypatch.setenv("ALL_PROXY", "http://proxy:3128")
    assert (proxy_of(url) is None) is is_excepted


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTPS_PROXY", "ftp://u:secret@proxy:21"),
        ("https_proxy", "http://u:secret@[::1:9"),
        ("ALL_PROXY", "http://u:secret@proxy:port"),
        ("all_proxy", "quic://u:secret@proxy"),
    ],
)
def test_o2_a_proxy_that_is_none_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=f"^{variable} ") as caught:
        opened()
    assert "secret" not in f"{caught.value} {caught.value.hint}"


def test_o2_a_socks_proxy_names_the_package_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://u:secret@proxy:1080")
    with pytest.raises(ConfigError, match=r"^ALL_PROXY names a SOCKS proxy") as caught:
        opened()
    assert "pip install socksio" in caught.value.hint


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_o2_certificates_that_cannot_be_read_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(ConfigError, match=r"SSL_CERT_FILE .*ca\.pem"):
        opened()
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="SSL_CERT_DIR"):
        certificates()


def test_a_netrc_does_not_replace_the_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: tuple[str, list[str]]
) -> None:
    url, seen = server
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert opened(url).call("anything") == []
    assert seen == ["/rest/v1/rpc/anything Bearer sb_secret_key"]


def test_o2_calls_go_through_the_proxy_and_its_absence_is_said(
    monkeypatch: pytest.MonkeyPatch, server: tuple[str, list[str]]
) -> None:
    address, seen = server
    monkeypatch.setenv("HTTP_PROXY", address.removeprefix("http://"))
    assert opened("http://project.test").call("anything") == []
    assert seen == ["http://project.test/rest/v1/rpc/anything Bearer sb_secret_key"]
    monkeypatch.setenv("HTTP_PROXY", "127.0.0.1:9")
    with pytest.raises(StoreUnavailable, match="through the proxy that HTTP_PROXY names"):
        opened("http://project.test").call("anything")


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A server that answers every call with no rows, and what it was asked with which key."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen.append(f"{self.path} {self.headers['Authorization']}")
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.server_port}", seen
    listener.shutdown()
    listener.server_close()
    thread.join()
