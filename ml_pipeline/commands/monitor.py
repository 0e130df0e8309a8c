"""The monitoring page: `ml-pipeline monitor`.

It listens on this machine only by default; beyond it every page asks for a token.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType
from typing import Any, NoReturn
from uuid import uuid4

from ml_pipeline.commands import common
from ml_pipeline.config.environment import (
    MONITOR_TOKEN_VARIABLE,
    load_monitor_token,
    load_store_settings,
)
from ml_pipeline.config.settings import load_settings
from ml_pipeline.errors import ConfigError

log = logging.getLogger("monitor")

HOST, PORT = "127.0.0.1", 8000
THREADS = 8
NICENESS = 10
Clock = Callable[[], datetime]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `monitor`."""
    common.add_common(parser)
    parser.add_argument(
        "--host",
        default=HOST,
        help="address to listen on; beyond loopback the environment variable "
        f"{MONITOR_TOKEN_VARIABLE} has to name a token (default: %(default)s)",
    )
    parser.add_argument(
        "--port", type=int, default=PORT, help="0 takes a free one (default: %(default)s)"
    )


def run(args: argparse.Namespace, *, clock: Clock, new_id: Callable[[], str]) -> int:
    """Serve until a signal comes; prints JSON with the address first."""
    try:
        import flask  # noqa: F401
        from waitress.server import create_server
    except ImportError as missing:
        raise ConfigError(
            f"The monitoring page needs {missing.name}.",
            hint='Install it with `pip install -e ".[monitor]"`.',
        ) from missing
    from ml_pipeline.store.opening import open_store
    from ml_pipeline.web.app import create_app
    from ml_pipeline.web.guard import Guard

    guard = Guard.for_host(args.host, load_monitor_token())
    settings = load_settings(common.path_or_none(args.config))
    store = open_store(load_store_settings(args.local))
    try:
        app = create_app(store, settings, guard, clock=clock, new_id=new_id)
        server = _listen(create_server, app, args.host, args.port)
        url = f"http://{_named(args.host)}:{server.effective_port}/"
        log.info("The monitoring page of %s is at %s", settings.model_name, url)
        common.print_json({"status": "serving", "url": url, "token": guard.requires_token})
        signal.signal(signal.SIGTERM, _end)
        # The page must not slow a run on the same machine.
        os.nice(NICENESS)
        server.run()
    finally:
        store.close()
    return 0


def _listen(create_server: Any, app: object, host: str, port: int) -> Any:  # noqa: ANN401
    try:
        return create_server(app, host=host, port=port, threads=THREADS, ident="ml-pipeline")
    except OSError as error:
        raise ConfigError(
            f"{host}:{port} cannot be listened on: {error.strerror or error}.",
            hint="Give another --host or --port.",
        ) from error


def _named(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main(
        "monitor",
        __doc__,
        add_arguments,
        lambda args: run(args, clock=lambda: datetime.now(UTC), new_id=lambda: str(uuid4())),
        argv,
    )
