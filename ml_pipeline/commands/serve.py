"""Predictions, outcomes and labels over HTTP: `ml-pipeline serve`.

It listens on this machine only by default, and asks for a token always: the one that is set, else
one that it makes and prints. A new champion is taken up within seconds, and one that cannot be
loaded is not. While the store is away predictions go on, and wait in the log.
"""

from __future__ import annotations

import argparse
import logging
import secrets
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType

from ml_pipeline.commands import common
from ml_pipeline.commands.monitor import add_proxies, named
from ml_pipeline.commands.progress import held
from ml_pipeline.config.defaults import install_extra
from ml_pipeline.config.environment import SERVE_TOKEN_VARIABLE, load_serve_token
from ml_pipeline.config.settings import load_settings
from ml_pipeline.errors import ConfigError

log = logging.getLogger("serve")

HOST, PORT = "127.0.0.1", 8001
DELIVERED_WITHIN_S = 5.0
# Threads take turns on Python's lock; by default one that calculates keeps it for five.
TURN_S = 0.001
Clock = Callable[[], datetime]

EXAMPLES = (
    "serve",
    "serve --port 9001",
    "serve --host 0.0.0.0 --base-path /predictions --trusted-proxies 1",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `serve`."""
    common.add_common(parser, *EXAMPLES)
    parser.add_argument(
        "--host",
        default=HOST,
        help="address to listen on; beyond loopback the environment variable "
        f"{SERVE_TOKEN_VARIABLE} has to name a token (default: %(default)s)",
    )
    parser.add_argument(
        "--port", type=int, default=PORT, help="0 takes a free one (default: %(default)s)"
    )
    add_proxies(parser, "SERVE")


def run(args: argparse.Namespace, *, clock: Clock) -> int:
    """Serve until a signal comes; shows the address first."""
    try:
        import flask  # noqa: F401 - what stands around it is the page's
        import waitress  # noqa: F401
    except ImportError as missing:
        raise ConfigError(
            f"The HTTP service needs {missing.name}.",
            hint=f"Install it with `{install_extra('serve')}`.",
        ) from missing
    from ml_pipeline.serving.hosted.service import PredictionService
    from ml_pipeline.web.guard import Guard, is_loopback
    from ml_pipeline.web.predictions.app import PredictionApp
    from ml_pipeline.web.predictions.server import Server
    from ml_pipeline.web.proxies import Proxies, placed

    token = load_serve_token()
    made = token is None and is_loopback(args.host)
    guard = Guard.for_host(
        args.host, secrets.token_urlsafe(24) if made else token, variable=SERVE_TOKEN_VARIABLE
    )
    proxies = Proxies(base_path=args.base_path, trusted=args.trusted_proxies)
    settings = load_settings(common.path_or_none(args.config))
    with PredictionService.open(
        settings, local_dir=args.local, config_file=args.config, clock=clock
    ) as service:
        app = placed(PredictionApp(service, guard), proxies)
        server = Server(app, host=args.host, port=args.port)
        url = f"http://{named(args.host)}:{server.port}{proxies.base_path}/"
        log.info("Predictions of %s are at %s", settings.model_name, url)
        if made:
            url += f"?token={guard.token}"
            log.info("The address on stdout has the token, which holds until this ends")

        received = list[int]()

        def end(number: int, _frame: FrameType | None) -> None:
            received.append(number)
            service.is_ending = True
            server.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        sys.setswitchinterval(TURN_S)
        common.answer(
            args,
            {"status": "serving", "url": url, "token": True},
            lambda: [f"Predictions are answered at {url}", "Ctrl-C ends it."],
        )
        with held():
            server.run()
        service.logger.close(within_s=DELIVERED_WITHIN_S)
    return common.stopped(for_people=True) if signal.SIGINT in received else 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main(
        "serve", __doc__, add_arguments, lambda args: run(args, clock=lambda: datetime.now(UTC)),
        argv,
    )  # fmt: skip
