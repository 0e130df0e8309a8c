"""Real PostgreSQL and PostgREST as child processes that cannot outlive their parent."""

from __future__ import annotations

import http.client
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.support.supabase.binaries import Missing, copy_postgres, find_postgres, find_postgrest

SUPERUSER = "supabase_admin"
PARENT_WATCH = Path(__file__).with_name("parent_watch.py")
START_SECONDS = 30.0
FAST_NOT_SAFE = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "80",
    "shared_buffers": "64MB",
    "timezone": "UTC",
}
LOADED = "Schema cache loaded"


class ServerFailed(RuntimeError):
    """A server ended or did not get ready; carries the end of its log."""


def watched(command: list[str], user: str, end_with: signal.Signals) -> list[str]:
    """Wrap a command so that it dies with this process, as `user` unless that is empty."""
    prefix = [
        sys.executable,
        "-I",
        "-S",
        str(PARENT_WATCH),
        str(os.getpid()),
        user,
        str(int(end_with)),
    ]
    return [*prefix, *command]


@dataclass(slots=True)
class Server:
    """One running child process and its log."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(  # noqa: PLR0913
        cls,
        name: str,
        command: list[str],
        folder: Path,
        *,
        user: str = "",
        end_with: signal.Signals = signal.SIGKILL,
        environment: dict[str, str] | None = None,
    ) -> Server:
        log = folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                watched(command, user, end_with),
                cwd=folder,
                env=environment or {},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(name, log, process)

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Poll `ready`; raise ServerFailed when the process ends or time is up."""
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                written = self.log.read_text(errors="replace")[-2000:]
                raise ServerFailed(f"{self.name} (exit {self.process.poll()}): {written}")
            time.sleep(0.01)

    def stop(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(timeout=START_SECONDS)


@dataclass(slots=True)
class Postgres:
    """A cluster of its own, on a free port of the loopback and on a socket in its folder."""

    folder: Path
    port: int
    server: Server

    @classmethod
    def start(cls, folder: Path) -> Postgres:
        user = _unprivileged_user()
        programs = _reachable(find_postgres(), folder, user)
        data = folder / "data"
        data.mkdir()
        if user:
            shutil.chown(data, user)
            shutil.chown(folder, user)
        _initdb(programs, data, user)
        port = free_port()
        settings = FAST_NOT_SAFE | {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(folder),
        }
        command = [str(programs / "postgres"), "-D", str(data)]
        command += [f"--{name}={value}" for name, value in settings.items()]
        # SIGQUIT lets the postmaster end its children and free its shared memory.
        server = Server.start(
            "postgres", command, folder, user=user, end_with=signal.SIGQUIT, environment=_utf8()
        )
        self = cls(folder, port, server)
        server.wait_until(self._answers)
        return self

    def dsn(self, user: str, database: str = "postgres") -> str:
        """Return a URL as the dashboard shows it; any password is right."""
        return f"postgresql://{user}:project@127.0.0.1:{self.port}/{database}"

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.dsn(SUPERUSER, "template1")).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        self.server.stop(signal.SIGQUIT)


def _unprivileged_user() -> str:
    """Name whom to become: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return ""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise Missing("PostgreSQL: refuses to run as root, and there is no user to become")


def _reachable(programs: Path, folder: Path, user: str) -> Path:
    """Copy the installation beside the data when `user` may not enter the folders above it."""
    closed = [parent for parent in programs.parents if not parent.stat().st_mode & 0o001]
    return copy_postgres(programs, folder) if user and closed else programs


def _initdb(programs: Path, data: Path, user: str) -> None:
    options = ["--auth=trust", "--no-sync", "--locale=C", "--encoding=UTF8", "--no-instructions"]
    command = [str(programs / "initdb"), "-D", str(data), f"--username={SUPERUSER}", *options]
    done = subprocess.run(
        watched(command, user, signal.SIGKILL),
        cwd=data,
        env=_utf8(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ServerFailed(f"initdb: {done.stderr or done.stdout}")


def _utf8() -> dict[str, str]:
    return {"LC_ALL": "C", "PATH": os.defpath}


def free_port() -> int:
    """Ask the kernel for a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class Rest:
    """PostgREST on a socket in `folder`, with its own row cap."""

    max_rows: int
    socket_path: Path
    server: Server

    @classmethod
    def start(cls, folder: Path, *, dsn: str, jwt_secret: str, max_rows: int) -> Rest:
        name = f"postgrest-{max_rows}"
        path = folder / f"{name}.sock"
        path.unlink(missing_ok=True)
        environment = {
            "PGRST_DB_URI": dsn,
            "PGRST_DB_SCHEMAS": "public",
            "PGRST_DB_EXTRA_SEARCH_PATH": "public,extensions",
            "PGRST_DB_ANON_ROLE": "anon",
            "PGRST_DB_MAX_ROWS": str(max_rows),
            "PGRST_JWT_SECRET": jwt_secret,
            "PGRST_SERVER_UNIX_SOCKET": str(path),
            "PGRST_LOG_LEVEL": "error",
        }
        server = Server.start(name, [str(find_postgrest())], folder, environment=environment)
        self = cls(max_rows, path, server)
        self.wait_until_loaded()
        return self

    def loads(self) -> int:
        """Count how often it has read the schema."""
        return self.server.log.read_text(errors="replace").count(LOADED)

    def wait_until_loaded(self, after: int = 0) -> None:
        """Wait for one schema load more than `after`."""
        self.server.wait_until(lambda: self.loads() > after)

    def connect(self) -> http.client.HTTPConnection:
        """Open a connection for one request."""
        return _UnixConnection(self.socket_path)

    def stop(self) -> None:
        self.server.stop(signal.SIGKILL)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket in the file system: no port to choose, none to lose."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))
