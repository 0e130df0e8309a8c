"""A run refuses what `predict` and `doctor` refuse, and finds the files that `train` finds."""

from __future__ import annotations

from datetime import timedelta
from importlib import resources
from pathlib import Path

import pytest

from ml_pipeline.registry import archive
from ml_pipeline.runs import recording, replay
from ml_pipeline.runs.recording import Failed, Trained
from tests.conftest import FirstModel
from tests.support import crashing, league, warm
from tests.support.crashing import NOW
from tests.support.places import Place


@pytest.mark.parametrize(("library", "version"), [("scikit-learn", "0.24.2"), ("numpy", "1.26.4")])
def test_a_run_does_not_load_a_champion_of_other_libraries(
    place: Place, first_model: FirstModel, tmp_path: Path, library: str, version: str
) -> None:
    settings = league.settings_for(run__trigger="any")
    nights = league.nights_before(NOW, 1)
    with place.opened() as store:
        league.enthrone(
            store,
            first_model.path,
            settings,
            now=league.before_first(nights),
            library_versions=archive.library_versions() | {library: version},
        )
        store.append_events(league.events_of(first_model.model, nights[0]))
        outcome = recording.run(store, crashing.order(tmp_path / "work", settings=settings))
        row = store.get_run(outcome.run.run_id)
        models = store.list_models(model_name="default")
    assert isinstance(outcome, Failed)
    assert row.error_message is not None
    assert f"The model was saved with {library} {version}; " in row.error_message
    assert [model.model_id for model in models] == [league.FIRST_MODEL]


def test_the_training_data_of_the_settings_is_found_from_where_the_run_was_started(
    first_model: FirstModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = resources.files("ml_pipeline") / "data" / "training_dataset.csv"
    lines = sample.read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "past.csv").write_text("".join(lines[:200]), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    # As a setting of a file, and as a variable that a child inherits.
    monkeypatch.setenv("ML_PIPELINE__DATA__TRAINING_DATASET", "past.csv")
    settings = league.settings_for(
        data__training_dataset="past.csv", training__strategy="sgd", run__trigger="any"
    )
    nights = league.nights_before(NOW, 3)
    store = league.open_league(tmp_path / "s", first_model.path, first_model.model, nights)
    outcome = recording.run(store, crashing.order(tmp_path / "work", settings=settings))
    assert isinstance(outcome, Trained), outcome.result
    # The fifth that is held out is not learned, and what is replayed does not count.
    assert outcome.result["training_rows"] == 96


def test_a_refit_reads_the_training_data_and_every_logged_row(
    first_model: FirstModel, tmp_path: Path
) -> None:
    """Also those that the champion has learned in an earlier run, and it is built again so."""
    sample = resources.files("ml_pipeline") / "data" / "training_dataset.csv"
    lines = sample.read_text(encoding="utf-8").splitlines(keepends=True)
    past = tmp_path / "past.csv"
    past.write_text("".join(lines[:301]), encoding="utf-8")
    nights = league.nights_before(NOW, 3)
    store = league.open_league(tmp_path / "s", first_model.path, first_model.model, nights[:2])
    usual = {"run__trigger": "any", "data__training_dataset": str(past)}
    day_before = crashing.order(
        tmp_path / "work", NOW - timedelta(days=1), "first", settings=league.settings_for(**usual)
    )
    assert recording.run(store, day_before).result["outcome"] == "promoted"
    store.append_events(league.events_of(first_model.model, nights[2]))
    settings = league.settings_for(training__strategy="refit", **usual)
    outcome = recording.run(store, crashing.order(tmp_path / "work", settings=settings))
    assert isinstance(outcome, Trained), outcome.result
    # 80 rows were settled; the new ones are too few to train on alone, and are judged on.
    assert outcome.result["training_rows"] == 300 + 80
    assert outcome.result["holdout_rows"] == 40
    again = replay.replay(store, store.get_run(outcome.run.run_id), tmp_path / "again")
    assert again["result"] == "identical", again["first_difference"]


@pytest.mark.parametrize(
    "words",
    ["decay", "train", "models export --output x", "train --output_dir a/b"],
)
def test_o7_a_folder_that_cannot_be_written_is_no_traceback(
    first_model: FirstModel, tmp_path: Path, words: str
) -> None:
    """Nobody, not even root, makes a file in /proc."""
    nights = league.nights_before(NOW, 1)
    league.open_league(tmp_path / "s", first_model.path, first_model.model, nights)
    done = warm.ml_pipeline(*words.split(), "--local", tmp_path / "s", cwd=Path("/proc"))
    assert "Traceback" not in done.stderr
    if words == "decay":
        assert done.code == 0, done.stderr
        assert "model_retrainer.log is not written" in done.stderr
    else:
        assert done.code == 1, done.stderr
        assert done.json["error"].startswith("/proc/")
