"""The run manifest: what a run keeps of itself, so that its challenger can be built again."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import ml_pipeline
from ml_pipeline.config.environment import code_revision
from ml_pipeline.config.settings import Settings
from ml_pipeline.store.records import ModelVersion
from ml_pipeline.store.sql_text import identifier

LIBRARIES: Final = ("duckdb", "numpy", "pandas", "scikit-learn", "scipy", "skops")


def environment(settings: Settings) -> dict[str, Any]:
    """Config, code and libraries: known from a run's first moment on."""
    return {
        "config": settings.model_dump(mode="json"),
        "seed": settings.training.random_seed,
        "code": {
            "version": ml_pipeline.__version__,
            "git_sha": code_revision(),
            "digest": code_digest(),
        },
        "library_versions": library_versions(),
    }


def code_digest() -> str:
    """`sha256:` + hex over every module of the package."""
    home = Path(ml_pipeline.__file__).parent
    total = hashlib.sha256()
    for path in sorted(home.rglob("*.py")):
        total.update(f"{path.relative_to(home).as_posix()}\n".encode())
        total.update(path.read_bytes())
    return f"sha256:{total.hexdigest()}"


def library_versions() -> dict[str, str]:
    """Versions of everything that a challenger's numbers go through."""
    versions = {name: metadata.version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), "machine": platform.machine(), **versions}


def ingredients(
    *,
    head: ModelVersion | None,
    champion: ModelVersion | None,
    learn_from: datetime | None,
    days: dict[str, list[Any]],
    known: dict[str, list[Any]] | None,
) -> dict[str, Any]:
    """What the challenger was made of; `days` and `known` as `days_of` counts them.

    `known` are all labelled rows, where the experts were due.
    """
    return {
        "head": _named(head),
        "champion": _named(champion),
        "learn_from": None if learn_from is None else learn_from.isoformat(),
        "days": days,
        "known": known,
    }


def _named(model: ModelVersion | None) -> dict[str, str] | None:
    if model is None:
        return None
    return {"model_id": model.model_id, "digest": model.artifact.digest}


def days_of(labelled: Path, settings: Settings) -> dict[str, list[Any]]:
    """Rows and digest of every UTC day of a file of labelled rows.

    The digest takes in ids, predictions, labels and inputs, in whatever order they stand.
    """
    import duckdb

    columns = ("event_id", "prediction", settings.data.target, *settings.data.inputs)
    texts = ", ".join(f"coalesce({identifier(name)}, '')" for name in columns)
    query = (
        f"SELECT left(known_at, 10) AS day, count(*), bit_xor(md5_number(concat_ws('|', {texts}))) "  # noqa: S608 - quoted names
        "FROM read_csv(?, all_varchar = true, header = true) GROUP BY 1 ORDER BY 1"
    )
    with duckdb.connect() as database:
        rows = database.execute(query, [str(labelled)]).fetchall()
    return {day: [count, f"{digest:032x}"] for day, count, digest in rows}


def changed_environment(kept: Mapping[str, Any], settings: Settings) -> dict[str, list[Any]]:
    """What is another here than it was for the run: [then, now] by name."""
    here = environment(settings)
    pairs = {
        f"{part}.{name}": [kept[part].get(name), here[part].get(name)]
        for part in ("code", "library_versions")
        for name in sorted({*kept[part], *here[part]})
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
