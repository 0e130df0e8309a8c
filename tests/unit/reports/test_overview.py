"""What an overview shows of who answers, and of who asks to."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ml_pipeline.config.settings import Settings
from ml_pipeline.reports.overview import read_overview
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import ModelState
from ml_pipeline.web.attention import notices
from tests.support.factories import (
    MODEL_NAME,
    NOW,
    make_alert,
    make_finished_run,
    make_model,
    make_run,
)
from tests.support.passing_alerts import came_and_went


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore.open(tmp_path / "store")
    for number in range(3):
        at = NOW + timedelta(days=number)
        waiting = make_model(
            f"line-{number}", anchor_id="base", created_at=at, state=ModelState.AWAITING
        )
        store.register(waiting)
    store.register(make_model("another", created_at=NOW, state=ModelState.AWAITING))
    return store


def overview(store: LocalStore, *, serves: bool) -> list[str]:
    settings = Settings().changed({"model_name": MODEL_NAME, "incumbent.serves": serves})
    return [model.model_id for model in read_overview(store, settings, now=NOW).waiting]


def test_beside_theirs_the_newest_of_a_lineage_asks_for_all_of_it(store: LocalStore) -> None:
    assert overview(store, serves=True) == ["line-2", "another"]
    assert len(overview(store, serves=False)) == 4


def test_the_last_run_that_looked_says_who_answers(store: LocalStore) -> None:
    kept = {"serves": False, "sentence": "", "theirs": ["llm"], "resembling": [], "rows": 7}
    store.start_run(make_run(1))
    store.finish_run(make_finished_run(1, details={"answering": kept}))
    silent = Settings().changed({"model_name": MODEL_NAME})
    found = read_overview(store, silent, now=NOW)
    assert (found.answering, found.yours) == (None, None)
    assert "7 results of the log were answered by llm" in str(found.proposal)
    assert "Somebody answers whom nobody here trained." in [it.headline for it in notices(found)]
    serves = silent.changed({"incumbent.serves": True})
    told = read_overview(store, serves, now=NOW)
    assert (told.answering, told.proposal) == ("Answering: llm (yours).", None)
    assert "Answering: llm (yours)." in [it.headline for it in notices(told)]
    named = silent.changed({"incumbent.serves": True, "incumbent.model_ids": ["gpt"]})
    assert read_overview(store, named, now=NOW).answering == "Answering: llm (yours)."


def test_an_open_alert_is_shown_whatever_came_and_went_since(store: LocalStore) -> None:
    opened = store.open_alert(make_alert(detected_at=NOW, updated_at=NOW))
    came_and_went(store, 12, NOW + timedelta(hours=1))
    found = read_overview(store, Settings().changed({"model_name": MODEL_NAME}), now=NOW)
    assert [alert for alert in found.alerts if alert.status.is_open] == [opened]
    assert len(notices(found)) > len(notices(replace(found, alerts=[])))


def test_while_a_run_goes_on_the_inputs_compared_last_are_shown(store: LocalStore) -> None:
    settings = Settings().changed({"model_name": MODEL_NAME})
    assert read_overview(store, settings, now=NOW).drift is None
    kept = {"at": NOW.isoformat(), "inputs": [{"column": "age", "psi": 0.3, "noise": 0.01}]}
    days = {"labels": ["yes"], "days": {}}
    store.start_run(make_run(1))
    store.finish_run(make_finished_run(1, details={"drift": kept, "class_days": days}))
    store.start_run(make_run(2))
    assert read_overview(store, settings, now=NOW).drift == kept
    store.finish_run(make_finished_run(2, details={"class_days": {**days, "labels": ["no"]}}))
    found = read_overview(store, settings, now=NOW)
    assert (found.runs[0].details.get("drift"), found.drift) == (None, kept)
    assert found.class_days == {**days, "labels": ["no"]}
