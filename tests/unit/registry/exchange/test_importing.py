"""An exported registry comes in whole, or is refused in words, and nothing was written then."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
import skops.io
from sklearn.ensemble import GradientBoostingClassifier

from ml_pipeline.errors import PipelineError
from ml_pipeline.registry import archive
from ml_pipeline.registry.exchange import export, importing
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.event_row import utc_text
from ml_pipeline.store.records import ModelState
from tests.conftest import FirstModel
from tests.support import league, mutated
from tests.support.factories import NOW, make_id
from tests.support.properties import tries

SETTINGS = league.settings_for()
LATER = utc_text(NOW + timedelta(days=1))


@pytest.fixture(scope="module")
def exported(first_model: FirstModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    store = LocalStore.open(folder / "store")
    league.enthrone(store, first_model.path, SETTINGS, now=NOW)
    export.export(store, SETTINGS, folder / "out", now=NOW, with_artifacts=True)
    store.close()
    return folder / "out" / export.FILE_NAME


def imported(content: object, exported: Path, folder: Path) -> dict[str, Any]:
    """What an empty store says of the file; it is empty still when the file is refused."""
    file = exported.with_name(f"{folder.name}.json")
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    store = LocalStore.open(folder / "store")
    try:
        return importing.import_file(store, SETTINGS, file, now=NOW, event_id=make_id(1))
    except PipelineError:
        assert store.list_models(model_name=SETTINGS.model_name) == []
        raise
    finally:
        store.close()


MORE_THAN_A_PAGE = 1_001
_COPIES = """
    WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?)
    INSERT INTO model_metadata ({names})
    SELECT {values} FROM model_metadata, n WHERE model_id = 'first'
"""


def test_an_export_holds_every_model_also_a_base_older_than_a_thousand(
    first_model: FirstModel, tmp_path: Path
) -> None:
    store = LocalStore.open(tmp_path / "store")
    league.enthrone(store, first_model.path, SETTINGS, now=NOW)
    with sqlite3.connect(tmp_path / "store" / "store.db") as db:
        names = [row[1] for row in db.execute("PRAGMA table_info(model_metadata)")]
        changed = {"model_id": "'m-' || n", "state": "'retired'", "created_at": f"'{LATER}'"}
        values = ", ".join(changed.get(name, name) for name in names)
        query = _COPIES.format(names=", ".join(names), values=values)
        db.execute(query, [MORE_THAN_A_PAGE])
    db.close()
    told = export.export(store, SETTINGS, tmp_path, now=NOW, with_artifacts=False)
    store.close()
    content = content_of(tmp_path / export.FILE_NAME)
    assert told["models"] == len(content["models"]) == MORE_THAN_A_PAGE + 1
    assert content["champion"] == league.FIRST_MODEL


def test_a_registry_of_which_models_were_pruned_comes_in_as_it_was(
    first_model: FirstModel, tmp_path: Path
) -> None:
    store = LocalStore.open(tmp_path / "store")
    league.enthrone(store, first_model.path, SETTINGS, now=NOW)
    first = store.get_model(SETTINGS.model_name, league.FIRST_MODEL)
    old = replace(first, model_id="old", state=ModelState.RETIRED, anchor_id="old")
    store.register(replace(old, created_at=NOW - timedelta(days=9)))
    store.prune_model(SETTINGS.model_name, "old", now=NOW)
    export.export(store, SETTINGS, tmp_path / "out", now=NOW, with_artifacts=True)
    told = imported(content_of(tmp_path / "out" / export.FILE_NAME),
                    tmp_path / "out" / export.FILE_NAME, tmp_path / "new")  # fmt: skip
    assert (told["imported"], told["champion"]) == (2, league.FIRST_MODEL)
    found = LocalStore.open(tmp_path / "new" / "store").get_model(SETTINGS.model_name, "old")
    assert (found.pruned_at, found.artifact.size) == (NOW, first.artifact.size)


def content_of(exported: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(exported.read_text())
    return content


def entry(content: dict[str, Any], **changes: object) -> None:
    content["models"][league.FIRST_MODEL] |= changes


def renamed(content: dict[str, Any], model_id: str) -> None:
    content["models"] = {model_id: content["models"][league.FIRST_MODEL] | {"model_id": model_id}}
    content["champion"] = None


ODD: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no models": (lambda c: c.pop("models"), "models: Field required"),
    "models as a list": (lambda c: c.update(models=[]), "models: Input should be"),
    "an entry that is none": (lambda c: c["models"].update(first=3), "first"),
    "a champion that is none": (lambda c: c.update(champion=["first"]), "champion"),
    "a champion that is not there": (lambda c: c.update(champion="x"), "not among the models"),
    "a name at another place": (lambda c: c["models"].update(x=c["models"].pop("first")), "at x"),
    "a pruned champion": (lambda c: entry(c, pruned_at=LATER), "was pruned"),
    "a lost base": (lambda c: entry(c, anchor_id="x"), "goes on from x, which is lost"),
    "a time that is none": (lambda c: entry(c, created_at="soon"), "cannot be used"),
    "a time out of range": (
        lambda c: entry(c, created_at="0001-01-01T00:00:00+12:00"),
        "cannot be used",
    ),
    "a threshold over one": (lambda c: entry(c, confidence_threshold=7), "confidence_threshold"),
    "metrics that are none": (lambda c: entry(c, metrics={"accuracy": "good"}), "metrics"),
    "a day out of range": (lambda c: entry(c, lineage={"settled_night": 10**12}), "settled_night"),
    "a lineage that is none": (lambda c: entry(c, lineage=[]), "lineage"),
    "libraries that are none": (lambda c: entry(c, library_versions={"numpy": 2}), "numpy"),
    "a digest that is none": (lambda c: entry(c, artifact_digest="abc"), "digest"),
    "a path for a name": (lambda c: renamed(c, "../first"), "is no name for a model"),
    "half a character": (lambda c: entry(c, algorithm="\ud800"), "not JSON"),
    "another model name": (lambda c: entry(c, model_name="x"), "is a model of x"),
    "another format": (lambda c: c.update(format=2), "no registry of format"),
}


@pytest.mark.parametrize("case", ODD)
def test_an_odd_file_is_refused_in_words(case: str, exported: Path, tmp_path: Path) -> None:
    change, words = ODD[case]
    content = content_of(exported)
    change(content)
    with pytest.raises(PipelineError, match=words):
        imported(content, exported, tmp_path)


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"3", b"{", b"\xff\xfe", b"[" * 100_000, b'{"format": 1, "x": NaN}', b"\x00" * 9],
)
def test_what_is_no_registry_is_refused(text: bytes, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"is not JSON|is no registry"):
        imported(text, exported, tmp_path)


def test_a_folder_and_a_file_too_large_are_refused(exported: Path, tmp_path: Path) -> None:
    store = LocalStore.open(tmp_path / "store")
    (tmp_path / "large.json").touch()
    with (tmp_path / "large.json").open("r+b") as file:
        file.truncate(importing.MAX_BYTES + 1)
    for path, words in ((tmp_path, "cannot be read"), (tmp_path / "large.json", "no registry is")):
        with pytest.raises(PipelineError, match=words):
            importing.import_file(store, SETTINGS, path, now=NOW, event_id=make_id(1))
    store.close()
    assert exported.exists()


def test_a_crafted_champion_of_a_foreign_export_never_serves(
    exported: Path, tmp_path: Path
) -> None:
    played = league.play(1, 60)
    crafted = GradientBoostingClassifier(n_estimators=2).fit(played.features, played.labels)
    crafted.estimators_[0][0].tree_.feature[0] = 10**6
    (exported.parent / "crafted").mkdir(exist_ok=True)
    artifact = exported.parent / "crafted" / "model.skops"
    artifact.write_bytes(skops.io.dumps(crafted))
    content = content_of(exported)
    renamed(content, "crafted")
    digest = archive.digest_file(artifact)
    content["models"]["crafted"] |= {"artifact_digest": digest, "anchor_id": "crafted"}
    content["champion"] = "crafted"
    with pytest.raises(PipelineError, match="types that are not allowed"):
        imported(content, exported, tmp_path)


def test_no_mutated_file_does_more_than_be_refused(exported: Path, tmp_path: Path) -> None:
    for seed in range(tries(25)):
        random, content = Random(seed), deepcopy(content_of(exported))
        for _ in range(random.randint(1, 3)):
            mutated.change_json(content, random)
        (tmp_path / str(seed)).mkdir()
        try:
            done = imported(content, exported, tmp_path / str(seed))
        except PipelineError:
            continue
        assert done["imported"] <= 1
