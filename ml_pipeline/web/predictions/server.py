"""Waitress with bounds on what callers send and how long they take, and an end that is no cut."""

from __future__ import annotations

import json
import logging
import resource
import time
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer, create_server
from waitress.task import ErrorTask, WSGITask
from waitress.trigger import trigger

from ml_pipeline.errors import ConfigError
from ml_pipeline.web.predictions.bodies import LARGEST_BODY
from ml_pipeline.web.predictions.problems import MEDIA_TYPE, Problem

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger("serve")

THREADS: Final = 16
LARGEST_HEADER: Final = 16 * 1024
CONNECTIONS: Final = 4000
_OTHER_FILES: Final = 100
IDLE_S: Final = 20
# From its first byte to its last.
REQUEST_S: Final = 20
GRACE_S: Final = 20
# A request that is not whole when the end comes.
PARTIAL_GRACE_S: Final = 2
_TICK_S: Final = 1.0


class _Answer(WSGITask):  # type: ignore[misc]  # waitress has no types
    """Tells the caller that the connection ends, when the server does."""

    wrote_header = False

    def start(self) -> None:
        super().start()
        if getattr(self.channel.server, "is_ending", False):
            self.set_close_on_finish()

    def write(self, data: bytes) -> None:
        """Headers and body by one call of the system: an answer is one piece."""
        if self.wrote_header or not self.complete or self.content_length != len(data):
            super().write(data)
            return
        self.wrote_header = True
        self.content_bytes_written = len(data)
        self.channel.write_soon(self.build_response_header() + data)


class _Refusal(ErrorTask):  # type: ignore[misc]
    """What cannot be read as HTTP, or is too large, is answered as everything else."""

    def execute(self) -> None:
        error = self.request.error
        problem = Problem(HTTPStatus(error.code), f"{error.reason}: {error.body}.")
        body = json.dumps(problem.body).encode()
        self.status = f"{error.code} {problem.status.phrase}"
        self.response_headers.append(("Content-Type", MEDIA_TYPE))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):  # type: ignore[misc]
    task_class = _Answer
    error_task_class = _Refusal
    began_at = 0.0

    def received(self, data: bytes) -> Any:  # noqa: ANN401 - waitress's own
        if self.request is None:
            self.began_at = time.monotonic()
        return super().received(data)

    @property
    def is_partial(self) -> bool:
        """Whether a request has begun and is not whole."""
        return self.request is not None

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        return bool(self.requests or self.total_outbufs_len)


class Server:
    """An application that is listened for. `run` returns after `stop`, which signals may call."""

    def __init__(
        self, app: WSGIApplication, *, host: str, port: int, request_s: float = REQUEST_S
    ) -> None:
        """Raises ConfigError for an address that cannot be listened on.

        `request_s` is how long a request may take to become whole.
        """
        self._request_s = request_s
        self._map: dict[int, Any] = {}
        try:
            self._server = create_server(
                app,
                map=self._map,
                host=host,
                port=port,
                threads=THREADS,
                ident="ml-pipeline",
                # A body is held until it is whole, before anything of ours sees its length.
                max_request_body_size=LARGEST_BODY,
                max_request_header_size=LARGEST_HEADER,
                connection_limit=_connections(),
                channel_timeout=IDLE_S,
                cleanup_interval=IDLE_S // 2,
                asyncore_use_poll=True,
                # What proxies say is believed, or not, where it is used: see `web.proxies`.
                clear_untrusted_proxy_headers=False,
            )
        except OSError as error:
            for server in self._of(BaseWSGIServer):
                server.task_dispatcher.shutdown(timeout=1)
            wasyncore.close_all(self._map)
            raise ConfigError(
                f"{host}:{port} cannot be listened on: {error.strerror or error}.",
                hint="Give another --host or --port.",
            ) from error
        for server in self._of(BaseWSGIServer):
            server.channel_class = _Channel
        # It warns of each request that waits for a thread.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._is_ending = False

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._of(BaseWSGIServer)[0].effective_port)

    def _of(self, kind: type) -> list[Any]:
        return [found for found in list(self._map.values()) if isinstance(found, kind)]

    def stop(self) -> None:
        """Let `run` end: what has been asked is answered, and nothing new is taken."""
        self._is_ending = True
        for waker in self._of(trigger):
            # Or the loop has ended in between.
            with suppress(OSError):
                waker.pull_trigger()

    def run(self) -> None:
        """Serve until `stop`, and then what is on its way."""
        while not self._is_ending:
            self._turn(_TICK_S)
            self._end_slow_ones()
        self._drain()

    def _turn(self, timeout: float) -> None:
        wasyncore.loop(timeout=timeout, use_poll=True, map=self._map, count=1)

    def _end_slow_ones(self) -> None:
        """Close connections whose request does not become whole."""
        now = time.monotonic()
        for channel in self._of(_Channel):
            late = now - channel.began_at > self._request_s
            if late and channel.is_partial and not channel.is_busy:
                channel.will_close = True

    def _drain(self) -> None:
        log.info("Ending: what was asked is answered first")
        # Who has connected already is heard: a turn takes one of them, and reads of it in the next.
        for server in self._of(BaseWSGIServer):
            known = -1
            while known != len(self._map):
                known = len(self._map)
                server.handle_accept()
        self._turn(0)
        dispatcher = self._of(BaseWSGIServer)[0].task_dispatcher
        for server in self._of(BaseWSGIServer):
            server.is_ending = True
            wasyncore.dispatcher.close(server)
        began = time.monotonic()
        while (channels := self._of(_Channel)) and time.monotonic() - began < GRACE_S:
            for channel in channels:
                late = time.monotonic() - began > PARTIAL_GRACE_S
                if not channel.is_busy and (late or not channel.is_partial):
                    channel.handle_close()
            self._turn(0.05)
        dispatcher.shutdown(timeout=1)
        wasyncore.close_all(self._map)


def _connections() -> int:
    """How many connections are taken at once: as many as this process may have open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return max(_OTHER_FILES, min(CONNECTIONS, soft - _OTHER_FILES))
    return CONNECTIONS
