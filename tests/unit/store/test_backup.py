"""A manifest that somebody made: nothing is read but what is in the backup as it was saved."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ml_pipeline.errors import StoreCorrupt
from ml_pipeline.store.backup.folder import MANIFEST, Manifest, finish
from ml_pipeline.store.embedded.backup import restore

NOW = datetime(2026, 11, 5, tzinfo=UTC)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    (folder / "artifacts").mkdir(parents=True)
    (folder / "artifacts" / "model").write_text("a model")
    finish(folder, kind="local", now=NOW, schema_version=1, rows={})
    return folder


def changed(folder: Path, **values: Any) -> None:  # noqa: ANN401 - JSON
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | values))


@pytest.mark.parametrize(
    "values",
    [
        {"schema_version": math.inf},
        {"rows": {"ml_data": math.inf}},
        {"files": [{"path": "x" * 5000, "size": 0, "digest": ""}]},
        {"files": [{"path": "a\0b", "size": 0, "digest": ""}]},
        {"files": [{"path": "artifacts", "size": 0, "digest": ""}]},
        {"files": [{"path": "", "size": 0, "digest": ""}]},
        {"files": [["path"]]},
    ],
)
def test_o5_a_strange_manifest_is_no_backup(made: Path, values: dict[str, Any]) -> None:
    changed(made, **values)
    with pytest.raises(StoreCorrupt):
        Manifest.read(made, kind="local")


def test_o5_a_manifest_without_end_is_no_backup(made: Path) -> None:
    (made / MANIFEST).write_text("[" * 200_000)
    with pytest.raises(StoreCorrupt, match=MANIFEST):
        Manifest.read(made, kind="local")


@pytest.mark.parametrize("linked", ["artifacts/model", "artifacts"])
def test_o5_nothing_is_read_through_a_link(made: Path, tmp_path: Path, linked: str) -> None:
    assert Manifest.read(made, kind="local").files
    elsewhere = (made / linked).rename(tmp_path / "elsewhere")
    (made / linked).symlink_to(elsewhere)
    with pytest.raises(StoreCorrupt, match="is missing in the backup"):
        Manifest.read(made, kind="local")


def test_o5_a_backup_without_a_database_makes_no_empty_store(made: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreCorrupt, match=r"store\.db"):
        restore(made, tmp_path / "store", tmp_path / "log.csv")
    assert not (tmp_path / "store").exists()
