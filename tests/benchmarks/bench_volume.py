"""What moves between a quiet installation and its Supabase.

`python -m tests.benchmarks.bench_volume`: a real database behind a real PostgREST and a proxy that
counts bytes in both directions, headers included. It holds 40 nightly runs whose details are 300 kB
each and 5,000 rows a day of the last 35 days. A few real cycles are counted: polls of the worker,
views of the page and of `/health`, checks of `decay`; a day's megabytes follow from how often each
comes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from ml_pipeline import cli
from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.runs.children import Done
from ml_pipeline.runs.schedule import Schedule
from ml_pipeline.runs.worker import Duties, Worker
from ml_pipeline.store.opening import open_store
from ml_pipeline.web.app import create_app
from ml_pipeline.web.guard import Guard
from ml_pipeline.web.queries import FRESH_SECONDS
from tests.support import league
from tests.support.counting import Counter, counting, fill
from tests.support.supabase.project import SupabaseProject, open_project

POLL, VIEW, CHECK = timedelta(seconds=60), timedelta(seconds=30), timedelta(hours=1)
DAY = timedelta(days=1)


class Clock:
    """The time of a worker, which goes on when the worker waits."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def is_set(self) -> bool:
        """Never: the polls are counted."""
        return False

    def wait(self, timeout: float | None = None, /) -> bool:
        """Let the time go on."""
        self.now += timedelta(seconds=timeout or 0)
        return False


def worker(counter: Counter, variables: dict[str, str], cycles: int) -> dict[str, float]:
    """Megabytes of a poll's first read, and of a day of polls on which nothing happens."""
    clock = Clock()
    it = Worker(
        settings=league.settings_for(),
        duties=Duties(schedule=Schedule(every=DAY), poll=POLL),
        holder="bench",
        open_store=lambda: open_store(load_store_settings(environment=variables)),
        perform=lambda *_, **__: Done(code=0, result={}, pid=1),
        report=lambda _: None,
        clock=lambda: clock.now,
    )
    it._do_what_is_due(clock)
    first = counter.taken()[1]
    for _ in range(cycles):
        clock.wait(POLL.total_seconds())
        it._do_what_is_due(clock)
    moved = counter.taken()[1]
    return {"first": first / 1e6, "polls a day": moved / cycles * (DAY / POLL) / 1e6}


def page(counter: Counter, variables: dict[str, str], cycles: int) -> dict[str, float]:
    """Megabytes of the first view, of a day's views every 30 s, and of as many health checks."""
    store = open_store(load_store_settings(environment=variables))
    app = create_app(
        store, league.settings_for(), Guard.for_host("127.0.0.1", None),
        clock=lambda: datetime.now(UTC), new_id=league.ids(),
    )  # fmt: skip
    client, found = app.test_client(), {}
    assert client.get("/").status_code == 200
    found["first"] = counter.taken()[1] / 1e6
    for name, path in (("views a day", "/"), ("health checks a day", "/health")):
        for _ in range(cycles):
            time.sleep(FRESH_SECONDS * 1.05)
            assert client.get(path).status_code == 200
        found[name] = counter.taken()[1] / cycles * (DAY / VIEW) / 1e6
    store.close()
    return found


def checks(counter: Counter, command: Callable[..., Any]) -> dict[str, float]:
    """Megabytes of the first check of all, of the daily one, and of one of the other 23."""
    found = {}
    for name, arguments in (
        ("first", ["decay"]), ("daily", ["decay"]), ("hourly", ["decay", "--quick"]),
        ("status", ["status"]),
    ):  # fmt: skip
        command(*arguments)
        found[name] = counter.taken()[1] / 1e6
    found["a day"] = found["daily"] + 23 * found["hourly"]
    return found


def measure(project: SupabaseProject, cycles: int, sizes: dict[str, int]) -> dict[str, Any]:
    """Fill the project and count."""
    folder = files("ml_pipeline") / "sql" / "supabase"
    scripts = sorted(folder.iterdir(), key=lambda script: script.name)
    project.apply("\n".join(script.read_text(encoding="utf-8") for script in scripts))
    fill(project, datetime.now(UTC), **sizes)
    with counting(project.url) as counter, TemporaryDirectory() as scratch:
        variables = {"SUPABASE_URL": counter.url, "SUPABASE_SERVICE_KEY": project.service_key}
        config = Path(scratch) / "model_config.yaml"
        config.write_text("model_name: default\n", encoding="utf-8")

        def command(*arguments: str) -> None:
            output = StringIO()
            with (
                patch.dict("os.environ", variables),
                redirect_stdout(output),
                redirect_stderr(StringIO()),
            ):
                code = cli.main([*arguments, "--config", str(config)])
            if code != 0:
                raise SystemExit(f"{arguments} ended with {code}: {output.getvalue()}")

        return {
            "worker": worker(counter, variables, cycles),
            "page": page(counter, variables, cycles),
            "decay": checks(counter, command),
        }


def main() -> None:
    """Print one JSON object, megabytes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--rows", type=int, default=5_000, help="a day")
    parser.add_argument("--days", type=int, default=35)
    args = parser.parse_args()
    sizes = {"runs": args.runs, "rows": args.rows, "days": args.days}
    with open_project() as project:
        found = measure(project, args.cycles, sizes)
    rounded = {part: {k: round(v, 3) for k, v in each.items()} for part, each in found.items()}
    print(json.dumps({"megabytes": rounded, **sizes}, indent=1))


if __name__ == "__main__":
    main()
