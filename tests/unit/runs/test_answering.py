"""What a run says of those who answered its rows beside the champion."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml_pipeline.config.settings import Settings
from ml_pipeline.registry.serving_state import ServingState
from ml_pipeline.runs.incumbent.answering import details_of, logged_in
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import ModelVersion
from tests.support.factories import make_model

ROWS = """model_id,known_at,prediction,confidence
,2026-01-01T00:00:00+00:00,H,0.9
,2026-01-01T00:00:00+00:00,A,0.8
,2026-01-02T00:00:00+00:00,A,0.7
llm,2026-01-02T00:00:00+00:00,H,0.9
llm,2026-01-03T00:00:00+00:00,A,0.9
"""


@pytest.mark.parametrize(
    ("champion", "said"),
    [
        (make_model("m-1"), "2 results of the log were answered by llm,"),
        (None, "5 results of the log were answered by llm, a model that is not named,"),
    ],
)
def test_answers_that_name_no_model_are_counted_as_another_ones_where_nothing_serves_alone(
    tmp_path: Path, champion: ModelVersion | None, said: str
) -> None:
    store, settings, path = LocalStore.open(tmp_path / "store"), Settings(), tmp_path / "rows.csv"
    path.write_text(ROWS)
    logged = logged_in(store, settings, ServingState(champion=champion), path)
    assert details_of(settings, logged)["answering"]["sentence"].startswith(said)
