"""The shell steps of ci.yml in a clean checkout and a fresh environment: `-m workflow`.

Its other jobs run the whole suite, which cannot be a test of itself.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.shell import ROOT, environment

pytestmark = pytest.mark.workflow

MATRIX = {"matrix.sklearn": "1.9.*"}


def steps_of(job: str) -> list[dict[str, object]]:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    return [step for step in yaml.safe_load(text)["jobs"][job]["steps"] if "run" in step]


@pytest.mark.parametrize("job", ["lint", "wheel", "distributions"])
def test_the_steps_of_a_job_pass_in_a_clean_checkout(job: str, tmp_path: Path) -> None:
    checkout, python = tmp_path / "checkout", tmp_path / "python"
    subprocess.run(["git", "clone", "--quiet", ROOT, checkout], check=True)  # noqa: S607
    subprocess.run([sys.executable, "-m", "venv", python], check=True)
    clean = environment(PATH=f"{python / 'bin'}{os.pathsep}{os.environ['PATH']}")
    del clean["PYTHONPATH"]
    for step in steps_of(job):
        given = {
            name: re.sub(r"\$\{\{ (.*?) \}\}", lambda found: MATRIX[found[1]], text)
            for name, text in dict(step.get("env", {})).items()  # type: ignore[call-overload]
        }
        done = subprocess.run(
            ["/bin/bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", str(step["run"])],
            cwd=checkout, env=clean | given, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{step['name']}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
