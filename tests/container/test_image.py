"""The image, built for real and run as its own user: `-m container tests/container`.

Needs root and the Debian packages buildah and debootstrap: there is no daemon, and the base is a
stand-in made of Debian's own Python when the real one is not at hand.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.shell import ROOT

pytestmark = pytest.mark.container

BASE = "docker.io/library/python:3.11-slim"
IMAGE = "localhost/ml_pipeline_test"
CERTIFICATES = Path("/etc/ssl/certs")
SAID_SIZE_MB = 720


def buildah(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["buildah", *map(str, arguments)],  # noqa: S607 - where the machine has it
        cwd=cwd,
        env=os.environ | {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"},
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip


def built(*arguments: str | Path) -> str:
    done = buildah(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The base image, or a stand-in: Debian with its Python 3.11."""
    if buildah("inspect", "--type", "image", BASE).returncode == 0:
        return BASE
    root = tmp_path_factory.mktemp("base") / "root"
    packages = "python3,python3-venv,python3-pip,ca-certificates"
    subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", root],  # noqa: S607
        check=True, capture_output=True,
    )  # fmt: skip
    (root / "usr" / "bin" / "python").symlink_to("python3")
    for mark in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        mark.unlink()
    container = built("from", "scratch")
    built("add", "--quiet", container, root, "/")
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    built("config", "--env", f"PATH={path}", container)
    built("commit", "--quiet", "--rm", container, BASE)
    return BASE


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """A container of the image, and how the image says it is to be run."""

    container: str
    config: dict[str, Any]
    size_mb: float

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        given = [part for name, text in variables.items() for part in ("--env", f"{name}={text}")]
        return buildah("run", *given, self.container, "--", *command)


@pytest.fixture(scope="module")
def image(base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    pip = tmp_path_factory.mktemp("pip") / "pip.conf"
    pip.write_text(f"[global]\ncert = {CERTIFICATES / 'ca-certificates.crt'}\n")
    volumes = [f"--volume={CERTIFICATES}:{CERTIFICATES}:ro", f"--volume={pip}:/etc/pip.conf:ro"]
    built(
        "bud", "--quiet", "--pull-never", "--format", "docker", "--build-arg", f"BASE_IMAGE={base}",
        *volumes, "--tag", IMAGE, "--file", "Dockerfile.ml", ROOT,
    )  # fmt: skip
    container = built("from", "--pull-never", IMAGE)
    found = json.loads(built("inspect", "--type", "image", IMAGE))
    (listed,) = json.loads(built("images", "--json", IMAGE))
    number, unit = listed["size"].split()
    yield Built(
        container=container,
        config=found["Docker"]["config"],
        size_mb=float(number) * {"MB": 1, "GB": 1000}[unit],
    )
    built("rm", container)


def last_line(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def test_the_entry_point_is_the_program_and_the_user_may_write_its_folder_alone(
    image: Built,
) -> None:
    assert image.config["Entrypoint"] == ["ml-pipeline"]
    assert image.config["Cmd"] == ["worker"]
    assert image.run("id", "-u").stdout.strip() == "10001"
    assert image.run("pwd").stdout.strip() == "/data"
    assert image.run("touch", "/data/x").returncode == 0
    for place in ("/opt/ml_pipeline/x", "/etc/x", "/usr/x"):
        assert image.run("touch", place).returncode != 0
    for tool in ("gcc", "cc", "make", "git"):
        assert image.run("which", tool).returncode != 0, tool
    version = image.run(*image.config["Entrypoint"], "--version")
    assert version.stdout.startswith("ml-pipeline ")


def test_the_health_check_follows_the_store(image: Built) -> None:
    (kind, *command) = image.config["Healthcheck"]["Test"]
    assert kind == "CMD"
    without = image.run(*command)
    assert (without.returncode == 0, last_line(without)["status"]) == (False, "faulty")
    healthy = image.run(*command, ML_PIPELINE_LOCAL="/data/health")
    assert (healthy.returncode, last_line(healthy)["status"]) == (0, "healthy")


def test_a_night_runs_in_it(image: Built) -> None:
    demo = image.run("python", "-m", "ml_pipeline.auto_reinforcement", "--demo")
    assert demo.returncode == 0, demo.stderr
    assert last_line(demo)["outcome"] == "promoted"


def test_the_worker_drains_in_it(image: Built) -> None:
    command = ["timeout", "--preserve-status", "-s", "TERM", "30", "ml-pipeline", "worker"]
    done = image.run(*command, ML_PIPELINE_LOCAL="/data/worked")
    assert done.returncode == 0, done.stderr
    assert last_line(done)["passes"] == 1


def test_it_brings_what_init_needs_for_a_database_and_for_a_persons_repository(
    image: Built,
) -> None:
    refused = image.run(
        "ml-pipeline", "init", "--database_url", "postgresql://postgres@127.0.0.1:1/postgres"
    )
    assert last_line(refused)["error_type"] == "StoreUnavailable"
    written = image.run("ml-pipeline", "init", "--workflows", "/data/own", "--package", "./a.whl")
    assert (written.returncode, len(last_line(written)["written"])) == (0, 4)
    assert image.run("grep", "-c", "==", "/data/own/ml_requirements.txt").returncode == 0


def test_its_size_is_what_the_readme_says(image: Built) -> None:
    assert image.size_mb < SAID_SIZE_MB
