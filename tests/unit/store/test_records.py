"""Records that travel: what a lineage keeps of its JSON, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from ml_pipeline.errors import StoreCorrupt
from ml_pipeline.store.records import ArtifactRef, Lineage, ModelVersion
from ml_pipeline.store.rows import from_row, to_row
from tests.support.factories import DIGEST, make_model

SCORING: dict[str, Any] = {
    "bucket": "ml-models",
    "path": "m/1/model.scoring",
    "digest": DIGEST,
    "size": 9,
}
# As runs have written it since shadows came.
WHOLE: dict[str, Any] = {
    "settled_night": 739_700,
    "first_night": 739_690,
    "log_rows": 400,
    "first_night_rows": 40,
    "open_event_ids": ["a", "b"],
    "experts": {"tree": 739_698},
    "learned_until": "2026-03-13T20:00:00+00:00",
    "shadow_since": "2026-03-01",
    "shadow_heads": "carried",
    "scoring": SCORING,
    "calibration": {"threshold": 0.6, "rows": 0, "coverage": None},
}
# As `train --register` writes it for a base that has no times.
BARE: dict[str, Any] = {
    "settled_night": None,
    "first_night": None,
    "open_event_ids": [],
    "experts": {},
    "learned_until": None,
}


@pytest.mark.parametrize(
    "stored", [WHOLE, BARE, {}, WHOLE | {"of_a_newer_version": [1, None]}, {"scoring": None}]
)
def test_a_lineage_is_stored_as_it_was_read(stored: dict[str, Any]) -> None:
    lineage = Lineage.from_json(stored)
    assert json.dumps(lineage.as_json(), sort_keys=True) == json.dumps(stored, sort_keys=True)
    assert Lineage.from_json(lineage.as_json()) == lineage


def test_what_stands_in_a_lineage_is_typed() -> None:
    lineage = Lineage.from_json(WHOLE)
    assert lineage.learned_until == datetime(2026, 3, 13, 20, tzinfo=UTC)
    assert lineage.shadow_since == date(2026, 3, 1)
    assert lineage.scoring == ArtifactRef(**SCORING)
    assert lineage.open_event_ids == ("a", "b")


def test_a_changed_lineage_forgets_what_stood_there() -> None:
    changed = replace(Lineage.from_json(WHOLE), scoring=None, settled_night=739_701).as_json()
    assert "scoring" not in changed
    assert changed["settled_night"] == 739_701
    assert replace(Lineage.from_json(BARE), first_night=7).as_json()["first_night"] == 7


@pytest.mark.parametrize(
    "stored",
    [
        {"settled_night": "yesterday"},
        {"first_night": -1},
        {"learned_until": "2026-03-13T20:00:00"},
        {"learned_until": 7},
        {"scoring": {"bucket": "ml-models"}},
        ["settled_night"],
    ],
)
def test_a_row_whose_lineage_is_none_is_corrupt(stored: object) -> None:
    row = to_row(make_model()) | {"lineage": json.dumps(stored)}
    with pytest.raises(StoreCorrupt, match="model_metadata"):
        from_row(ModelVersion, row)


def test_a_model_row_holds_the_same_json() -> None:
    row = to_row(make_model(lineage=Lineage.from_json(WHOLE)))
    assert json.loads(str(row["lineage"])) == WHOLE
