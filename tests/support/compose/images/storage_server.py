"""The tests' storage server behind the address and variables of supabase/storage-api."""

from __future__ import annotations

import os
from collections.abc import Callable
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support.supabase.keys import KeyRing
from tests.support.supabase.messages import Reply, Request, json_reply
from tests.support.supabase.storage import Storage

PORT = 5000


class Handler(BaseHTTPRequestHandler):
    """One request to `storage`; `/status` is what a health check asks for."""

    protocol_version = "HTTP/1.1"
    storage: Storage

    def serve(self) -> None:
        path, _, query = self.path.partition("?")
        headers = HTTPMessage()
        for name, value in self.headers.items():
            headers[name] = value
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(method=self.command, path=path, query=query, headers=headers, body=body)
        self._write(json_reply(200, {}) if path == "/status" else self.storage(request))

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Serve every method alike; the base class looks for `do_GET` and its like."""
        if name.startswith("do_"):
            return self.serve
        raise AttributeError(name)

    def _write(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        length = len(reply.body) if reply.length is None else reply.length
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)


def main() -> None:
    """Serve until the container is stopped."""
    given = os.environ
    keys = KeyRing(
        jwt_secret=given["PGRST_JWT_SECRET"],
        anon=given["ANON_KEY"],
        service=given["SERVICE_KEY"],
        publishable="",
        secret="",
    )
    Handler.storage = Storage(given["DATABASE_URL"], Path(given["FILE_STORAGE_BACKEND_PATH"]), keys)
    ThreadingHTTPServer(("0.0.0.0", PORT), Handler).serve_forever()  # noqa: S104 - in a container


if __name__ == "__main__":
    main()
