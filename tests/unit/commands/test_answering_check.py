"""What `doctor` says of whose answers the log holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ml_pipeline.commands.checks.answering import answering
from ml_pipeline.commands.checks.examined import Examined
from ml_pipeline.commands.checks.findings import Finding
from ml_pipeline.config.settings import Settings
from ml_pipeline.store.embedded.store import LocalStore
from tests.support.factories import MODEL_NAME, NOW, make_model
from tests.support.logs import fill_table, make_row

LIKE_OURS = "adaptive-20260314-020000-0f3a5c7e"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore.open(tmp_path / "store")


def found_in(store: LocalStore, **changes: Any) -> dict[str, Finding]:  # noqa: ANN401 - settings
    dotted = {f"incumbent.{name}": value for name, value in changes.items()}
    settings = Settings().changed({"model_name": MODEL_NAME, **dotted})
    examined = Examined(store=store, settings=settings, now=NOW)
    return {finding.name: finding for finding in answering(examined)}


def test_an_unknown_model_is_told_with_the_setting_that_says_so(store: LocalStore) -> None:
    fill_table(store, [make_row(number, model_id="llm") for number in range(1, 11)])
    found = found_in(store)["answering"]
    assert found.severity == "warning"
    assert "10 results of the log were answered by llm, which the registry" in str(found)
    assert "`incumbent: {serves: true}`" in str(found)
    done = found_in(store, serves=True)["answering"]
    assert done.severity == "info"
    assert "Answering: llm (yours). 10 results of the last 30 days are theirs." in str(done)
    gone = found_in(store, serves=True, model_ids=["another"])["answering"]
    assert gone.severity == "warning"
    assert "no result of the last 30 days is of its answers" in str(gone)


def test_a_registered_model_needs_no_word_and_is_no_incumbent(store: LocalStore) -> None:
    store.register(make_model("m-1"))
    fill_table(store, [make_row(number) for number in range(1, 11)])
    assert {it.severity for it in found_in(store).values()} == {"info"}
    found = found_in(store, model_ids=["m-1"])
    assert "names m-1, which is registered here" in str(found["incumbent_ids"])


def test_an_id_like_ours_of_another_store_is_told(store: LocalStore) -> None:
    fill_table(store, [make_row(number, model_id=LIKE_OURS) for number in range(1, 11)])
    found = found_in(store)
    assert found["unknown_models"].severity == "warning"
    assert LIKE_OURS in str(found["unknown_models"])
    assert "unknown_models" not in found_in(store, model_ids=[LIKE_OURS], serves=True)
    store.register(make_model(LIKE_OURS))
    assert "unknown_models" not in found_in(store)
