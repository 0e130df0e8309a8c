"""An app that asks Supabase alone: what it asked and told is learned, and the next one answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from ml_pipeline.registry.models import load_scorer
from ml_pipeline.runs import recording
from ml_pipeline.store.supabase.store import SupabaseStore
from tests.conftest import FirstModel
from tests.contract.supabase.callers import open_callers
from tests.support import league
from tests.support.crashing import order
from tests.support.places import our_schema
from tests.support.scored import Registry
from tests.support.supabase.project import SupabaseProject

__all__ = ["our_schema"]


@pytest.mark.long  # a night
@pytest.mark.usefixtures("our_schema")
def test_what_an_app_asked_and_told_the_database_is_learned_and_the_new_champion_answers(
    project: SupabaseProject, first_model: FirstModel, tmp_path: Path
) -> None:
    store = SupabaseStore.open(project.url, SecretStr(project.service_key))
    registry = Registry(store=store, settings=league.settings_for())
    registry.promote(registry.register("first", first_model.model), 1)
    matches = league.play(7, 300, turned=True)
    with open_callers(project) as callers:
        service = callers["service"]
        rows = matches.features.tolist()
        answers = service.call("predict_batch", model_name="default", rows=rows).json()
        for answer, label in zip(answers, matches.labels.tolist(), strict=True):
            told = service.call(
                "record_outcome", model_name="default", event_id=answer["event_id"], actual=label
            )
            assert told.json()["recorded"] == 1
        now = datetime.now(UTC) + timedelta(minutes=1)
        recording.run(store, order(tmp_path / "work", now))
        run = store.latest_run(model_name="default")
        assert run is not None
        assert run.outcome == "promoted", run.outcome_reason
        champion = store.champion(model_name="default")
        assert champion is not None
        scorer = load_scorer(store, champion)
        assert scorer is not None
        answer = service.call("predict", model_name="default", features=rows[0]).json()
    assert answer["model_id"] == champion.model_id != "first"
    shares = dict(zip(scorer.classes, scorer.probabilities(rows[0]), strict=True))
    assert answer["probabilities"] == pytest.approx(shares, abs=1e-9)
    store.close()
