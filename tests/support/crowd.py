"""Many registered models at no cost: copies of one row, written by SQL."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from tests.support.places import Place

# A loop that runs every hour has registered so many in six weeks.
SIX_WEEKS_OF_HOURS: Final = 1001


def crowd(place: Place, model_id: str, *, count: int = SIX_WEEKS_OF_HOURS) -> None:
    """Copy the model's row under the ids `model_id`-1 to `model_id`-`count`."""
    if place.project is not None:
        place.project.sql(
            "insert into model_metadata select (jsonb_populate_record(model, "  # noqa: S608
            f"jsonb_build_object('model_id', model_id || '-' || n))).* "
            f"from model_metadata as model, generate_series(1, {count}) as n "
            f"where model_id = '{model_id}' returning model_id"
        )
        return
    file = Path(place.variables["ML_PIPELINE_LOCAL"]) / "store.db"
    with closing(sqlite3.connect(file)) as db, db:
        names = [row[1] for row in db.execute("PRAGMA table_info(model_metadata)")]
        others = ", ".join(name for name in names if name != "model_id")
        query = (
            f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers "  # noqa: S608
            f"WHERE n < {count}) INSERT INTO model_metadata (model_id, {others}) "
            f"SELECT model_id || '-' || n, {others} FROM model_metadata, numbers WHERE model_id = ?"
        )
        db.execute(query, (model_id,))
