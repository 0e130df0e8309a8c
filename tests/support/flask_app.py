"""A web application that watches its model: what the README shows, served by several workers."""

from __future__ import annotations

import os

from flask import Flask

from ml_pipeline.decay.watching import start_retrain_monitor


def create_app() -> Flask:
    """Make the application; each worker calls this."""
    app = Flask(__name__)
    monitor = start_retrain_monitor(interval_minutes=60)

    @app.get("/")
    def home() -> dict[str, object]:
        return {"pid": os.getpid(), "holder": monitor.holder, "running": monitor.is_running}

    return app
