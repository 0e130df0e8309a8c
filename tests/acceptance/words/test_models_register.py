"""`models register`: a person's own classifier is judged, serves with heads on top, and replays."""

from __future__ import annotations

import argparse
import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from ml_pipeline.commands import backup, predict, restore
from ml_pipeline.commands import models as command
from ml_pipeline.commands.usage import parsed
from ml_pipeline.config.data import DEFAULT_FEATURES
from ml_pipeline.errors import ArtifactIncompatible, ConfigError, DataError
from ml_pipeline.registry.models import load_model_version
from ml_pipeline.runs import recording
from ml_pipeline.runs.replay import replay
from ml_pipeline.serving.engine import PredictionEngine
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import ModelState, Outcome, RetrainingRun
from tests.conftest import FirstModel
from tests.support import boosted, league, onnx_files
from tests.support.crashing import NOW
from tests.support.in_process import train_here
from tests.support.places import EMBEDDED, Place

ONE = pytest.mark.parametrize("place", [EMBEDDED], indirect=True)
NIGHTS = league.nights_before(NOW, 3, matches=120)
DAY = timedelta(days=1)
ROWS = league.play(11, 40, turned=True).features


@pytest.fixture
def here(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    for name, value in place.variables.items():
        monkeypatch.setenv(name, value)
    return place


def called(capsys: pytest.CaptureFixture[str], *words: str, now: datetime = NOW) -> dict[str, Any]:
    """`models …` at that time, in this process; what it prints."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    capsys.readouterr()
    assert command.run(parsed(parser, words), now=now, new_id=league.event_id(words)) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def own_skops(path: Path, *, turned: bool = True, count: int = 400) -> Path:
    """A regression as a person's notebook fits it: on plain columns, with classes by number."""
    played = league.play(5, count, turned=turned)
    codes = [league.CLASSES.index(label) for label in played.labels]
    path.write_bytes(skops.io.dumps(LogisticRegression().fit(played.features, codes)))
    return path


def log_night(store: Store, model: Any, now: datetime) -> None:  # noqa: ANN401
    (night,) = league.nights_before(now, 1, matches=120)
    store.append_events(league.events_of(model, night))


@pytest.mark.parametrize("kind", ["xgboost", "lightgbm"])
def test_boosted_trees_in_onnx_are_judged_serve_with_heads_and_replay(
    kind: str,
    here: Place,
    first_model: FirstModel,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    theirs = boosted.exported(kind, tmp_path / "own.onnx")
    here.fill(first_model, NIGHTS)
    # The champion was fitted before the league turned; nothing of theirs is in the log.
    before = str((NIGHTS[0].day - DAY).isoformat())
    done = called(capsys, "register", "own.onnx", "--model_id", "own", "--fitted_until", before)
    assert (done["outcome"], done["champion"]) == ("promoted", "own"), done["outcome_reason"]
    assert done["metrics"]["log_loss"] < done["champion_metrics"]["log_loss"]
    assert (done["holdout_rows"], done["algorithm"]) == (360, "OnnxClassifier")
    assert (done["missing_values"], done["dry_run"]) == ("its own", False)

    with here.opened() as store:
        version = store.get_model("default", "own")
        model = load_model_version(store, version)
    apart = np.abs(model.base_proba(ROWS) - boosted.probabilities(theirs, ROWS)).max()
    assert apart < 1e-6
    # Fresh heads say what the base says.
    assert np.allclose(model.predict_proba(ROWS), model.base_proba(ROWS), atol=1e-9)
    assert version.lineage.scoring is None

    # The nights in the log are there to learn, and the run is built again from what it kept.
    with here.opened() as store:
        first = learned(store, tmp_path / "w", NOW)
        assert first.training_rows == 360, first.outcome_reason
        challenger = load_model_version(store, store.get_model("default", str(first.challenger_id)))
        assert challenger.memory().last_night is not None
        again = replay(store, first, tmp_path / "again")
    assert (again["result"], again["first_difference"]) == ("identical", None)
    with PredictionEngine(log=False) as engine:
        answer = engine.predict(ROWS[0].tolist())
    assert answer["model_id"] == (
        first.challenger_id if first.outcome is Outcome.PROMOTED else first.champion_id
    )
    assert sum(answer["probabilities"].values()) == pytest.approx(1)


def learned(store: Store, folder: Path, now: datetime) -> RetrainingRun:
    """A nightly run that learns from every label."""
    count = iter(range(1000))
    order = recording.Order(
        settings=league.settings_for(run__trigger="labels"),
        work_dir=folder,
        clock=lambda: now,
        new_id=lambda: league.event_id(f"{now} {next(count)}"),
        train=train_here,
    )
    return recording.run(store, order).run


@ONE
def test_a_person_decides_on_a_better_one_of_which_nobody_knows_what_it_was_fitted_on(
    here: Place, first_model: FirstModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here.fill(first_model, NIGHTS)
    path = str(own_skops(tmp_path / "own.skops"))
    tried = called(capsys, "register", path, "--model_id", "own", "--dry_run")
    assert (tried["outcome"], tried["dry_run"]) == ("awaiting_approval", True)
    with here.opened() as store:
        assert [m.model_id for m in store.list_models(model_name="default")] == ["first"]
        assert store.names("ml-models", "default") == ["first"]
    done = called(capsys, "register", path, "--model_id", "own")
    assert {k: v for k, v in done.items() if k not in {"dry_run", "model_digest"}} == {
        k: v for k, v in tried.items() if k not in {"dry_run", "model_digest"}
    }
    assert f"nobody here knows which rows {path} was made of" in done["outcome_reason"]
    assert (done["champion"], done["missing_values"]) == ("first", "median")
    with here.opened() as store:
        assert store.get_model("default", "own").state is ModelState.AWAITING
    assert called(capsys, "promote", "own")["state"] == "champion"
    with pytest.raises(ConfigError, match="There is a model own already"):
        called(capsys, "register", path, "--model_id", "own")

    # What it may have been fitted on is not learned by its heads; what comes after is.
    tomorrow = NOW + DAY
    with here.opened() as store:
        own = store.get_model("default", "own")
        assert own.lineage.settled_night == NIGHTS[-1].day.toordinal()
        log_night(store, load_model_version(store, own), tomorrow)
        assert learned(store, tmp_path / "w", tomorrow).training_rows == 120


@ONE
def test_a_worse_one_is_refused_with_both_figures(
    here: Place, first_model: FirstModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nights = league.nights_before(NOW, 3, matches=120, turned=False)
    here.fill(first_model, nights)
    done = called(capsys, "register", str(own_skops(tmp_path / "own.skops")), "--model_id", "own")
    assert (done["outcome"], done["champion"]) == ("rejected", "first")
    assert done["metrics"]["log_loss"] > done["champion_metrics"]["log_loss"]
    with here.opened() as store:
        assert store.get_model("default", "own").state is ModelState.RETIRED


@ONE
def test_the_first_model_of_a_store_is_judged_by_the_floors_on_a_file(
    here: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(own_skops(tmp_path / "own.skops"))
    with pytest.raises(DataError, match="The log holds no result") as refused:
        called(capsys, "register", path)
    assert "--dataset" in refused.value.hint
    rows = league.play(7, 200, turned=True)
    lines = [",".join([*map(str, row), label]) for row, label in
             zip(rows.features.tolist(), rows.labels, strict=True)]  # fmt: skip
    header = ",".join([*DEFAULT_FEATURES, "result"])
    (tmp_path / "rows.csv").write_text("\n".join([header, *lines]))
    done = called(capsys, "register", path, "--model_id", "own", "--dataset", "rows.csv")
    assert (done["outcome"], done["champion"]) == ("promoted", "own"), done["outcome_reason"]
    with here.opened() as store:
        assert store.get_model("default", "own").lineage.scoring is not None
    with PredictionEngine(log=False) as engine:
        assert engine.predict(ROWS[0].tolist())["model_id"] == "own"


@ONE
def test_beside_a_champion_that_has_learned_everything_it_waits_in_the_shadow(
    here: Place, first_model: FirstModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here.fill(first_model, NIGHTS)
    with here.opened() as store:
        ran = learned(store, tmp_path / "w", NOW)
        assert ran.outcome is Outcome.PROMOTED, ran.outcome_reason
    path = str(own_skops(tmp_path / "own.skops"))
    assert called(capsys, "register", path, "--dry_run")["outcome"] == "shadow"
    done = called(capsys, "register", path, "--model_id", "own")
    assert (done["outcome"], done["champion"]) == ("shadow", ran.challenger_id)
    tomorrow = NOW + DAY
    with here.opened() as store:
        assert store.get_model("default", "own").state is ModelState.SHADOW
        log_night(store, first_model.model, tomorrow)
        notes = learned(store, tmp_path / "w", tomorrow).details["shadows"]
    assert [(note["base"], note["outcome"]) for note in notes] == [("own", "undecided")]


@ONE
def test_a_time_that_is_none_or_leaves_no_row_is_named(
    here: Place, first_model: FirstModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here.fill(first_model, NIGHTS)
    path = str(own_skops(tmp_path / "own.skops"))
    with pytest.raises(ConfigError, match="--fitted-until: 'yesterday' is not an ISO 8601 time"):
        called(capsys, "register", path, "--fitted_until", "yesterday")
    with pytest.raises(DataError, match="holds no row that is later than 2027-01-01"):
        called(capsys, "register", path, "--fitted_until", "2027-01-01")


@ONE
def test_a_model_of_this_program_is_told_how_it_comes_in(
    here: Place, first_model: FirstModel, capsys: pytest.CaptureFixture[str]
) -> None:
    here.fill(first_model, NIGHTS)
    with pytest.raises(ArtifactIncompatible, match="is one of this program"):
        called(capsys, "register", str(first_model.path))


@ONE
def test_a_type_that_the_settings_name_is_taken_and_answers_where_they_do(
    here: Place, first_model: FirstModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here.fill(first_model, NIGHTS)
    played = league.play(5, 400, turned=True)
    model = KNeighborsClassifier(25, algorithm="brute").fit(played.features, played.labels)
    (tmp_path / "own.skops").write_bytes(skops.io.dumps(model))
    words = ("register", "own.skops", "--model_id", "own", "--fitted_until", "2026-03-01")
    with pytest.raises(ArtifactIncompatible, match="KNeighborsClassifier") as refused:
        called(capsys, *words)
    named = re.search(r"artifacts\.allowed_types: \[(.*)\]", refused.value.hint)
    assert named is not None
    (tmp_path / "model_config.yaml").write_text(f"artifacts: {{allowed_types: [{named.group(1)}]}}")
    done = called(capsys, *words)
    assert (done["outcome"], done["champion"]) == ("promoted", "own"), done["outcome_reason"]
    # The settings that were kept from the first call say so as well.
    for _ in range(2):
        with PredictionEngine(log=False) as engine:
            assert engine.predict(ROWS[0].tolist())["model_id"] == "own"
    (tmp_path / "model_config.yaml").unlink()
    with pytest.raises(ArtifactIncompatible), PredictionEngine(log=False) as engine:
        engine.predict(ROWS[0].tolist())


def test_an_onnx_champion_is_moved_kept_rolled_back_and_scored_in_batches(
    here: Place,
    first_model: FirstModel,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    onnx_files.saved(onnx_files.linear(weights=-onnx_files.WEIGHTS), tmp_path / "own.onnx")
    here.fill(first_model, NIGHTS)
    done = called(
        capsys, "register", "own.onnx", "--model_id", "own", "--fitted_until", "2026-03-01"
    )
    assert done["outcome"] == "promoted", done["outcome_reason"]
    frame = pd.DataFrame(ROWS, columns=DEFAULT_FEATURES)
    frame.iloc[0, 0] = np.nan
    frame.to_csv("rows.csv", index=False)

    def batch() -> pd.DataFrame:
        assert predict.main(["--batch", "rows.csv", "--output", "out.csv", "--no-log"]) == 0
        return pd.read_csv("out.csv")[["model_id", "prediction", "confidence"]]

    answers = batch()
    assert set(answers["model_id"]) == {"own"}
    assert len(answers) == len(ROWS)
    called(capsys, "rollback", "--reason", "trying it")
    assert set(batch()["model_id"]) == {"first"}
    called(capsys, "rollback", "--to", "own", "--reason", "back")
    called(capsys, "export", "--with_artifacts", "--output_dir", "out")

    monkeypatch.setenv("ML_PIPELINE_LOCAL", str(tmp_path / "copy"))
    copied = called(capsys, "import", "out/model_registry.json")
    assert (copied["imported"], copied["champion"]) == (2, "own")
    assert batch().equals(answers)
    assert backup.main(["saved"]) == 0
    monkeypatch.setenv("ML_PIPELINE_LOCAL", str(tmp_path / "restored"))
    assert restore.main(["saved"]) == 0
    assert batch().equals(answers)
