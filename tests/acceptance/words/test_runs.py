"""`runs` on both stores: the latest, some of them, one by the beginning of its id."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ml_pipeline.commands import runs
from ml_pipeline.reports import terminal
from ml_pipeline.store.records import Outcome
from tests.support import warm
from tests.support.factories import NOW, make_finished_run, make_id, make_run
from tests.support.places import Place
from tests.support.shell import Finished


@pytest.fixture
def place_with_runs(place: Place) -> Place:
    """Three runs, the second of which was rejected."""
    with place.opened() as store:
        for number, outcome in enumerate((Outcome.PROMOTED, Outcome.REJECTED, Outcome.PROMOTED)):
            began = NOW + timedelta(days=number)
            run = {"model_name": "default", "started_at": began, "heartbeat_at": began}
            store.start_run(make_run(number + 1, **run))
            ended = {"outcome": outcome, "completed_at": began + timedelta(minutes=1)}
            store.finish_run(make_finished_run(number + 1, **run, **ended))
    return place


def test_runs_are_listed_chosen_by_outcome_and_shown_by_the_beginning_of_their_id(
    place_with_runs: Place, tmp_path: Path
) -> None:
    def done(*words: str) -> Finished:
        return warm.ml_pipeline("runs", *words, cwd=tmp_path, **place_with_runs.variables)

    every = done("list").json["runs"]
    assert [it["outcome"] for it in every] == ["promoted", "rejected", "promoted"]
    assert [it["run_id"] for it in done("list", "--limit", "1").json["runs"]] == [
        every[0]["run_id"]
    ]
    rejected = done("list", "--outcome", "rejected", "--limit", "1").json["runs"]
    assert [it["run_id"] for it in rejected] == [every[1]["run_id"]]
    assert done("show", every[1]["run_id"]).json["run_id"] == every[1]["run_id"]
    assert done("show", every[1]["run_id"].upper()).json["run_id"] == every[1]["run_id"]
    unclear = done("show", "0000")
    assert (unclear.code, "3 runs begin with 0000" in unclear.stderr) == (1, True)
    missing = done("show", "ffff")
    assert (missing.code, "begins with ffff" in missing.stderr) == (1, True)
    assert done("list", "--limit", "0").code == 2
    assert done("list", "--outcome", "promted").code == 2


def test_the_beginning_of_an_id_that_a_list_shows_is_enough_for_every_command(
    place: Place, tmp_path: Path
) -> None:
    with place.opened() as store:
        run_id = "1f0c7a52" + make_id(1)[8:]
        store.start_run(replace(make_run(model_name="default"), run_id=run_id))
        store.finish_run(replace(make_finished_run(model_name="default"), run_id=run_id))

    def done(*words: str) -> Finished:
        return warm.ml_pipeline(*words, cwd=tmp_path, **place.variables)

    assert done("report", "1f0c7a52").json["run_id"] == run_id
    assert "begins with ffff" in done("report", "ffff").stderr
    # This one kept too little to be built again, and was found for that.
    assert run_id in done("replay", "1F0C7A52").stderr


def test_a_person_sees_how_a_run_ended(capsys: pytest.CaptureFixture[str]) -> None:
    found = make_finished_run(1, outcome_reason="Promoted: on 90 results it did better.")
    terminal.show(*runs.shown(found), *runs.listed([found]), *runs.listed([]))
    text = capsys.readouterr().err
    assert "Promoted: on 90 results it did better." in text
    assert f"`ml-pipeline report {found.run_id}`" in text
    assert "There is no such run." in text
