"""Whose answers stand in the log: registered models', others', and what only looks like ours."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import DataError
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation_log.answering.answers import logged_answers
from ml_pipeline.evaluation_log.answering.logged_models import LoggedModels, logged_models
from ml_pipeline.evaluation_log.answering.registered import MOST_ASKED
from ml_pipeline.evaluation_log.answering.sentences import UNNAMED, answering, proposal, shown
from ml_pipeline.store.embedded.store import LocalStore
from tests.support.factories import MODEL_NAME, NOW, make_day, make_model
from tests.support.logs import fill_table, make_row, settings_for, write_log

LIKE_OURS = (
    "adaptive-20260314-020000-0f3a5c7e",
    "base-fresh-20260314-020000-0f3a5c7e",
    "errors_only-20260314-020000-0f3a5c7e",
    "logisticregression_20260314_020000_0f3a5c7e",
)
NOT_LIKE_OURS = ("loan-20260314", "gpt-4o-2024-08-06", "v1-20260314-020000", "0f3a5c7e")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore.open(tmp_path / "store")


def configured(**changes: object) -> Settings:
    given = {name.replace("__", "."): value for name, value in changes.items()}
    return Settings().changed({"model_name": MODEL_NAME, **given})


def test_models_of_the_registry_are_ours_and_others_are_theirs(store: LocalStore) -> None:
    store.register(make_model("m-1"))
    days = [
        make_day(3, model_id="loan-v1"), make_day(1, model_id="loan-v2"), make_day(1),
        make_day(2, model_id=UNNAMED, evaluated=7), make_day(1, model_id="", evaluated=300),
        make_day(1, model_id="nothing", evaluated=0),
    ]  # fmt: skip
    found = LoggedModels.of(store, configured(), days)
    assert found.theirs == ("loan-v2", UNNAMED, "loan-v1")
    assert (found.ours, found.rows) == (("m-1",), 207)
    assert found.counted_ids == ("loan-v2", "loan-v1")
    assert LoggedModels.of(store, configured(), days[:2]).counted_ids is None


@pytest.mark.parametrize("name", LIKE_OURS)
def test_an_id_like_ours_is_nobody_elses_unless_the_settings_name_it(
    store: LocalStore, name: str
) -> None:
    days = [make_day(1, model_id=name), make_day(1, model_id="llm")]
    found = LoggedModels.of(store, configured(), days, tell_apart=True)
    assert (found.ours, found.theirs, found.resembling) == ((), ("llm",), (name,))
    assert found.counted_ids == ("llm",)
    named = configured(incumbent__model_ids=[name])
    assert LoggedModels.of(store, named, days).theirs == (name,)
    store.register(make_model(name))
    assert LoggedModels.of(store, named, days).ours == (name,)
    assert LoggedModels.of(store, configured(), days, tell_apart=True).ours == (name,)


@pytest.mark.parametrize("name", NOT_LIKE_OURS)
def test_other_ids_with_dates_are_theirs(store: LocalStore, name: str) -> None:
    found = LoggedModels.of(store, configured(), [make_day(1, model_id=name)], tell_apart=True)
    assert found.theirs == (name,)


def test_named_ones_alone_are_theirs(store: LocalStore) -> None:
    days = [make_day(1, model_id=name) for name in ("a", "b", UNNAMED)]
    assert LoggedModels.of(store, configured(incumbent__model_ids=["b"]), days).theirs == ("b",)


def test_a_log_with_an_id_for_each_answer_asks_the_registry_for_some_of_them(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    ask = store.get_model

    def get_model(model_name: str, model_id: str) -> object:
        asked.append(model_id)
        return ask(model_name, model_id)

    monkeypatch.setattr(store, "get_model", get_model)
    days = [make_day(1, model_id=f"request {number}") for number in range(3 * MOST_ASKED)]
    found = LoggedModels.of(store, configured(), days)
    assert len(found.theirs) == len(days)
    assert len(asked) == MOST_ASKED
    assert len(found.as_json()["theirs"]) <= MOST_ASKED


def test_the_table_a_file_and_labelled_rows_tell_the_same(
    store: LocalStore, tmp_path: Path
) -> None:
    rows = [make_row(n, model_id="llm" if n % 2 else None) for n in range(1, 41)]
    fill_table(store, rows)
    by_table = logged_models(store, configured(), now=NOW, days=7)
    path = write_log(tmp_path / "log.csv", rows)
    by_file = logged_models(store, settings_for(path), now=NOW, days=7)
    assert by_table == by_file
    assert set(by_table.theirs) == {"llm", UNNAMED}
    assert by_table.rows == 40
    assert logged_models(store, configured(), now=NOW + timedelta(days=30), days=7).theirs == ()


def test_what_is_said_names_a_few_and_nothing_that_is_long() -> None:
    assert shown(["a", UNNAMED, "b", "c", "d"]) == "a, a model that is not named, b and 2 more"
    assert len(shown(["x" * 10_000])) < 100
    serves = configured(incumbent__serves=True)
    assert answering(serves, ["llm"]) == "Answering: llm (yours)."
    assert answering(serves, []) == "Answering: a classifier of your own (yours)."
    assert answering(configured(), ["llm"]) is None
    assert proposal(serves, ["llm"], 3) is None
    assert proposal(configured(), [], 0) is None
    said = proposal(configured(), ["llm"], 1)
    assert said is not None
    assert said.startswith("1 result of the log was answered by llm, which the registry")


def test_who_says_one_and_the_same_to_everything_is_no_classifier(
    store: LocalStore, tmp_path: Path
) -> None:
    path = tmp_path / "labelled.csv"
    rows = [
        *("app,2026-01-01T00:00:00+00:00,H,0.5",) * 3,
        "llm,2026-01-01T00:00:00+00:00,H,0.9",
        "llm,2026-01-02T00:00:00+00:00,A,0.9",
        "sure,2026-01-02T00:00:00+00:00,H,0.7",
        "sure,2026-01-02T00:00:00+00:00,H,0.8",
    ]
    path.write_text("\n".join(["model_id,known_at,prediction,confidence", *rows]) + "\n")
    assert set(LoggedModels.of_file(store, configured(), path).theirs) == {"llm", "sure"}
    named = configured(incumbent__serves=True)
    assert set(LoggedModels.of_file(store, named, path).theirs) == {"app", "llm", "sure"}


@pytest.mark.parametrize(("answers", "found"), [("HAH", 3), ("HHH", 0)])
def test_a_log_with_an_id_for_each_answer_is_of_a_classifier_too(
    store: LocalStore, tmp_path: Path, answers: str, found: int
) -> None:
    path = tmp_path / "labelled.csv"
    rows = [f"{n},2026-01-01T00:00:00+00:00,{label},0.9" for n, label in enumerate(answers)]
    path.write_text("\n".join(["model_id,known_at,prediction,confidence", *rows]) + "\n")
    assert len(LoggedModels.of_file(store, configured(), path).theirs) == found


# ------------------------------------------------------------------- their answers to evidence


HEADER = "event_id,known_at,model_id,prediction,probabilities\n"


def asked_for(ids: str, actual: list[int]) -> Evidence:
    return Evidence(
        labels=("H", "D", "A"), event_ids=tuple(ids), actual=np.asarray(actual),
        nights=np.ones(len(ids), dtype=np.int64), challenger=np.full((len(ids), 3), 1 / 3),
        champion=None,
    )  # fmt: skip


def test_rows_of_theirs_are_joined_by_their_ids(tmp_path: Path) -> None:
    path = tmp_path / "labelled.csv"
    path.write_text(
        HEADER
        + 'c,2026,llm,H,"{""H"": 0.5, ""D"": 0.3, ""A"": 0.2}"\n'
        + "a,2026,llm,D,\n"
        + "b,2026,m-1,A,\n"
        + 'd,2026,llm,UNCERTAIN,"{""H"": 0.2, ""D"": 0.3, ""A"": 0.5}"\n'
        + "e,2026,llm,UNCERTAIN,\n"
        + "f,2026,,H,\n"
    )
    found = logged_answers(path, configured(), asked_for("abcdefx", [1, 2, 1, 2, 0, 0, 0]), ["llm"])
    assert found.answered.tolist() == [True, False, True, True, False, False, False]
    assert found.right.tolist() == [True, False, False, True, False, False, False]
    assert found.probabilities[2].tolist() == [0.5, 0.3, 0.2]
    assert np.isnan(found.probabilities[[0, 1, 4, 5, 6]]).all()
    unnamed = logged_answers(path, configured(), asked_for("f", [0]), [UNNAMED])
    assert unnamed.right.tolist() == [True]


def test_classes_that_they_gave_up_or_took_up_are_compared_by_ours(tmp_path: Path) -> None:
    """An incumbent that changes its classes: what it gives others is shared by those that are."""
    path = tmp_path / "labelled.csv"
    path.write_text(
        HEADER
        + 'a,2026,llm,H,"{""H"": 0.6, ""A"": 0.4}"\n'
        + 'b,2026,llm,X,"{""X"": 0.5, ""H"": 0.5}"\n'
        + 'c,2026,llm,X,"{""X"": 1.0}"\n'
    )
    open_labels = configured(data__classes=None)
    found = logged_answers(path, open_labels, asked_for("abc", [0, 0, 0]), ["llm"])
    assert found.right.tolist() == [True, False, False]
    assert found.probabilities[0] == pytest.approx([0.6, 0.001, 0.4], abs=0.01)
    assert found.probabilities[1, 0] > 0.9
    assert np.isnan(found.probabilities[2]).all()


def test_probabilities_that_are_none_name_their_row(tmp_path: Path) -> None:
    path = tmp_path / "labelled.csv"
    path.write_text(HEADER + 'a,2026,llm,H,"{""H"": 60}"\n')
    with pytest.raises(DataError, match="probabilities of row 1"):
        logged_answers(path, configured(), asked_for("a", [0]), ["llm"])
