"""A monitoring page that is served from a thread, and stores for it to show."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from waitress import wasyncore
from waitress.server import create_server

from ml_pipeline.commands.monitor import listen
from ml_pipeline.config.settings import Settings
from ml_pipeline.store.contract import Store
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import Outcome, RequestStatus, RunStatus
from ml_pipeline.web.app import create_app
from ml_pipeline.web.guard import Guard
from ml_pipeline.web.proxies import Proxies
from tests.support import league
from tests.support.factories import (
    NOW,
    make_alert,
    make_day,
    make_finished_run,
    make_id,
    make_model,
    make_promotion,
    make_request,
)

HOSTILE = "<img src=x onerror=\"window.hacked='yes'\"><script>window.hacked='yes'</script>{{7*7}}"
TOKEN = "correct horse battery staple"
MANY = 10_000
NAME = "default"


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """A page, its address, and the store behind it."""

    url: str
    port: int
    store: Store


@contextmanager
def serving(
    store: Store,
    settings: Settings,
    *,
    now: Callable[[], datetime] = lambda: NOW,
    token: str | None = None,
    proxies: Proxies | None = None,
) -> Iterator[Served]:
    """Serve the page of a store on a free port of this machine."""
    guard = Guard.for_host("127.0.0.1", token)
    app = create_app(store, settings, guard, clock=now, new_id=league.ids(), proxies=proxies)
    server = listen(create_server, app, host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        port = server.effective_port
        yield Served(url=f"http://127.0.0.1:{port}", port=port, store=store)
    finally:
        # Whatever is open is closed by the thread that serves it, and its loop ends.
        # It may wake by itself in between, and be gone before it is woken.
        with suppress(OSError):
            server.trigger.pull_trigger(lambda: wasyncore.close_all(server._map))
        thread.join(10)
        server.task_dispatcher.shutdown()


def fill_with_many(folder: Path) -> LocalStore:
    """Ten thousand runs of thirty years, and on top of them something hostile in every field."""
    store = LocalStore.open(folder)
    store.start_run(make_finished_run_running())
    store.finish_run(make_finished_run(1, model_name=NAME))
    with sqlite3.connect(folder / "store.db") as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(model_retraining_runs)")]
        changed = {
            "id": "printf('00000000-0000-4000-8000-%012d', n)",
            "started_at": "strftime('%Y-%m-%dT%H:%M:%S', started_at, '-' || n || ' days') "
            "|| '.000000+00:00'",
        }
        values = ", ".join(changed.get(name, name) for name in columns)
        db.execute(
            f"INSERT INTO model_retraining_runs ({', '.join(columns)}) "  # noqa: S608
            "WITH RECURSIVE numbers(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM numbers "
            f"WHERE n < {MANY}) SELECT {values} FROM model_retraining_runs, numbers"
        )
    db.close()
    _be_hostile(store)
    return store


def make_finished_run_running() -> Any:  # noqa: ANN401 - a run
    """The row that the first run began as."""
    from tests.support.factories import make_run

    return make_run(1, model_name=NAME)


def _be_hostile(store: LocalStore) -> None:
    from tests.support.factories import make_run

    at = NOW + timedelta(hours=1)
    changes: dict[str, Any] = {"model_name": NAME, "started_at": at, "heartbeat_at": at}
    store.start_run(make_run(20_001, **changes))
    errors = {
        "total": 1,
        "by_class": [{"said": HOSTILE, "was": HOSTILE, "rows": 1}],
        "by_confidence": [{"from": 0.7, "to": 1.0, "rows": 1}],
        "by_segment": [],
        "most_confident": [
            {"event_id": HOSTILE, "match_id": HOSTILE, "known_at": HOSTILE, "model_id": HOSTILE,
             "said": HOSTILE, "was": HOSTILE, "confidence": 0.9, "features": {HOSTILE: 1.0}}
        ],
    }  # fmt: skip
    store.finish_run(
        make_finished_run(
            20_001,
            **changes
            | {
                "status": RunStatus.FAILED,
                "outcome": Outcome.FAILED,
                "outcome_reason": HOSTILE,
                "error_message": HOSTILE,
                "completed_at": at + timedelta(minutes=1),
                "champion_id": HOSTILE,
                "challenger_id": HOSTILE,
                "details": {
                    "review": {"errors": errors, "config_changes": {HOSTILE: [HOSTILE, None]}},
                    "class_days": {
                        "labels": [HOSTILE, "no"],
                        "days": {"2026-03-13": [[0, 9, 8, 7, 5], [1, 99, 98, 97, 90]]},
                    },
                },
            },
        )
    )
    for model_id in (HOSTILE, "m-2"):
        store.register(make_model(model_id, model_name=NAME))
        store.promote(
            make_promotion(
                model_id, None if model_id == HOSTILE else HOSTILE, len(model_id),
                model_name=NAME, reason=HOSTILE,
            )
        )  # fmt: skip
    store.submit(make_request(7, model_name=NAME, reason=HOSTILE, status=RequestStatus.PENDING))
    store.open_alert(make_alert(8, model_name=NAME, message=HOSTILE, metric=HOSTILE))
    store.keep_days([make_day(n, model_name=NAME, model_id=HOSTILE) for n in (1, 2, 3)], now=NOW)


__all__ = ["HOSTILE", "MANY", "NAME", "TOKEN", "Served", "fill_with_many", "make_id", "serving"]
