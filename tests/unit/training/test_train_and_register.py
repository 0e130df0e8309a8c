"""When a base is trained by hand, and when one that is there stands in the way."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import DataError
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.training.request import TrainingRequest
from ml_pipeline.training.train_and_register import train_with_store
from tests.support.crowd import crowd
from tests.support.factories import MODEL_NAME, NOW, make_model
from tests.support.places import EMBEDDED, Place

# The clock of the machine that registered it was years ahead, or a minute.
AHEAD = [timedelta(days=13_000), timedelta(minutes=1)]


def trained(folder: Path, *, every_days: int) -> dict[str, Any]:
    request = TrainingRequest(
        dataset=str(folder / "none.csv"), settings=Settings().changed({"model_name": MODEL_NAME}),
        output_dir=folder, model_id="new", now=NOW, today=NOW.date(), local=str(folder / "store"),
    )  # fmt: skip
    return train_with_store(request, from_table=False, register=True, every_days=every_days)


@pytest.mark.parametrize("ahead", AHEAD)
def test_a_base_that_a_wrong_clock_dated_ahead_does_not_stand_in_the_way_of_the_next(
    tmp_path: Path, ahead: timedelta
) -> None:
    with_store(tmp_path, registered=NOW + ahead)
    with pytest.raises(DataError, match=r"none\.csv"):
        trained(tmp_path, every_days=0)
    if ahead > timedelta(days=30):
        with pytest.raises(DataError, match=r"none\.csv"):
            trained(tmp_path, every_days=30)


@pytest.mark.parametrize("ago", [timedelta(days=29), timedelta(minutes=-1)])
def test_a_base_of_the_last_days_does(tmp_path: Path, ago: timedelta) -> None:
    with_store(tmp_path, registered=NOW - ago)
    assert "a new base is due every 30 days" in trained(tmp_path, every_days=30)["outcome_reason"]


def test_a_base_behind_a_thousand_models_does_as_well(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with_store(tmp_path, registered=NOW - timedelta(days=29))
    with closing(LocalStore.open(folder)) as store:
        store.register(make_model("hourly", anchor_id="m-1", created_at=NOW))
    crowd(Place(kind=EMBEDDED, variables={"ML_PIPELINE_LOCAL": str(folder)}), "hourly")
    assert trained(tmp_path, every_days=30)["outcome"] == "skipped_no_new_data"


def with_store(folder: Path, *, registered: datetime) -> None:
    store = LocalStore.open(folder / "store")
    store.register(make_model(created_at=registered))
    store.close()
