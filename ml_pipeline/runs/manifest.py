"""The run manifest: what a run keeps of itself, so that its challenger can be built again."""

from __future__ import annotations

import csv
import hashlib
import platform
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

import ml_pipeline
from ml_pipeline.config.environment import code_revision
from ml_pipeline.config.settings import Settings
from ml_pipeline.registry.archive import installed_version
from ml_pipeline.store.inputs.incumbent_columns import LOGGED_ANSWER, own_features
from ml_pipeline.store.records import ModelVersion

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


@cache
def code_digest() -> str:
    """`sha256:` + hex over every module of the package, as they stood when first asked for."""
    home = Path(ml_pipeline.__file__).parent
    total = hashlib.sha256()
    for path in sorted(home.rglob("*.py")):
        total.update(f"{path.relative_to(home).as_posix()}\n".encode())
        total.update(path.read_bytes())
    return f"sha256:{total.hexdigest()}"


def library_versions() -> dict[str, str]:
    """Versions of everything that a challenger's numbers go through."""
    versions = {name: installed_version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), "machine": platform.machine(), **versions}


def ingredients(  # noqa: PLR0913 - a manifest has that many parts
    *,
    head: ModelVersion | None,
    champion: ModelVersion | None,
    learn_from: datetime | None,
    restart_night: int | None,
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
        "restart_night": restart_night,
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
    from ml_pipeline.datasets.duckdb_session import connect, exact_file

    with labelled.open(encoding="utf-8", newline="") as file:
        header = next(csv.reader(file))
    # The columns are numbered: a feature may be called `day`, or as a function of SQL.
    place = {name: f"c{number}" for number, name in enumerate(header)}
    columns = ["event_id", "prediction", settings.data.target, *own_features(settings.data.inputs)]
    columns += [LOGGED_ANSWER] if LOGGED_ANSWER in place else []
    texts = ", ".join(f"coalesce({place[name]}, '')" for name in columns)
    kinds = ", ".join(f"{column}: 'VARCHAR'" for column in place.values())
    query = (
        f"SELECT left({place['known_at']}, 10) AS day, count(*), "  # noqa: S608 - numbered columns
        f"bit_xor(md5_number(concat_ws('|', {texts}))) "
        f"FROM read_csv({exact_file(labelled)}, columns = {{{kinds}}}, header = true, "
        "auto_detect = false, delim = ',', quote = '\"', escape = '\"') GROUP BY 1 ORDER BY 1"
    )
    with connect() as database:
        rows = database.execute(query).fetchall()
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
