"""One URL for everything, as on Supabase: keys are checked, requests routed, faults injected."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.supabase.faults import Action, Faults, Rule
from tests.support.supabase.keys import KeyRing
from tests.support.supabase.messages import HungUp, Reply, Request, Upstream, json_reply
from tests.support.supabase.servers import Rest

KEYLESS = re.compile(r"^/storage/v1/object/(public|sign|upload/sign)/")
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "host", "content-length", "te"}
NO_KEY = {
    "message": "No API key found in request",
    "hint": "No `apikey` request header or url param was found.",
}
WRONG_KEY = {
    "message": "Invalid API key",
    "hint": "Double check your Supabase `anon` or `service_role` API key.",
}


@dataclass(slots=True)
class Exchange:
    """One request as the gateway saw it; bytes are those of the bodies.

    `status` stays None while it is under way, and when it was left without an answer.
    """

    method: str
    path: str
    query: str
    bytes_in: int
    bytes_out: int = 0
    status: int | None = None


def postgrest(choose: Callable[[], Rest]) -> Upstream:
    """Forward to the PostgREST that `choose` names, unchanged but for the prefix."""

    def forward(request: Request) -> Reply:
        connection = choose().connect()
        try:
            connection.putrequest(
                request.method, request.target, skip_host=True, skip_accept_encoding=True
            )
            for name, value in _end_to_end(request.headers.items()):
                connection.putheader(name, value)
            connection.putheader("Host", "localhost")
            connection.putheader("Content-Length", str(len(request.body)))
            connection.endheaders(request.body)
            response = connection.getresponse()
            headers = _end_to_end(response.getheaders())
            return Reply(status=response.status, headers=headers, body=response.read())
        finally:
            connection.close()

    return forward


def _end_to_end(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in HOP_BY_HOP]


@dataclass(slots=True)
class Gateway:
    """The HTTP server in front; `requests` holds what came by since the last reset."""

    keys: KeyRing
    upstreams: dict[str, Upstream]
    faults: Faults = field(default_factory=Faults)
    requests: list[Exchange] = field(default_factory=list)
    resets: int = 0
    server: _Server = field(init=False)

    def __post_init__(self) -> None:
        self.server = _Server(self)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def bytes_in(self) -> int:
        """Bytes of all bodies that clients sent."""
        return sum(exchange.bytes_in for exchange in self.requests)

    @property
    def bytes_out(self) -> int:
        """Bytes of all bodies that clients were sent."""
        return sum(exchange.bytes_out for exchange in self.requests)

    def fault(
        self, action: Action, *, method: str = "*", path: str = "", nth: int = 1, times: int = 1
    ) -> Rule:
        """Play `action` on the matching requests from the nth on, `times` times.

        `path` is a regular expression searched for in `/rest/v1/…?query`.
        """
        return self.faults.add(action, method=method, path=path, nth=nth, times=times)

    def reset(self) -> None:
        """Forget faults and records; what still hangs is dropped, not forwarded."""
        self.resets += 1
        self.faults.clear()
        self.requests.clear()

    def close(self) -> None:
        self.reset()
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: Request) -> Reply:
        """Serve one request, or play the fault that strikes it."""
        resets = self.resets

        def forward(request: Request) -> Reply:
            if self.resets != resets:
                raise HungUp
            return self._forward(request)

        action = self.faults.take(request)
        return action(request, forward) if action else forward(request)

    def _forward(self, request: Request) -> Reply:
        prefix, _, rest = request.path.lstrip("/").partition("/v1")
        upstream = self.upstreams.get(prefix)
        if upstream is None:
            return json_reply(404, {"message": "no Route matched with those values"})
        if not KEYLESS.match(request.path):
            refused = self._refusal(request)
            if refused:
                return refused
        return upstream(replace(self._signed(request), path=rest or "/"))

    def _refusal(self, request: Request) -> Reply | None:
        key = _api_key(request)
        if not key:
            return json_reply(401, NO_KEY)
        return None if self.keys.knows(key) else json_reply(401, WRONG_KEY)

    def _signed(self, request: Request) -> Request:
        """Add the Authorization that the key stands for."""
        given = request.headers.get("Authorization")
        wanted = self.keys.authorization(_api_key(request), given)
        return request.with_authorization(wanted) if wanted and wanted != given else request


def _api_key(request: Request) -> str:
    return request.headers.get("apikey") or request.parameter("apikey")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.gateway = gateway

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet about clients that left; show everything else."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: _Server

    def serve(self) -> None:
        request = self._read()
        exchange = Exchange(request.method, request.path, request.query, len(request.body))
        self.server.gateway.requests.append(exchange)
        try:
            reply = self.server.gateway.answer(request)
        except HungUp:
            self.close_connection = True
            return
        exchange.bytes_out = len(reply.body)
        exchange.status = reply.status
        self._write(reply)

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Serve every method alike; the base class looks for `do_GET` and its like."""
        if name.startswith("do_"):
            return self.serve
        raise AttributeError(name)

    def _read(self) -> Request:
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("Content-Length") or 0)
        headers = HTTPMessage()
        for name, value in self.headers.items():
            headers[name] = value
        return Request(
            method=self.command,
            path=path,
            query=query,
            headers=headers,
            body=self.rfile.read(length),
        )

    def _write(self, reply: Reply) -> None:
        length = len(reply.body) if reply.length is None else reply.length
        self.send_response_only(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        if reply.status not in {204, 304}:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
            # An answer that was cut short can only end with the connection.
            self.close_connection = self.close_connection or len(reply.body) < length
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay off stderr; `Gateway.requests` is the log."""
