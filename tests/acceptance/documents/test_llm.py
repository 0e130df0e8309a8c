"""docs/llm.md leads from a log to an alert, a dataset, a new version, and the alert closed."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import warm
from tests.support.shell import PYTHON, ROOT, environment

PAGE = (ROOT / "docs" / "llm.md").read_text(encoding="utf-8")


def block(mark: str) -> str:
    found = re.search(rf"<!-- {re.escape(mark)} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, mark
    return found.group(1)


def typed(mark: str, folder: Path, tools: str) -> list[dict[str, Any]]:
    """Type the lines of a block; what the commands said as JSON."""
    said = folder / "said.jsonl"
    said.unlink(missing_ok=True)
    lines = [line.partition("  #")[0].strip() for line in block(mark).strip().splitlines()]
    script = "\n".join(
        f"{line} 2>> stderr.txt | tail -n 1 >> said.jsonl" if "ml-pipeline" in line else line
        for line in lines
    )
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", script], cwd=folder,
        env=environment(PATH=tools), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + (folder / "stderr.txt").read_text()
    return [json.loads(line) for line in said.read_text().splitlines()]


@pytest.mark.long  # its parts: tests/acceptance/words/test_decay_command.py and test_export.py
def test_the_page_leads_from_the_log_to_a_new_version_and_the_alert_closed(tmp_path: Path) -> None:
    folder = tmp_path / "llm"
    folder.mkdir()
    for name in re.findall(r"<!-- file: (\S+) -->", PAGE):
        (folder / name).write_text(block(f"file: {name}"))
    tools = f"{warm.on_path(tmp_path)}{os.pathsep}{Path(PYTHON).parent}{os.pathsep}/usr/bin:/bin"

    exported, alarmed, waiting = typed("first", folder, tools)
    assert (exported["format"], exported["rows"] > 150) == ("chat", True)
    first = json.loads((folder / "wrong.jsonl").read_text().splitlines()[0])
    assert [turn["role"] for turn in first["messages"]] == ["system", "user", "assistant"]
    (alert,) = alarmed["alerts"]
    assert (alert["action_state"], alert["severity"]) == ("succeeded", "severe")
    new = json.loads((folder / "weights.json").read_text())
    assert "refund" in new["billing"]
    assert quoted(waiting["alerts"][0]["versions"]["sentence"]) in PAGE
    assert not list(folder.rglob("rows.jsonl"))

    (closed,) = typed("then", folder, tools)
    assert closed["alerts"] == []
    heard = (folder / "stderr.txt").read_text()
    shown = re.search(r"The new version \S+ was right .*? of the cases\.", heard)
    assert shown is not None, heard
    assert quoted(shown.group()) in PAGE


def quoted(sentence: str) -> str:
    """A sentence as the page shows it, whose ids are other ones each time."""
    return re.sub(r"tiny-llm-\w{8}", "tiny-llm-…", sentence)
