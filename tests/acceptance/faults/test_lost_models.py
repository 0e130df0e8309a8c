"""Model bytes that are gone or damaged: what still works, who finds it, and every way out tried."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from ml_pipeline.commands import doctor, models, predict, train
from ml_pipeline.config.data import DEFAULT_FEATURES
from ml_pipeline.errors import ArtifactCorrupt, ArtifactError, ArtifactMissing
from ml_pipeline.registry import archive
from ml_pipeline.registry.models import MODEL_BUCKET, artifact_path, scoring_path
from ml_pipeline.registry.scoring_writer import write_scoring
from ml_pipeline.runs import recording
from ml_pipeline.runs.recording import Failed
from ml_pipeline.serving.engine import PredictionEngine
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import (
    ArtifactRef,
    Lineage,
    ModelState,
    ModelVersion,
    PromotionEvent,
    PromotionKind,
)
from tests.conftest import FirstModel
from tests.support import crashing, league
from tests.support.crashing import NOW
from tests.support.places import Place
from tests.support.shell import Finished

SECOND = "second"
ROW = [0.5, -0.3, 0.2, 0.1, 0.4]
NIGHTS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Registry:
    """A store whose champion `second` served after `first`, and commands on it."""

    place: Place
    folder: Path
    capture: pytest.CaptureFixture[str]

    def run(self, module: Any, *arguments: str) -> Finished:  # noqa: ANN401 - a command
        code = module.main([*arguments])
        out, err = self.capture.readouterr()
        return Finished(code, out, err)

    def lose(self, how: Callable[[Store, ArtifactRef, Path], None], *model_ids: str) -> None:
        """The artifacts and scoring files of these models."""
        with self.place.opened() as store:
            for model_id in model_ids:
                model = store.get_model("default", model_id)
                for ref in filter(None, (model.artifact, model.lineage.scoring)):
                    how(store, ref, self.folder)

    def champion(self) -> str:
        with self.place.opened() as store:
            champion = store.champion(model_name="default")
        assert champion is not None
        return champion.model_id

    def answer(self) -> dict[str, Any]:
        with PredictionEngine(log=False) as engine:
            return engine.predict(ROW)


def gone(store: Store, ref: ArtifactRef, _folder: Path) -> None:
    store.remove(ref.bucket, ref.path)


def damaged(store: Store, ref: ArtifactRef, folder: Path) -> None:
    store.remove(ref.bucket, ref.path)
    (folder / "other").write_bytes(b"other bytes")
    store.put(ref.bucket, ref.path, folder / "other")


@pytest.fixture
def registry(
    place: Place,
    first_model: FirstModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Registry:
    for name, value in place.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    place.fill(first_model, [])
    scored = tmp_path / "model.scoring"
    assert write_scoring(first_model.model, scored)
    with place.opened() as store:
        second = ModelVersion(
            model_name="default",
            model_id=SECOND,
            algorithm="LogisticRegression",
            artifact=store.put(MODEL_BUCKET, artifact_path("default", SECOND), first_model.path),
            created_at=NOW - timedelta(days=20),
            state=ModelState.CANDIDATE,
            anchor_id=SECOND,
            lineage=Lineage(
                scoring=store.put(MODEL_BUCKET, scoring_path("default", SECOND), scored)
            ),
            library_versions=archive.library_versions(),
        )
        store.register(second)
        store.promote(
            PromotionEvent(
                event_id=league.event_id("second promotion"),
                model_name="default",
                kind=PromotionKind.PROMOTION,
                to_model_id=SECOND,
                from_model_id=league.FIRST_MODEL,
                reason="better",
                actor="test",
                created_at=NOW - timedelta(days=19),
            )
        )
        for night in league.nights_before(NOW, NIGHTS, turned=False, matches=10):
            store.append_events(league.events_of(first_model.model, night, model_id=SECOND))
    return Registry(place=place, folder=tmp_path, capture=capsys)


def dataset(folder: Path, rows: int = 150, *, seed: int = 5, turned: bool = False) -> str:
    played = league.play(seed, rows, turned=turned)
    frame = pd.DataFrame(played.features, columns=DEFAULT_FEATURES)
    frame.assign(result=played.labels).to_csv(folder / "rows.csv", index=False)
    return str(folder / "rows.csv")


def faults(done: Finished) -> dict[str, str]:
    return {f["name"]: f["do"] for f in done.json["findings"] if not f["ok"]}


# --------------------------------------------------------------------- what is said of it


@pytest.mark.parametrize(("how", "error"), [(gone, ArtifactMissing), (damaged, ArtifactCorrupt)])
def test_a_champion_without_its_bytes_answers_with_the_ways_out(
    registry: Registry, how: Callable[..., None], error: type[ArtifactError]
) -> None:
    registry.lose(how, SECOND)
    with pytest.raises(error, match="second") as refusal:
        registry.answer()
    for way in ("models import FILE", "models promote ID --force", "train --register"):
        assert way in refusal.value.hint
    assert league.FIRST_MODEL in refusal.value.hint
    done = registry.run(predict, "--predict", *map(str, ROW))
    assert done.code == 1
    assert "Traceback" not in done.stderr
    for flags in ((), ("--quick",)):
        found = registry.run(doctor, *flags)
        if how is gone or not flags:
            assert found.code == 1
            assert "models import FILE" in faults(found)["champion_artifact"]


def test_a_run_ends_with_the_ways_out(registry: Registry, tmp_path: Path) -> None:
    registry.lose(gone, SECOND)
    with registry.place.opened() as store:
        settings = league.settings_for(run__trigger="any")
        outcome = recording.run(store, crashing.order(tmp_path / "work", settings=settings))
        row = store.get_run(outcome.run.run_id)
    assert isinstance(outcome, Failed)
    assert "The bytes of the model second are gone" in str(row.error_message)
    assert "models import FILE" in str(row.error_message)


def test_a_scoring_file_that_is_lost_makes_answers_slower_and_is_said(registry: Registry) -> None:
    before = registry.answer()
    with registry.place.opened() as store:
        ref = store.get_model("default", SECOND).lineage.scoring
        assert ref is not None
        gone(store, ref, registry.folder)
    after = registry.answer()
    assert after["probabilities"] == pytest.approx(before["probabilities"], abs=1e-9)
    assert "scored from its artifact" in after["warnings"][0]
    for flags in ((), ("--quick",)):
        found = registry.run(doctor, *flags)
        assert "models import FILE" in faults(found)["champion_scoring"]


# --------------------------------------------------------------------- the ways out


@pytest.mark.parametrize("how", [gone, damaged])
def test_an_import_puts_back_what_is_lost(registry: Registry, how: Callable[..., None]) -> None:
    out = registry.folder / "out"
    registry.run(models, "export", "--output_dir", str(out), "--with_artifacts")
    before = registry.answer()
    registry.lose(how, league.FIRST_MODEL, SECOND)

    done = registry.run(models, "import", str(out / "model_registry.json"))

    assert (done.code, done.json["restored"]) == (0, [SECOND, league.FIRST_MODEL]), done.stderr
    assert (done.json["imported"], done.json["known"]) == (0, 2)
    assert registry.answer()["probabilities"] == before["probabilities"]
    with PredictionEngine(log=False) as engine:
        assert engine.get_model_info()["scored_from"] == "scoring file"
    found = registry.run(doctor)
    assert not {"champion_artifact", "champion_scoring"} & set(faults(found))
    again = registry.run(models, "import", str(out / "model_registry.json"))
    assert again.json["restored"] == []


def test_a_scoring_file_is_written_again_from_the_artifact(registry: Registry) -> None:
    out = registry.folder / "out"
    registry.run(models, "export", "--output_dir", str(out), "--with_artifacts")
    (out / SECOND / "model.scoring").unlink()
    with registry.place.opened() as store:
        ref = store.get_model("default", SECOND).lineage.scoring
        assert ref is not None
        gone(store, ref, registry.folder)
    done = registry.run(models, "import", str(out / "model_registry.json"))
    assert done.json["restored"] == [SECOND]
    with PredictionEngine(log=False) as engine:
        assert engine.get_model_info()["scored_from"] == "scoring file"


def test_other_bytes_are_not_put_back(registry: Registry) -> None:
    out = registry.folder / "out"
    registry.run(models, "export", "--output_dir", str(out), "--with_artifacts")
    registry.lose(gone, SECOND)
    (out / SECOND / "model.skops").write_bytes(b"other bytes")
    done = registry.run(models, "import", str(out / "model_registry.json"))
    assert done.code == 1
    assert "has the digest" in done.json["error"]
    with pytest.raises(ArtifactMissing):
        registry.answer()


@pytest.mark.parametrize(
    "command",
    [
        ("rollback", "--reason", "bytes lost"),
        ("rollback", "--to", league.FIRST_MODEL, "--reason", "bytes lost"),
        ("promote", league.FIRST_MODEL, "--force", "--reason", "bytes lost"),
    ],
)
@pytest.mark.parametrize("how", [gone, damaged])
def test_another_version_serves_in_its_place(
    registry: Registry, how: Callable[..., None], command: tuple[str, ...]
) -> None:
    registry.lose(how, SECOND)
    done = registry.run(models, *command)
    assert done.code == 0, done.stderr
    assert registry.champion() == league.FIRST_MODEL
    assert registry.answer()["model_id"] == league.FIRST_MODEL


def test_a_version_without_bytes_does_not_serve(registry: Registry) -> None:
    registry.lose(gone, league.FIRST_MODEL)
    for command in (("rollback",), ("promote", league.FIRST_MODEL, "--force")):
        done = registry.run(models, *command, "--reason", "trying")
        assert done.code == 1
        assert "The bytes of the model first are gone" in done.json["error"]
        assert "models import FILE" in done.json["error"]
    assert registry.champion() == SECOND


@pytest.mark.parametrize("how", [gone, damaged])
def test_a_new_base_is_trained_in_its_place(registry: Registry, how: Callable[..., None]) -> None:
    registry.lose(how, league.FIRST_MODEL, SECOND)
    done = registry.run(
        train, "--register", "--dataset", dataset(registry.folder, 600), "--model_id", "third"
    )
    assert done.code == 0, done.stderr
    assert done.json["outcome"] == "promoted", done.json["outcome_reason"]
    assert (
        "in the place of second, judged by promotion's floors and by what that"
        in done.json["outcome_reason"]
    )
    assert registry.answer()["model_id"] == "third"
    assert registry.run(doctor, "--quick").json["status"] == "healthy"


def test_a_new_base_that_is_right_less_often_than_the_lost_one_waits_for_a_person(
    registry: Registry,
) -> None:
    registry.lose(gone, SECOND)
    with registry.place.opened() as store:
        for night in league.nights_before(NOW, 3, turned=False):
            events = league.events_of(_Right(), night, model_id=SECOND, tag="right")
            # The application has its own word for what came true.
            store.append_events(events.assign(actual_result="home_win", accuracy=1.0))
    done = registry.run(
        train, "--register", "--dataset", dataset(registry.folder, 600), "--model_id", "third"
    )
    assert (done.code, done.json["outcome"]) == (0, "awaiting_approval"), done.stderr
    assert "was right more often" in done.json["outcome_reason"]
    assert json.loads(json.dumps(done.json["decision"]["checks"][-1]))["name"] == "lost_champion"
    approved = registry.run(models, "promote", "third")
    assert approved.code == 0
    assert registry.answer()["model_id"] == "third"


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (models, ("register", "own.skops", "--model_id", "own")),
        (train, ("--register", "--fine_tune", "--model_path", "own.skops", "--model_id", "own")),
    ],
)
def test_one_of_which_nobody_knows_what_it_was_fitted_on_waits_for_a_person_too(
    registry: Registry, module: ModuleType, words: tuple[str, ...]
) -> None:
    registry.lose(gone, SECOND)
    rows = dataset(registry.folder, 600)
    past = league.play(5, 600)
    fitted = LogisticRegression().fit(past.features, past.labels)
    (registry.folder / "own.skops").write_bytes(skops.io.dumps(fitted))
    done = registry.run(module, *words, "--dataset", rows)
    assert (done.code, done.json["outcome"]) == (0, "awaiting_approval"), done.stderr
    assert "nobody here knows which rows" in done.json["outcome_reason"]
    assert registry.champion() == SECOND


class _Right:
    """Answers that all turn out right."""

    classes_ = np.asarray(league.CLASSES)

    def predict_proba(self, features: Any) -> Any:  # noqa: ANN401 - arrays
        return np.tile([0.8, 0.1, 0.1], (len(features), 1))
