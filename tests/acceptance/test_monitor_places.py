"""The page says the same of both stores, and the key of neither store leaves the process."""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_pipeline.commands import status
from ml_pipeline.reports import terminal
from ml_pipeline.runs import recording
from ml_pipeline.web.app import create_app
from ml_pipeline.web.guard import Guard
from tests.conftest import FirstModel
from tests.support import crashing, league
from tests.support.places import Place
from tests.support.shell import PYTHON, environment
from tests.support.warm import ml_pipeline


def test_a_night_and_its_buttons_on_either_store(
    place: Place, first_model: FirstModel, tmp_path: Path
) -> None:
    place.fill(first_model, league.nights_before(crashing.NOW, 3))
    settings = league.settings_for(promotion__policy="approval")
    with place.opened() as store:
        result = recording.run(store, crashing.order(tmp_path / "work", settings=settings)).result
        ids = league.ids()
        app = create_app(
            store, settings, Guard.for_host("::1", None), clock=lambda: crashing.NOW, new_id=ids
        )
        client = app.test_client()
        pages = {path: client.get(path, base_url="http://localhost") for path in paths(result)}
        for path, answer in pages.items():
            assert answer.status_code == 200, (path, answer.text)
            for name, secret in place.variables.items():
                assert not name.endswith("KEY") or secret not in answer.text
                assert not name.endswith("KEY") or secret not in str(answer.headers)
        home, run = pages["/"].text, pages[f"/runs/{result['run_id']}"].text
        assert "awaiting approval" in home
        assert str(result["outcome_reason"])[:40] in html.unescape(run)
        overview: Any = pages["/api/overview"].json
        assert [it["run_id"] for it in overview["runs"]] == [result["run_id"]]
        assert [it["model_id"] for it in overview["awaiting_approval"]] == [result["challenger"]]
        assert "Run " in pages[f"/runs/{result['run_id']}/log.txt"].text

        csrf = re.findall(r'name="csrf" value="([^"]+)"', home)[0]
        form = {"csrf": csrf, "model_id": result["challenger"], "reason": "looks right"}
        done = client.post("/approve", data=form, base_url="http://localhost")
        assert done.status_code == 303, done.text
        champion = store.champion(model_name="default")
        assert champion is not None
        assert champion.model_id == result["challenger"]
        again = client.post("/approve", data=form, base_url="http://localhost")
        assert again.status_code == 409
        assert "champion already" in again.text
        nothing = {"csrf": csrf, "model_id": "first", "reason": "  "}
        refused = client.post("/roll-back", data=nothing, base_url="http://localhost")
        assert (refused.status_code, "needs a reason" in refused.text) == (400, True)
        missing = client.get("/runs/no-such-run", base_url="http://localhost")
        assert missing.status_code == 404
        part = client.get("/api/nothing", base_url="http://localhost")
        assert part.status_code == 404
        assert "There is no" in part.text

    seen = ml_pipeline("status", cwd=tmp_path, **place.variables)
    assert seen.code == 0, seen.stderr
    assert seen.json["champion"]["model_id"] == result["challenger"]
    assert seen.json["latest_run"]["run_id"] == result["run_id"]
    assert seen.json["is_late"]
    # The league's nights are of the spring; a thousand weeks later the next one would be late.
    rarely = {"ML_PIPELINE__RUN__EVERY_HOURS": "168000"}
    seen = ml_pipeline("status", cwd=tmp_path, **place.variables, **rarely)
    assert (seen.code, seen.json["is_late"]) == (0, False)


def paths(result: Mapping[str, object]) -> list[str]:
    run = f"/runs/{result['run_id']}"
    more = ["report.html", "log.txt"]
    return ["/", "/health", "/api/overview", "/api/runs", f"/api{run}", run,
            *(f"{run}/{name}" for name in more)]  # fmt: skip


def test_a_run_shows_a_person_how_far_it_is_and_a_pipe_only_its_result(tmp_path: Path) -> None:
    master, terminal = os.openpty()
    command = [PYTHON, "-m", "ml_pipeline", "run", "--local", "store"]
    variables = environment(TERM="xterm-256color", COLUMNS="100")
    with subprocess.Popen(
        command, cwd=tmp_path, env=variables, stdout=subprocess.PIPE, stderr=terminal
    ) as process:
        os.close(terminal)
        seen = b""
        # The terminal's other end is an error once the program has closed its own.
        with contextlib.suppress(OSError):
            while part := os.read(master, 65_536):
                seen += part
        os.close(master)
        assert process.stdout is not None
        result = process.stdout.read().decode()
    assert json.loads(result)["outcome"] == "skipped_insufficient_errors"
    assert result.count("\n") == 1
    log = seen.decode()
    assert "run " in log
    assert "\u2501" in log or "\u2578" in log, "no bar"
    assert "Now loading the evaluation log" in log
    assert "Skipped: " in log


def test_status_shows_a_person_tables_in_which_nothing_is_markup(
    tmp_path: Path, capsys: object
) -> None:
    from ml_pipeline.reports.overview import read_overview
    from ml_pipeline.store.embedded.store import LocalStore
    from tests.support.factories import NOW, make_finished_run, make_request, make_run

    store = LocalStore.open(tmp_path / "store")
    hostile = "[red]x[/red][/]"
    store.start_run(make_run(1, model_name="default"))
    store.finish_run(make_finished_run(1, model_name="default", outcome_reason=hostile))
    store.submit(make_request(2, model_name="default", reason=hostile))
    terminal.show(*status.view(read_overview(store, league.settings_for(), now=NOW)))
    text = capsys.readouterr().err  # type: ignore[attr-defined]
    assert text.count(hostile) == 2
    assert "Champion of default: none yet." in text
    assert "Next run expected by 2026-03-15 04:00 UTC." in text
