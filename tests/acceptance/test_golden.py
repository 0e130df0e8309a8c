"""Files that an earlier state of this code wrote are read and served, and projects of then go on.

`tests.support.make_golden` tells how they came about.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from ml_pipeline import PredictionEngine
from ml_pipeline.registry import scoring
from ml_pipeline.store import schema
from tests.support import golden, league
from tests.support.golden import CLASSIFIERS, EMBEDDED, ROUTER, SUPABASE, GoldenModel
from tests.support.shell import Finished
from tests.support.supabase import dump
from tests.support.supabase.project import SupabaseProject
from tests.support.warm import ml_pipeline

# Other processors and other versions of numpy round otherwise.
WITHIN = 1e-9
ALGORITHMS = {
    "LogisticRegression", "SGDClassifier", "DecisionTreeClassifier", "RandomForestClassifier",
    "HistGradientBoostingClassifier", "VotingClassifier",
}  # fmt: skip
CLASS = "ml_pipeline.adaptive.AdaptiveClassifier"
TEXT_CLASS = "ml_pipeline.text_features.TextStatistics"


@pytest.fixture(scope="module")
def registries(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path]:
    """The golden registries as folders, by their archives."""
    return {
        archive: golden.unpack(archive, tmp_path_factory.mktemp("registry"))
        for archive in (CLASSIFIERS, ROUTER)
    }


def of_then() -> str:
    """The version of scikit-learn that wrote the golden files."""
    reported = golden.read_json_in(CLASSIFIERS, golden.REGISTRY)
    (then,) = {model["library_versions"]["scikit-learn"] for model in reported["models"].values()}
    return str(then)


@contextmanager
def refused_by_another_scikit_learn() -> Iterator[None]:
    """What loads an artifact in here ends in a refusal when scikit-learn's minor is not its own."""
    then, now = of_then(), version("scikit-learn")
    if then.split(".")[:2] == now.split(".")[:2]:
        yield
        return
    # The command's refusal is in the message of the assertion that it ended well.
    with pytest.raises(AssertionError) as found:
        yield
    assert f"scikit-learn {then}" in str(found.value)
    assert now in str(found.value)


def expected(probabilities: Sequence[Mapping[str, float]]) -> list[Any]:
    return [pytest.approx(dict(answered), rel=0, abs=WITHIN) for answered in probabilities]


# ----------------------------------------------------------------------------------- models


@pytest.mark.parametrize("archive", [CLASSIFIERS, ROUTER], ids=["classifiers", "router"])
def test_every_artifact_says_what_it_said(
    registries: dict[Path, Path], archive: Path, tmp_path: Path
) -> None:
    registry = registries[archive]
    models = golden.read_models(registry)
    if archive == CLASSIFIERS:
        assert {model.entry["algorithm"] for model in models} == ALGORITHMS
    config, store = str(registry / golden.CONFIG), str(tmp_path / "store")

    with refused_by_another_scikit_learn():
        done = ml_pipeline(
            "models", "import", registry / golden.REGISTRY, "--config", config, "--local", store,
            cwd=tmp_path,
        )  # fmt: skip
        assert done.code == 0, done.stderr
        assert (done.json["imported"], done.json["known"]) == (len(models), 0)
        for model in models:
            with PredictionEngine(
                local_dir=store, model_id=model.entry["model_id"], config_file=config, log=False
            ) as engine:
                # The scoring file stays behind when a model is imported.
                assert engine.get_model_info()["scored_from"] == "artifact"
                answered = [answer["probabilities"] for answer in engine.batch_predict(model.rows)]
            assert answered == expected(model.probabilities), model.entry["algorithm"]


def scored(model: GoldenModel) -> list[dict[str, float]]:
    """What the scoring file says of the model's rows."""
    named = model.entry["lineage"]["scoring"]
    scorer = scoring.load(
        str(model.folder / "model.scoring"), digest=named["digest"], size=named["size"]
    )
    return [
        dict(
            zip(
                scorer.classes,
                scorer.probabilities(
                    [row[name] for name in scorer.features], row.get(str(scorer.text_column))
                ),
                strict=True,
            )
        )
        for row in model.rows
    ]


@pytest.mark.parametrize("archive", [CLASSIFIERS, ROUTER], ids=["classifiers", "router"])
def test_every_scoring_file_says_what_its_artifact_said(
    registries: dict[Path, Path], archive: Path
) -> None:
    for model in golden.read_models(registries[archive]):
        assert scored(model) == expected(model.probabilities), model.entry["algorithm"]


def classes_of_ours(artifact: Path) -> set[str]:
    """Our classes by the names that an artifact gives them."""
    found: set[str] = set()

    def look(node: dict[str, Any]) -> dict[str, Any]:
        if str(node.get("__module__")).startswith("ml_pipeline"):
            found.add(f"{node['__module__']}.{node['__class__']}")
        return node

    with ZipFile(artifact) as archive:
        json.loads(archive.read("schema.json"), object_hook=look)
    return found


def test_an_artifact_saved_today_names_its_classes_as_then(
    registries: dict[Path, Path], tmp_path: Path
) -> None:
    """Else the versions that are in use could not load it."""
    registry = registries[ROUTER]
    (model,) = golden.read_models(registry)
    assert classes_of_ours(model.folder / "model.skops") == {CLASS, TEXT_CLASS}
    rows = [{**row, "label": max(answered, key=lambda label: answered[label])}
            for row, answered in zip(model.rows, model.probabilities, strict=True)]  # fmt: skip
    write_rows(tmp_path / "rows.csv", rows)

    done = ml_pipeline(
        "train", "--fine_tune", "--model_path", model.folder / "model.skops", "--model_id", "tuned",
        "--dataset", "rows.csv", "--config", registry / golden.CONFIG, cwd=tmp_path,
    )  # fmt: skip

    assert done.code == 0, done.stderr
    saved = tmp_path / "models" / "tuned" / "model.skops"
    assert saved.read_bytes() != (model.folder / "model.skops").read_bytes()
    assert classes_of_ours(saved) == {CLASS, TEXT_CLASS}


# --------------------------------------------------------------------------------- projects


@dataclass(frozen=True, kw_only=True, slots=True)
class Project:
    """A project of then: its owner's folder, and what the commands said of it."""

    folder: Path
    variables: Mapping[str, str]
    reported: Mapping[str, Any]

    def command(self, *arguments: str) -> Finished:
        done = ml_pipeline(*arguments, cwd=self.folder, **self.variables)
        assert done.code == 0, done.stderr
        return done


@pytest.fixture(scope="module")
def restored(supabase: SupabaseProject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the Supabase project, whose rows and objects are on the project."""
    folder = golden.unpack(SUPABASE, tmp_path_factory.mktemp("restored"))
    dump.restore(supabase, folder)
    # As docs/upgrading.md says: the schema first.
    supabase.apply("\n".join(script.text for script in schema.scripts()))
    return folder


@pytest.fixture(params=["embedded", "supabase"])
def old_project(request: Any, tmp_path: Path) -> Project:  # noqa: ANN401 - pytest's own
    if request.param == "embedded":
        golden.unpack(EMBEDDED, tmp_path)
        variables = {"ML_PIPELINE_LOCAL": "store"}
    else:
        request.getfixturevalue("restored")
        project: SupabaseProject = request.getfixturevalue("project")
        golden.unpack(SUPABASE, tmp_path)
        variables = {"SUPABASE_URL": project.url, "SUPABASE_SERVICE_KEY": project.service_key}
    reported = golden.read_json(tmp_path / golden.TOLD)
    return Project(folder=tmp_path, variables=variables, reported=reported)


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def named(rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    return [{"match_id": f"today-{number}", **row} for number, row in enumerate(rows)]


def predicted(path: Path) -> list[dict[str, float]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [json.loads(row["probabilities"]) for row in csv.DictReader(file)]


def test_a_project_is_seen_as_it_was_left(old_project: Project) -> None:
    reported = old_project.reported
    status = old_project.command("status").json
    assert {name: status[name] for name in reported["status"]} == reported["status"]
    assert status["champion"]["model_id"] != status["awaiting_approval"][0]["model_id"]
    assert old_project.command("models", "list").json["models"] == reported["models"]
    assert old_project.command("requests", "list").json["requests"] == reported["requests"]
    assert [request["status"] for request in reported["requests"]] == ["pending", "completed"]


def test_a_project_goes_on_from_where_it_was_left(old_project: Project) -> None:
    reported = old_project.reported
    if "ML_PIPELINE_LOCAL" in old_project.variables:  # it takes seconds, and test_replay tries both
        with refused_by_another_scikit_learn():
            replayed = old_project.command("replay", reported["promoted_run"]).json
            assert (replayed["result"], replayed["first_difference"]) == ("identical", None)

    played = league.play(2, 36, turned=True)
    names = list(reported["rows"][0])
    matches = [dict(zip(names, row, strict=True)) for row in played.features.tolist()]
    write_rows(old_project.folder / "rows.csv", named([*reported["rows"], *matches]))
    done = old_project.command("predict", "--batch", "rows.csv", "--output", "said.csv").json
    assert (done["model_id"], done["logged"]) == (reported["status"]["champion"]["model_id"], 40)
    answered = predicted(old_project.folder / "said.csv")
    assert answered[:4] == expected(reported["probabilities"])

    results = [{"match_id": f"today-{number}", "actual_result": label}
               for number, label in enumerate(played.labels.tolist(), 4)]  # fmt: skip
    write_rows(old_project.folder / "results.csv", results)
    known = old_project.command("outcome", "--csv", "results.csv").json
    assert (known["recorded"], known["unknown"], known["refused"]) == (36, [], [])

    night = old_project.command("run").json
    waiting = [request["id"] for request in reported["requests"] if request["status"] == "pending"]
    assert (night["status"], night["outcome"]) == ("completed", "promoted")
    assert night["request_ids"] == waiting
    assert night["training_rows"] >= len(results)
    status = old_project.command("status").json
    assert status["champion"]["model_id"] == night["challenger"]
    assert status["champion"]["parent_id"] == reported["status"]["champion"]["model_id"]
    assert status["latest_run"]["run_id"] == night["run_id"]
