"""`train --from_table --register` on both stores: first champion, the gate, and two models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from pydantic import SecretStr

from ml_pipeline.commands import models, train
from ml_pipeline.datasets.dataset import read_csv
from ml_pipeline.registry.models import load_model_version
from ml_pipeline.serving.engine import PredictionEngine
from ml_pipeline.store.contract import Store
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import ModelState
from ml_pipeline.store.supabase.store import SupabaseStore
from tests.support.factories import make_id, make_promotion
from tests.support.shell import Finished
from tests.support.supabase.project import SupabaseProject

LABELS = ["EASY", "MEDIUM", "HARD"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A store, and a way to run commands on it from the folder."""

    store: Store
    folder: Path
    capture: pytest.CaptureFixture[str]

    def run(self, module: Any, *arguments: str, config: str = "router") -> Finished:  # noqa: ANN401
        """The command in this process: its environment names the store."""
        code = module.main([*arguments, "--config", str(self.folder / f"{config}.yaml")])
        out, err = self.capture.readouterr()
        return Finished(code, out, err)

    def train(self, *arguments: str, config: str = "router") -> Finished:
        return self.run(train, "--from_table", "--register", *arguments, config=config)

    def configure(self, name: str, **changes: Any) -> None:  # noqa: ANN401 - settings
        settings = {
            "model_name": name,
            "data": {"features": ["a", "b"], "classes": LABELS} | changes,
            "ground_truth": {"model_column": "model_name"},
        }
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(settings))


@pytest.fixture(scope="module")
def schema(supabase: SupabaseProject) -> None:
    folder = files("ml_pipeline") / "sql" / "supabase"
    scripts = sorted(folder.iterdir(), key=lambda script: script.name)
    supabase.blank()
    supabase.apply("\n".join(script.read_text(encoding="utf-8") for script in scripts))


@pytest.fixture(params=["local", "supabase"])
def place(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Place]:
    store: Store
    if request.param == "local":
        monkeypatch.setenv("ML_PIPELINE_LOCAL", str(tmp_path / "store"))
        store = LocalStore.open(tmp_path / "store")
    else:
        request.getfixturevalue("schema")
        project: SupabaseProject = request.getfixturevalue("project")
        monkeypatch.delenv("ML_PIPELINE_LOCAL", raising=False)
        monkeypatch.setenv("SUPABASE_URL", project.url)
        monkeypatch.setenv("SUPABASE_SERVICE_KEY", project.service_key)
        store = SupabaseStore.open(project.url, SecretStr(project.service_key))
    monkeypatch.chdir(tmp_path)
    opened = Place(store=store, folder=tmp_path, capture=capsys)
    opened.configure("router")
    yield opened
    store.close()


def fill(
    store: Store, name: str, numbers: range, *, noise: float, weight_of_b: float = 0.0
) -> None:
    """Labels that follow feature `a`, and `b` by its weight, but for some noise: one an hour."""
    random = np.random.default_rng(numbers.start)
    now = datetime.now(UTC)
    rows = []
    for number in numbers:
        a, b = random.normal(size=2)
        place = int(np.clip(np.round(1 + a + weight_of_b * b + noise * random.normal()), 0, 2))
        rows.append(
            {
                "id": make_id(number),
                "created_at": now - timedelta(hours=2000 - number),
                "model_name": name,
                "features": {"a": a, "b": b},
                "label": LABELS[place],
            }
        )
    store.add_labels(rows)


def test_a_project_comes_from_nothing_to_a_champion_and_the_gate_guards_it(place: Place) -> None:
    empty = place.train()
    assert empty.code == 1
    assert "table ml_data is empty" in empty.json["error"]

    fill(place.store, "router", range(1, 601), noise=0.3)
    first = place.train()
    assert first.code == 0, first.stderr
    assert first.json["outcome"] == "promoted"
    assert first.json["load_report"]["usable"] == 600
    champion = place.store.champion(model_name="router")
    assert champion is not None
    assert champion.model_id == first.json["model_id"] == first.json["champion"]
    assert load_model_version(place.store, champion).classes_.tolist() == LABELS

    same = place.train("--algorithm", "DecisionTree")
    assert same.json["outcome"] == "rejected", same.json["outcome_reason"]
    assert same.json["champion"] == champion.model_id
    assert same.json["metrics"]["log_loss"] > same.json["champion_metrics"]["log_loss"]
    assert same.json["holdout_rows"] == 120
    assert same.json["recent"]["rows"] <= 120
    assert place.store.get_model("router", same.json["model_id"]).state is ModelState.RETIRED
    assert [e.to_model_id for e in place.store.promotion_events(model_name="router")] == [
        champion.model_id
    ]


def test_a_second_model_name_lives_beside_the_first_without_touching_it(place: Place) -> None:
    place.configure("chess")
    fill(place.store, "router", range(1, 201), noise=0.3)
    fill(place.store, "chess", range(301, 501), noise=0.3)
    router = place.train().json
    chess = place.train(config="chess").json
    assert (router["load_report"]["usable"], chess["load_report"]["usable"]) == (200, 200)
    for name, result in (("router", router), ("chess", chess)):
        champion = place.store.champion(model_name=name)
        assert champion is not None
        assert champion.model_id == result["model_id"]
        assert len(place.store.list_models(model_name=name)) == 1


def test_a_better_base_replaces_the_champion_on_rows_that_neither_has_learned(
    place: Place,
) -> None:
    fill(place.store, "router", range(1, 101), noise=3.0)
    first = place.train().json
    fill(place.store, "router", range(101, 1001), noise=0.1)
    second = place.train().json
    assert second["outcome"] == "promoted", second["outcome_reason"]
    assert second["champion"] == second["model_id"] != first["model_id"]
    assert second["training_rows"] == 800
    third = place.train("--algorithm", "DecisionTree").json
    assert third["outcome"] == "rejected"
    former = [c for c in third["decision"]["checks"] if c["name"] == "earlier_champion"]
    assert [first["model_id"] in check["sentence"] for check in former] == [True]
    assert former[0]["numbers"]["rows"] == third["holdout_rows"] == 200


def test_a_base_that_reads_a_new_feature_is_judged_beside_the_champion_that_does_not(
    place: Place,
) -> None:
    fill(place.store, "router", range(1, 601), noise=0.3, weight_of_b=1.0)
    place.configure("router", features=["b"])
    first = place.train().json
    assert first["outcome"] == "promoted"
    place.configure("router")
    wide = place.train()
    assert wide.code == 0, wide.stderr
    assert (wide.json["outcome"], wide.json["champion"]) == ("promoted", wide.json["model_id"])
    assert wide.json["holdout_rows"] == 120
    assert wide.json["metrics"]["log_loss"] < wide.json["champion_metrics"]["log_loss"] - 0.3

    # The other way round, the feature is missed.
    place.configure("router", features=["b"])
    narrow = place.train()
    assert narrow.json["outcome"] == "rejected", narrow.stderr
    assert narrow.json["champion"] == wide.json["model_id"]
    champion = place.store.champion(model_name="router")
    assert champion is not None
    held = narrow.json["champion_metrics"]["log_loss"]
    assert held == pytest.approx(wide.json["metrics"]["log_loss"], abs=1e-9)


def test_a_feature_that_the_rows_no_longer_have_is_missing_for_the_champion(place: Place) -> None:
    fill(place.store, "router", range(1, 401), noise=0.1)
    place.configure("router")
    place.train()
    place.configure("router", features=["a"])
    rows = pd.DataFrame({"a": np.linspace(-1.4, 1.4, 300), "id": [f"row {n}" for n in range(300)]})
    rows["result"] = np.asarray(LABELS)[(rows["a"] > -0.5).astype(int) + (rows["a"] > 0.5)]
    rows.to_csv(place.folder / "new.csv", index=False)
    done = place.run(train, "--register", "--dataset", "new.csv")
    assert done.code == 0, done.stderr
    assert "reads b, which the rows lack" in done.stderr
    assert done.json["champion_metrics"]["accuracy"] > 0.8


def test_a_base_that_knows_a_new_class_takes_over_by_the_gate(place: Place) -> None:
    fill(place.store, "router", range(1, 501), noise=0.2)
    first = place.train().json
    place.configure("router", classes=[*LABELS, "ABSURD"])
    now = datetime.now(UTC)
    place.store.add_labels(
        [
            {
                "id": make_id(number),
                "created_at": now - timedelta(hours=2000 - number),
                "model_name": "router",
                "features": {"a": 6.0 + number % 3, "b": -4.0},
                "label": "ABSURD",
            }
            for number in range(501, 601)
        ]
    )
    done = place.train()
    assert done.code == 0, done.stderr
    assert done.json["outcome"] == "promoted", done.json["outcome_reason"]
    assert done.json["classes"] == [*LABELS, "ABSURD"]
    assert done.json["champion"] == done.json["model_id"] != first["model_id"]


@pytest.mark.parametrize("has_scoring_file", [True, False])
def test_a_champion_of_another_scikit_learn_is_replaced_by_the_way_out_that_is_named(
    place: Place, *, has_scoring_file: bool
) -> None:
    fill(place.store, "router", range(1, 601), noise=0.3, weight_of_b=1.0)
    place.configure("router", features=["b"])
    first = place.train().json
    place.configure("router")
    champion = place.store.champion(model_name="router")
    assert champion is not None
    lineage = champion.lineage if has_scoring_file else replace(champion.lineage, scoring=None)
    older = replace(
        champion,
        model_id="older",
        anchor_id="older",
        state=ModelState.CANDIDATE,
        library_versions={**champion.library_versions, "scikit-learn": "0.1.0"},
        lineage=lineage,
    )
    place.store.register(older)
    place.store.promote(make_promotion("older", champion.model_id, 77, model_name="router"))
    done = place.train()
    assert done.code == 0, done.stderr
    assert done.json["outcome"] == "promoted", done.json["outcome_reason"]
    assert done.json["champion"] == done.json["model_id"] != first["model_id"]
    assert ("champion_metrics" in done.json) is has_scoring_file
    told = "was saved with scikit-learn 0.1.0" in done.json["outcome_reason"]
    assert told is not has_scoring_file
    if told:
        assert "judged by promotion's floors alone" in done.json["outcome_reason"]


def labels_of_texts(texts: list[tuple[str | None, str]], first: int = 1) -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    return [
        {
            "id": make_id(number),
            "created_at": now - timedelta(hours=2000 - number),
            "model_name": "router",
            "query": text,
            "label": label,
        }
        for number, (text, label) in enumerate(texts, first)
    ]


def test_fifty_texts_that_people_labelled_train_the_router(place: Place) -> None:
    place.configure("router", features=[], text_column="query")
    with as_file(files("ml_pipeline") / "data" / "router_prompts.csv") as path:
        prompts = read_csv(path)
    good = [(f"{text} 👍\n", label.lower()) for text, label in prompts.to_numpy()[:50]]
    place.store.add_labels(
        labels_of_texts([*good[:49], (" \n", "EASY"), ("why " * 262_144, "HARD")])
    )
    few = place.train()
    assert few.code == 1
    assert "49 usable rows of table ml_data" in few.json["error"]

    place.store.add_labels(labels_of_texts([good[49], (None, "")], first=60))
    first = place.train()
    assert first.code == 0, first.stderr
    assert first.json["outcome"] == "promoted", first.json["outcome_reason"]
    report = first.json["load_report"]
    assert (report["usable"], report["bad"], report["unlabelled"]) == (50, 2, 1)
    assert report["reasons"] == {
        "query has 1048576 characters, at most 100000 are read": 1,
        "query is empty": 1,
    }
    config_file = str(place.folder / "router.yaml")
    with PredictionEngine(config_file=config_file, log=False) as engine:
        answer = engine.predict(text="What is the capital of Norway?")
    assert answer["model_id"] == first.json["model_id"]
    assert answer["probabilities"].keys() == set(LABELS)

    place.configure("router")
    numbers = place.run(train, "--register", "--dataset", _numbers(place.folder))
    assert numbers.code == 1
    assert "reads the text column query, which the rows lack" in numbers.json["error"]


def _numbers(folder: Path) -> str:
    lines = [f"{n},{-n},{LABELS[n % 3]}" for n in range(60)]
    (folder / "numbers.csv").write_text("\n".join(["a,b,result", *lines]))
    return "numbers.csv"


def test_a_table_that_is_not_there_is_named(place: Place) -> None:
    (place.folder / "lost.yaml").write_text("ground_truth: {table: no_such_table}\n")
    done = place.train(config="lost")
    assert done.code == 1
    assert "no_such_table" in done.json["error"]
    assert "ground_truth" in done.json["error"]


def test_the_registry_is_exported_and_imported_with_its_champion(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(place.store, "router", range(1, 201), noise=0.3)
    champion = place.train().json["model_id"]
    place.train("--algorithm", "DecisionTree")
    out = tmp_path / "out"
    exported = place.run(models, "export", "--output_dir", str(out), "--with_artifacts").json
    assert (exported["models"], exported["champion"]) == (2, champion)

    file = out / "model_registry.json"
    monkeypatch.setenv("ML_PIPELINE_LOCAL", str(tmp_path / "copy"))
    copied = place.run(models, "import", str(file)).json
    assert copied == {"imported": 2, "known": 0, "restored": [], "champion": champion}
    again = place.run(models, "import", str(file)).json
    assert again == {"imported": 0, "known": 2, "restored": [], "champion": champion}

    artifact = out / champion / "model.skops"
    artifact.write_bytes(artifact.read_bytes() + b"x")
    monkeypatch.setenv("ML_PIPELINE_LOCAL", str(tmp_path / "other"))
    tampered = place.run(models, "import", str(file))
    assert tampered.code == 1
    assert "digest" in tampered.json["error"]
    empty = LocalStore.open(tmp_path / "other")
    assert empty.list_models(model_name="router") == []


def test_a_model_that_is_brought_along_is_tuned_registered_and_judged(place: Place) -> None:
    fill(place.store, "router", range(1, 301), noise=0.3)
    (place.folder / "own.csv").write_text(
        "\n".join(["a,b,result", *(f"{n % 3 - 1},{n % 7},{LABELS[n % 3]}" for n in range(90))])
    )
    own = place.run(train, "--dataset", "own.csv", "--model_id", "own").json["model_path"]
    brought = ("--fine_tune", "--model_path", own)

    first = place.train(*brought, "--model_id", "tuned")
    assert (first.code, first.json["outcome"]) == (0, "promoted"), first.stderr
    assert first.json["base"] == {"kind": "model_path", "path": own}
    champion = place.store.champion(model_name="router")
    assert champion is not None
    assert (champion.model_id, champion.anchor_id) == ("tuned", "tuned")
    load_model_version(place.store, champion)

    # Beside a champion nobody can tell whether it has learned the rows on which both are judged.
    fill(place.store, "router", range(301, 401), noise=0.3)
    second = place.train(*brought, "--model_id", "again")
    assert second.code == 0, second.stderr
    assert second.json["outcome"] in {"awaiting_approval", "rejected"}
    names = [check["name"] for check in second.json["decision"]["checks"]]
    assert "skill" not in names
