"""The monitoring page: `ml-pipeline monitor`.

It listens on this machine only by default; its address holds a token there, and beyond it every
page asks for the one that is set.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType
from typing import Any, NoReturn
from uuid import uuid4

from ml_pipeline.commands import common
from ml_pipeline.commands.progress import held
from ml_pipeline.config.defaults import install_extra
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
LARGEST_HEADER = 16 * 1024
CONNECTIONS = 500
IDLE_S = 20
MOST_PROXIES = 10
Clock = Callable[[], datetime]

EXAMPLES = (
    "monitor",
    "monitor --port 9000",
    "monitor --host 0.0.0.0 --base-path /ml --trusted-proxies 1",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `monitor`."""
    common.add_common(parser, *EXAMPLES)
    parser.add_argument(
        "--host",
        default=HOST,
        help="address to listen on; beyond loopback the environment variable "
        f"{MONITOR_TOKEN_VARIABLE} has to name a token (default: %(default)s)",
    )
    parser.add_argument(
        "--port", type=int, default=PORT, help="0 takes a free one (default: %(default)s)"
    )
    add_proxies(parser, "MONITOR")


def add_proxies(parser: argparse.ArgumentParser, what: str) -> None:
    """Declare what stands in front, also by `ML_PIPELINE_WHAT_…`."""
    base_path, trusted = f"ML_PIPELINE_{what}_BASE_PATH", f"ML_PIPELINE_{what}_TRUSTED_PROXIES"
    parser.add_argument(
        "--base-path",
        default=os.environ.get(base_path, ""),
        metavar="PATH",
        help="path under which a proxy shows it, such as /ml (or the environment variable "
        f"{base_path}; default: none)",
    )
    parser.add_argument(
        "--trusted-proxies",
        type=_proxies,
        default=os.environ.get(trusted, "0"),
        metavar="N",
        help="how many proxies stand in front, whose X-Forwarded headers are believed (or the "
        f"environment variable {trusted}; default: 0)",
    )


def _proxies(text: str) -> int:
    if not text.isdecimal() or int(text) > MOST_PROXIES:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of proxies (0 to {MOST_PROXIES})")
    return int(text)


def run(args: argparse.Namespace, *, clock: Clock, new_id: Callable[[], str]) -> int:
    """Serve until a signal comes; shows the address first."""
    try:
        import flask  # noqa: F401
        from waitress.server import create_server
    except ImportError as missing:
        raise ConfigError(
            f"The monitoring page needs {missing.name}.",
            hint=f"Install it with `{install_extra('monitor')}`.",
        ) from missing
    from ml_pipeline.store.opening import open_store
    from ml_pipeline.web.app import create_app
    from ml_pipeline.web.guard import Guard, is_loopback
    from ml_pipeline.web.proxies import Proxies

    token = load_monitor_token()
    made = token is None and is_loopback(args.host)
    # Every account of this machine reaches its loopback addresses.
    guard = Guard.for_host(args.host, secrets.token_urlsafe(24) if made else token)
    proxies = Proxies(base_path=args.base_path, trusted=args.trusted_proxies)
    settings = load_settings(common.path_or_none(args.config))
    store = open_store(load_store_settings(args.local))
    try:
        app = create_app(
            store,
            settings,
            guard,
            clock=clock,
            new_id=new_id,
            proxies=proxies,
        )
        server = listen(create_server, app, host=args.host, port=args.port)
        url = f"http://{named(args.host)}:{server.effective_port}{proxies.base_path}/"
        log.info("The monitoring page of %s is at %s", settings.model_name, url)
        if made:
            url += f"?token={guard.token}"
            log.info("Open the address that stands on stdout: it signs you in, until this ends")
        common.answer(
            args,
            {"status": "serving", "url": url, "token": guard.requires_token},
            lambda: [f"The monitoring page: {url}", "Ctrl-C ends it."],
        )
        signal.signal(signal.SIGTERM, _end)
        # The page must not slow a run on the same machine.
        os.nice(NICENESS)
        interrupts = common.remember_interrupts()
        with held():
            server.run()
    finally:
        store.close()
    # The server takes the exception for itself.
    return common.stopped(for_people=True) if interrupts else 0


def listen(create_server: Any, app: object, *, host: str, port: int) -> Any:  # noqa: ANN401
    """A server of Waitress with bounds on what a caller may send and how long it may dawdle."""
    from ml_pipeline.web.app import LARGEST_FORM

    try:
        return create_server(
            app,
            host=host,
            port=port,
            threads=THREADS,
            ident="ml-pipeline",
            # A body is held until it is whole, before anything of ours sees its length.
            max_request_body_size=LARGEST_FORM,
            max_request_header_size=LARGEST_HEADER,
            # Connections that send nothing, or half a request, must not keep others out.
            connection_limit=CONNECTIONS,
            channel_timeout=IDLE_S,
            cleanup_interval=IDLE_S // 2,
            asyncore_use_poll=True,
            # What proxies say is believed, or not, where it is used: see `web.proxies`.
            clear_untrusted_proxy_headers=False,
        )
    except OSError as error:
        raise ConfigError(
            f"{host}:{port} cannot be listened on: {error.strerror or error}.",
            hint="Give another --host or --port.",
        ) from error


def named(host: str) -> str:
    """A host as an address has it."""
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
