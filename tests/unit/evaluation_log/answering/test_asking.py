"""When a person decides on a first model because somebody else answers already."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml_pipeline.config.settings import Settings
from ml_pipeline.evaluation.gate import PromotionDecision, unless_held
from ml_pipeline.evaluation_log.answering.asking import why_a_person_decides
from ml_pipeline.registry.champion import Decision, who_answers_then
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import Outcome
from tests.support.factories import MODEL_NAME, NOW, make_id, make_model, make_promotion
from tests.support.logs import fill_table, make_row

SERVES = Settings().changed({"model_name": MODEL_NAME, "incumbent.serves": True})
SILENT = Settings().changed({"model_name": MODEL_NAME})


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore.open(tmp_path / "store")
    fill_table(store, [make_row(number, model_id="llm") for number in range(1, 11)])
    return store


def champion(store: LocalStore, model_id: str) -> None:
    store.register(make_model(model_id))
    store.promote(make_promotion(model_id, None))


def test_somebody_who_answers_already_makes_a_first_model_wait(store: LocalStore) -> None:
    said = why_a_person_decides(store, SILENT, now=NOW)
    assert said is not None
    assert "10 results of the log were answered by llm" in said
    assert "`incumbent: {serves: true}`" in said
    champion(store, "m-1")
    assert why_a_person_decides(store, SILENT, now=NOW) is None
    serves = why_a_person_decides(store, SERVES, now=NOW)
    assert serves is not None
    assert serves.startswith("Waiting for approval: llm (yours) goes on answering until")


def test_nobody_makes_it_wait_where_nobody_answered_or_only_registered_models(
    tmp_path: Path,
) -> None:
    store = LocalStore.open(tmp_path / "empty")
    assert why_a_person_decides(store, SILENT, now=NOW) is None
    store.register(make_model("m-1"))
    fill_table(store, [make_row(number) for number in range(1, 11)])
    assert why_a_person_decides(store, SILENT, now=NOW) is None
    assert "A classifier of your own (yours)" in str(why_a_person_decides(store, SERVES, now=NOW))


def test_what_would_have_served_waits_and_keeps_its_figures() -> None:
    passed = PromotionDecision(
        outcome=Outcome.PROMOTED, checks=(), policy="guarded",
        sentence="Promoted as the first champion: on 300 held-out results it was right.",
    )  # fmt: skip
    found = unless_held(passed, "Waiting for approval: somebody answers.")
    assert found.outcome is Outcome.AWAITING_APPROVAL
    assert found.sentence == (
        "Waiting for approval: somebody answers. On 300 held-out results it was right."
    )
    assert unless_held(passed, None) == passed


def test_a_promotion_says_whether_people_are_answered_by_it() -> None:
    def decision(settings: Settings) -> Decision:
        return Decision(settings=settings, reason="tried", now=NOW, event_id=make_id(1))

    assert who_answers_then("m-1", decision(SILENT)) == "m-1 serves now."
    meant = who_answers_then("m-1", decision(SERVES))
    assert "Nothing changes for people until your application asks it" in meant
