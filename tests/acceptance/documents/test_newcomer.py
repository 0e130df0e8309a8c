"""A newcomer's path: the manual's own lines, in a clean checkout, against an empty real project."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from ml_pipeline.store.records import PromotionKind, RunStatus
from ml_pipeline.store.supabase.store import SupabaseStore
from tests.acceptance.documents.test_readme import block_after
from tests.acceptance.documents.test_workflows import checkout
from tests.support import warm
from tests.support.places import long_but
from tests.support.shell import PYTHON, ROOT, environment
from tests.support.supabase.project import SupabaseProject

__all__ = ["checkout"]

CUSTOMERS = ROOT / "ml_pipeline" / "data" / "churn_customers.csv"


@pytest.mark.parametrize("start", long_but(["warm"], ["warm", "cold"]))
def test_the_lines_of_the_manual_lead_from_an_empty_project_to_a_night_and_back(
    database: SupabaseProject, checkout: Path, tmp_path: Path, start: str
) -> None:
    lines = block_after("first night", ROOT / "docs" / "supabase.md").strip().splitlines()
    assert lines[0] == 'export PATH="$PWD/.venv/bin:$PATH"'  # here it is this very interpreter's
    answered = checkout / "said"
    ours = {"PATH": warm.on_path(tmp_path)}
    theirs = {
        "PATH": f"{Path(PYTHON).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(checkout),
    }
    script = "\n".join(_heard(line) for line in lines[1:])
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", script],
        cwd=checkout,
        env=environment(
            **(ours if start == "warm" else theirs),
            DATABASE_URL=database.postgres.dsn("postgres"),
            SUPABASE_URL=database.url,
            SUPABASE_SERVICE_KEY=database.service_key,
        ),
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    reported: list[dict[str, Any]] = [
        json.loads(line) for line in answered.read_text().splitlines()
    ]
    made, healthy, trained, predicted, recorded, night, _models, back = reported
    assert (made["status"], healthy["status"]) == ("ready", "healthy")
    assert (predicted["logged"], recorded["recorded"]) == (1000, 1000)
    assert (night["outcome"], night["dataset_size"] >= 10) == ("promoted", True)
    assert back["model_id"] == trained["model_id"] != night["champion"]
    store = SupabaseStore.open(database.url, SecretStr(database.service_key))
    champion = store.champion(model_name="default")
    assert champion is not None
    assert champion.model_id == trained["model_id"]
    kinds = [event.kind for event in store.promotion_events(model_name="default")]
    assert kinds == [PromotionKind.ROLLBACK, PromotionKind.PROMOTION, PromotionKind.PROMOTION]
    (run,) = store.list_runs(model_name="default", limit=5)
    assert (run.status, run.challenger_id) == (RunStatus.COMPLETED, night["champion"])
    store.close()


def test_the_five_minutes_of_the_readme_lead_from_a_file_to_a_night(tmp_path: Path) -> None:
    head, *rows = CUSTOMERS.read_text(encoding="utf-8").splitlines()
    past, now = rows[:1000], rows[1000:]
    assert head.startswith("customer_id,")
    assert head.endswith(",churned")
    write = {
        "customers.csv": [head, *past],
        "today.csv": [line.rpartition(",")[0] for line in (head, *now)],
        "results.csv": [
            "customer_id,churned",
            *(f"{line.partition(',')[0]},{line.rpartition(',')[2]}" for line in now),
        ],
    }
    for name, lines in write.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = [
        warm.ml_pipeline(*shlex.split(line, comments=True)[1:], cwd=tmp_path)
        for line in block_after("five minutes").splitlines()
    ]
    assert [one.code for one in done] == [0] * 6, [one.stderr for one in done]
    _settings, trained, predicted, recorded, night, status = (one.json for one in done)
    assert trained["outcome"] == "promoted"
    assert predicted["logged"] == recorded["recorded"] == len(now)
    assert night["status"] == "completed"
    assert status["champion"]["model_id"] in {trained["model_id"], night["champion"]}


def _heard(line: str) -> str:
    """The line, with its JSON kept beside."""
    command = line.partition("  #")[0].strip()
    return f"{command} | tail -n 1 >> said" if command.startswith("ml-pipeline") else command
