"""When a new base is due in the shadow."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from ml_pipeline.config.settings import Settings
from ml_pipeline.runs.context import RunContext
from ml_pipeline.runs.requests import ServedRequests
from ml_pipeline.runs.shadows import ShadowRun, is_due
from ml_pipeline.runs.stopping import Stop
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import Lineage
from ml_pipeline.training.trainer import run_trainer
from tests.support.factories import MODEL_NAME, NOW, make_id, make_model, make_run


@pytest.mark.parametrize(("begun", "due"), [(29, False), (30, True), (-1, False), (-13_000, True)])
def test_a_base_in_the_shadow_is_due_again_whatever_a_wrong_clock_dated_ahead(
    tmp_path: Path,
    begun: int,
    due: bool,  # noqa: FBT001 - a column of the table above
) -> None:
    store = LocalStore.open(tmp_path / "store")
    champion = make_model(created_at=NOW - timedelta(days=90))
    since: date = NOW.date() - timedelta(days=begun)
    store.register(champion)
    store.register(replace(make_model("m-2", created_at=NOW), lineage=Lineage(shadow_since=since)))
    settings = Settings().changed({"model_name": MODEL_NAME, "training.refit_every_days": 30})
    requests = ServedRequests(store=store, settings=settings, run_id=make_id(1), clock=lambda: NOW)
    context = RunContext(
        store=store, settings=settings, run=make_run(), folder=tmp_path, clock=lambda: NOW,
        new_id=lambda: make_id(2), requests=requests, stop=Stop(), train=run_trainer,
        dry_run=False,
    )  # fmt: skip
    turn = ShadowRun(context=context, champion=champion, serving_id="m-1", held=None)
    assert is_due(turn) is due
    store.close()
