"""The golden files: what an earlier state of this code wrote, which every later one has to read.

`tests.support.make_golden` wrote them. There are two registries, each as `models export
--with_artifacts` writes it, with the models' scoring files and answers beside the artifacts; and a
project on each kind of store, with what its owner's commands said of it.
"""

from __future__ import annotations

import gzip
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "golden"
CLASSIFIERS, ROUTER = FOLDER / "classifiers.tar.gz", FOLDER / "router.tar.gz"
EMBEDDED, SUPABASE = FOLDER / "embedded.tar.gz", FOLDER / "supabase.tar.gz"
CONFIG, REGISTRY, ANSWERS, TOLD = (
    "model_config.yaml", "model_registry.json", "answers.json", "told.json",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class GoldenModel:
    """A model of a golden registry: its entry there, and the folder of its files.

    `rows` are as `PredictionEngine` takes them, `probabilities` what was answered, by class.
    """

    entry: dict[str, Any]
    folder: Path
    rows: list[dict[str, Any]]
    probabilities: list[dict[str, float]]


def read_models(registry: Path) -> list[GoldenModel]:
    """The models of a registry that was unpacked into a folder."""
    entries = read_json(registry / REGISTRY)["models"]
    return [
        GoldenModel(
            entry=entry,
            folder=registry / model_id,
            **read_json(registry / model_id / ANSWERS),
        )
        for model_id, entry in entries.items()
    ]


def read_json(path: Path) -> dict[str, Any]:
    """A file that holds one object."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def read_json_in(archive: Path, name: str) -> dict[str, Any]:
    """A file of an archive that holds one object."""
    with tarfile.open(archive) as tar:
        member = tar.extractfile(name)
        assert member is not None
        content: dict[str, Any] = json.load(member)
    return content


def write_json(path: Path, content: object) -> None:
    """Write it for people, too; floats keep every digit."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def pack(folder: Path, names: list[str], archive: Path) -> None:
    """Pack what is named of a folder, without what a machine leaves on files: owners, times."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        member.mode = 0o755 if member.isdir() else 0o644
        return member

    archive.parent.mkdir(exist_ok=True)
    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for name in names:
            tar.add(folder / name, arcname=name, filter=plain)


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack into a folder; return it."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder
