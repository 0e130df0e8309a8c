"""The files that run the loop in containers, read as their tools read them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.shell import ROOT

BIN = Path(sys.executable).parent
IMAGE = (ROOT / "Dockerfile.ml").read_text(encoding="utf-8")


def test_the_linter_has_nothing_to_say_of_the_image() -> None:
    done = subprocess.run(
        [BIN / "hadolint", "Dockerfile.ml"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_is_of_two_stages_on_one_base_and_ends_as_nobody_in_particular() -> None:
    assert IMAGE.count("ARG BASE_IMAGE=python:3.11-slim") == 1
    assert re.findall(r"^FROM (.*)$", IMAGE, re.MULTILINE) == [
        "${BASE_IMAGE} AS build",
        "${BASE_IMAGE}",
    ]
    final = IMAGE.partition("\nFROM ${BASE_IMAGE}\n")[2]
    assert re.findall(r"^COPY (.*)$", final, re.MULTILINE) == [
        "--from=build /opt/ml_pipeline /opt/ml_pipeline"
    ]
    assert re.search(r"^USER (\d+):\d+$", final, re.MULTILINE)
    assert not re.search(r"\b(pip|apt-get|gcc)\b", final)


def test_the_build_is_given_only_what_it_copies() -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    assert rules[1] == "*"
    copied = set()
    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", IMAGE, re.MULTILINE):
        copied |= set(line.split())
    assert allowed == copied
    assert all((ROOT / path).exists() for path in allowed)
