"""A run is built again from what it kept of itself, on both stores."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ml_pipeline.runs import manifest, recording
from ml_pipeline.runs.replay import replay
from ml_pipeline.store.records import RetrainingRun
from tests.conftest import FirstModel
from tests.support import crashing, league, shell, warm
from tests.support.crashing import NOW
from tests.support.places import EMBEDDED, Place
from tests.support.shell import Finished

NIGHTS = league.nights_before(NOW, 3)
DAY = timedelta(days=1)


def replayed(place: Place, run: RetrainingRun, folder: Path) -> Finished:
    return warm.ml_pipeline("replay", run.run_id, cwd=folder, **place.variables)


def test_a_run_is_rebuilt_identically_and_a_row_that_came_late_is_found(
    place: Place, first_model: FirstModel, tmp_path: Path
) -> None:
    place.fill(first_model, NIGHTS)
    with place.opened() as store:
        first = recording.run(store, crashing.order(tmp_path / "w")).run
        tomorrow = NOW + DAY
        (night,) = league.nights_before(tomorrow, 1)
        store.append_events(league.events_of(first_model.model, night))
        second = recording.run(store, crashing.order(tmp_path / "w", tomorrow, "second")).run
        assert second.challenger_id is not None
        kept = store.get_run(first.run_id).details["capsule"]
    assert kept["head"]["model_id"] == kept["champion"]["model_id"] == league.FIRST_MODEL
    assert kept["seed"] == 42
    assert kept["config"]["run"]["lookback_days"] == 7
    assert {day: rows for day, (rows, _) in kept["days"].items()} == {
        str(night.day): night.matches for night in NIGHTS
    }

    # Warm processes share the order of their sets; a cold one has its own.
    for run, start in ((first, shell.ml_pipeline), (second, warm.ml_pipeline)):
        done = start("replay", run.run_id, cwd=tmp_path, **place.variables)
        assert done.code == 0, done.stderr
        assert (done.json["result"], done.json["first_difference"]) == ("identical", None)
        assert done.json["largest_difference"] <= 1e-12
        assert done.json["rows_compared"] == run.training_rows
        assert done.json["environment"] == {}

    with place.opened() as store:
        late = league.Night(day=NIGHTS[1].day, matches=1)
        store.append_events(league.events_of(first_model.model, late, tag="late"))
    done = replayed(place, first, tmp_path)
    assert (done.code, done.json["result"]) == (1, "differs")
    assert done.json["first_difference"] == {
        "where": "training rows",
        "sentence": f"{late.day} had 40 rows and has 41.",
    }


@pytest.mark.parametrize("strategy", ["refit", "sgd", "errors_only"])
def test_new_bases_are_rebuilt_identically_too(
    first_model: FirstModel, tmp_path: Path, strategy: str
) -> None:
    place = Place(kind=EMBEDDED, variables={"ML_PIPELINE_LOCAL": str(tmp_path / "store")})
    place.fill(first_model, NIGHTS)
    settings = league.settings_for(training__strategy=strategy)
    with place.opened() as store:
        run = recording.run(store, crashing.order(tmp_path / "w", settings=settings)).run
        assert run.challenger_id is not None, run.error_message
        result = replay(store, store.get_run(run.run_id), tmp_path / "again")
    assert result["result"] == "identical", result["first_difference"]


def test_a_run_that_trained_nothing_has_nothing_to_replay(
    first_model: FirstModel, tmp_path: Path
) -> None:
    place = Place(kind=EMBEDDED, variables={"ML_PIPELINE_LOCAL": str(tmp_path / "store")})
    place.fill(first_model, [])
    with place.opened() as store:
        run = recording.run(store, crashing.order(tmp_path / "w")).run
        # What a run that fails or skips is asked about is its settings.
        assert run.details["capsule"]["config"]["run"]["min_error_samples"] == 10
    done = replayed(place, run, tmp_path)
    assert (done.code, done.json["error_type"]) == (1, "NotFound")
    assert "no challenger" in done.stderr


def test_other_code_and_libraries_are_named_as_what_may_explain_a_difference() -> None:
    settings = league.settings_for()
    kept = manifest.environment(settings)
    assert manifest.changed_environment(kept, settings) == {}
    here = kept["library_versions"]
    kept["library_versions"] = {**here, "numpy": "1.0"}
    kept["code"] = {**kept["code"], "digest": "sha256:0"}
    assert manifest.changed_environment(kept, settings) == {
        "code.digest": ["sha256:0", manifest.code_digest()],
        "library_versions.numpy": ["1.0", here["numpy"]],
    }
