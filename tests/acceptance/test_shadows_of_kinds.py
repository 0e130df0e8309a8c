"""A base of levels has its successors tried in the shadow like any other."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml_pipeline.runs import recording
from ml_pipeline.runs.recording import Order
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import EVENT_COLUMNS
from tests.support import league
from tests.support.logs import settings_for

START = datetime(2026, 3, 1, 20, tzinfo=UTC)
ROWS = 60


def _same(now: datetime) -> datetime:
    return now


def fill(store: LocalStore, day: int) -> None:
    """Outcomes of a day, which follow from a level mostly."""
    random, known = np.random.default_rng(day), START + timedelta(days=day)
    rows = []
    for number in range(ROWS):
        plan = random.choice(["basic", "plus", "family"])
        churns = random.random() < {"basic": 0.8, "plus": 0.4, "family": 0.1}[plan]
        rows.append(
            dict.fromkeys(EVENT_COLUMNS)
            | {
                "timestamp": known - timedelta(hours=1), "evaluated_at": known,
                "event_id": league.event_id(f"{day} {number}"), "event_type": "prediction",
                "model_name": "default", "model_id": "app", "prediction": "no", "confidence": 0.5,
                "features": json.dumps({"plan": str(plan), "calls": random.normal()}),
                "actual_result": "yes" if churns else "no", "status": "evaluated",
            }
        )  # fmt: skip
    store.append_events(pd.DataFrame(rows, columns=list(EVENT_COLUMNS)))


@pytest.mark.long
def test_a_new_base_of_levels_is_tried_with_heads_of_its_own(tmp_path: Path) -> None:
    store = LocalStore.open(tmp_path / "store")
    settings = settings_for(
        "table", data__features={"plan": "category", "calls": "number"},
        data__classes=["no", "yes"], data__ordered=False, model_name="default",
        run__trigger="any", training__refit_every_days=2,
    )  # fmt: skip
    results = []
    for day in range(6):
        fill(store, day)
        now = START + timedelta(days=day, hours=6)
        order = Order(settings=settings, work_dir=tmp_path / "work", clock=partial(_same, now))
        results.append(recording.run(store, order).result)
    assert [result["outcome"] for result in results] == ["promoted"] * 6, results[-1]
    notes = [note for result in results for note in result.get("shadows", [])]
    assert "failed" not in {note["outcome"] for note in notes}
    born = [note for note in notes if note["outcome"] == "born"]
    assert born
    # What heads see of a level is numbered by their base: they mean nothing on another one.
    assert {note["heads"] for note in born} == {"fresh"}
