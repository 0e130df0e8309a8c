"""A Flask application with four workers runs one monitor, and another when that one dies."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ml_pipeline.decay.watching import CheckSchedule, Watcher
from ml_pipeline.store.contract import Store
from ml_pipeline.store.embedded.store import LocalStore
from tests.acceptance.words.test_decay import today
from tests.contract.kit.base import OpenStore
from tests.contract.supabase.callers import migrate
from tests.support.factories import frame_of
from tests.support.shell import PYTHON, environment
from tests.support.supabase.project import SupabaseProject

LEASE = "decay_monitor:default"
WORKERS = 4


@contextmanager
def served(folder: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """The application behind gunicorn."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [PYTHON, "-m", "gunicorn", "tests.support.flask_app:create_app()"]
    command += ["--workers", str(WORKERS), "--bind", f"127.0.0.1:{port}", "--no-control-socket"]
    log = (folder / "gunicorn.log").open("wb")
    with (
        log,
        subprocess.Popen(
            command, cwd=folder, env=environment(**variables), stdout=log, stderr=log
        ) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def until(what: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.2)


def lines(folder: Path, words: str) -> list[str]:
    """Lines of the monitor's log that hold the words."""
    path = folder / "logs" / "model_retrainer.log"
    text = path.read_text() if path.exists() else ""
    return [line for line in text.splitlines() if words in line]


def one_monitor_watches(folder: Path, store: Store, **variables: str) -> None:
    store.append_events(frame_of(today()))
    with served(folder, **variables):
        until(lambda: len(lines(folder, "another one watches") + lines(folder, ": watching")) == 4)
        until(lambda: len(lines(folder, "a retraining is queued")) == 1)
        assert len(lines(folder, ": watching")) == 1
        now = datetime.now(UTC)
        assert not store.take_lease(LEASE, holder="test", now=now, until=now)
    assert len(store.list_requests(model_name="default")) == 1
    # Every worker stopped cleanly: the lease was given back and does not have to run out.
    now = datetime.now(UTC)
    assert store.take_lease(LEASE, holder="test", now=now, until=now)


def test_four_workers_run_one_monitor_on_the_embedded_store(tmp_path: Path) -> None:
    store = LocalStore.open(tmp_path / "store")
    one_monitor_watches(tmp_path, store, ML_PIPELINE_LOCAL=str(tmp_path / "store"))


@pytest.mark.long
def test_four_workers_run_one_monitor_on_supabase(
    supabase: SupabaseProject, tmp_path: Path
) -> None:
    from pydantic import SecretStr

    from ml_pipeline.store.supabase.store import SupabaseStore

    supabase.blank()
    migrate(supabase)
    store = SupabaseStore.open(supabase.url, SecretStr(supabase.service_key))
    try:
        one_monitor_watches(
            tmp_path, store, SUPABASE_URL=supabase.url, SUPABASE_SERVICE_KEY=supabase.service_key
        )
    finally:
        store.close()


# ------------------------------------------------------------------------------------ watching


class Turns:
    """An event that ends after some waits, and lets the clock go on at each."""

    def __init__(self, count: int, wait: Callable[[], None]) -> None:
        self.left, self.wait_for = count, wait

    def is_set(self) -> bool:
        return self.left == 0

    def wait(self, _: float) -> None:
        self.left -= 1
        self.wait_for()


@pytest.fixture
def open_store(tmp_path: Path) -> OpenStore:
    return lambda: LocalStore.open(tmp_path / "store")


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, tzinfo=UTC)

    def go(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def watcher(
    name: str, open_store: OpenStore, clock: Clock, checked: Callable[[str], None]
) -> Watcher:
    return Watcher(
        name="w", holder=name, open_store=open_store, check=lambda _: checked(name),
        clock=lambda: clock.now, schedule=CheckSchedule(interval=timedelta(minutes=60)),
    )  # fmt: skip


def go_on(watching: Watcher, clock: Clock, minutes: float) -> None:
    """Run it for that long, a turn every half minute."""
    watching.run(Turns(int(minutes * 2), lambda: clock.go(30)))  # type: ignore[arg-type]


def test_it_checks_once_an_hour(open_store: OpenStore) -> None:
    clock, checks = Clock(), list[datetime]()
    go_on(watcher("a", open_store, clock, lambda _: checks.append(clock.now)), clock, 181)
    assert [(check - checks[0]).total_seconds() / 60 for check in checks] == [0, 60, 120, 180]


def test_it_survives_every_fault_and_checks_again_an_hour_later(
    open_store: OpenStore, caplog: pytest.LogCaptureFixture
) -> None:
    clock, checks = Clock(), list[datetime]()

    def fails(_: str) -> None:
        checks.append(clock.now)
        raise RuntimeError("the network is gone")

    go_on(watcher("a", open_store, clock, fails), clock, 61)
    assert len(checks) == 2
    assert caplog.text.count("RuntimeError: the network is gone") == 2


def test_another_takes_over_within_two_minutes_of_a_death(open_store: OpenStore) -> None:
    clock, checks = Clock(), list[str]()
    dead = watcher("dead", open_store, clock, checks.append)
    dead._check_if_due()  # and never again: it was killed
    began = clock.now
    go_on(watcher("b", open_store, clock, checks.append), clock, 2)
    assert checks == ["dead", "b"]
    assert clock.now - began <= timedelta(minutes=2)
