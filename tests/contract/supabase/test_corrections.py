"""`rpc('correct')` answers and logs what `PredictionEngine.correct` answers and logs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest

from ml_pipeline.config.quick import QuickSettings
from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import InputError
from ml_pipeline.registry.in_database.publishing import rules_of
from ml_pipeline.serving import incumbents
from ml_pipeline.serving.answered import Answering
from ml_pipeline.store.scoring.grants import GRANTABLE
from tests.contract.supabase.callers import USER
from tests.contract.supabase.test_predictions import (
    Door,
    assert_same_row,
    opened,
    small,
    without,
)
from tests.support.factories import MODEL_NAME
from tests.support.supabase.project import SupabaseProject
from tests.unit.training.brought import test_incumbent as bases

pytestmark = pytest.mark.usefixtures("our_schema")
CLASSES = bases.CLASSES
SIGNATURE = GRANTABLE["correct"].signature
OWN = {"a": 0.3, "b": "-1.5"}
SHARES = {"no": 0.2, "perhaps": 0.1, "yes": 0.7}
SPELT = Settings().changed(
    {
        "model_name": MODEL_NAME,
        "data.classes": CLASSES,
        "data.labels": {"YES!": "yes", "nope": "no"},
    }
)
ANY = Settings().changed(
    {"model_name": MODEL_NAME, "data.classes": None, "data.labels": {"nope": "no"}}
)


@cache
def of_numbers() -> Any:  # noqa: ANN401 - AdaptiveClassifier
    return bases.learned(bases.settings_for(["a", "b"]), bases.numbers(80, 2))[0]


@cache
def of_every_kind() -> Any:  # noqa: ANN401 - AdaptiveClassifier
    return bases.learned(bases.settings_for(bases.SEVERAL), bases.kinds_of_every_sort(80))[0]


@pytest.fixture(params=[SPELT, ANY], ids=["named", "any label"])
def door(project: SupabaseProject, request: pytest.FixtureRequest) -> Iterator[Door]:
    yield from opened(project, request.param)


def correct(door: Door, features: object, **arguments: object) -> Any:  # noqa: ANN401 - a response
    return door.callers["service"].call(
        "correct", model_name=MODEL_NAME, features=features, **arguments
    )


def in_python(
    answering: Answering, settings: Settings, features: object, answer: Mapping[str, Any]
) -> tuple[dict[str, Any], Mapping[str, object]]:
    data = settings.data
    quick = QuickSettings(
        model_name=MODEL_NAME, conflict_margin=settings.prediction.conflict_margin,
        missing=settings.prediction.missing, spellings=data.label_map(),
        any_label=data.classes is None,
    )  # fmt: skip
    given = {name: answer.get(name) for name in ("probabilities", "prediction", "confidence")}
    found, row = answering.answer(
        features, "m 1", None, settings=quick, clock=lambda: datetime.now(UTC),
        incumbent=incumbents.one_answer(**given),
    )  # fmt: skip
    return found, row()


def begun(error: InputError) -> str:
    """The words of a refusal before a value, which Python and JSON write otherwise."""
    return error.message.partition("'")[0][:16]


def assert_same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """The same answer, to a billionth."""
    for name in ("probabilities", "incumbent", "confidence"):
        assert found[name] == pytest.approx(expected[name], abs=1e-9)
    told = ("probabilities", "incumbent", "confidence")
    assert without(found, *told) == without(expected, *told)


ANSWERS: tuple[dict[str, Any], ...] = (
    {"probabilities": SHARES},
    {"probabilities": {"yes": 1}},
    {"probabilities": {"yes": 0.9, "no": "0.1"}},
    {"probabilities": {"YES!": 0.25, "yes": 0.25, " nope ": 0.5}},
    {"probabilities": {"yes": 0.4000001, "NO": 0.5999995}},
    {"probabilities": {"prediction": "yes", "confidence": 0.6}},
    {"probabilities": {"yes": True, "no": False, "perhaps": -1e-9}},
    {"probabilities": {"else": 0.4, "yes": 0.6}},
    {"probabilities": {"else": 1.0}},
    {"prediction": "yes", "confidence": 0.6},
    {"prediction": "Perhaps", "confidence": 0},
    {"prediction": " nope", "confidence": 1.0000001},
    {"prediction": "else", "confidence": 0.9},
    # Those that are refused.
    {},
    {"prediction": "yes"},
    {"confidence": 0.5},
    {"probabilities": SHARES, "confidence": 0.7},
    {"probabilities": SHARES, "prediction": "yes", "confidence": 0.7},
    {"prediction": "yes", "confidence": 1.1},
    {"prediction": "", "confidence": 0.4},
    {"prediction": "UNCERTAIN", "confidence": 0.4},
    {"probabilities": {"yes": 0.7}},
    {"probabilities": {}},
    {"probabilities": {"yes": 70, "no": 30}},
    {"probabilities": {"yes": 1.5, "no": -0.5}},
    {"probabilities": {"yes": None, "no": 1}},
    {"probabilities": {"yes": "much", "no": 1}},
    {"probabilities": {"yes": [1], "no": 0}},
    {"probabilities": {"yes": "nan", "no": 0}},
    {"probabilities": {"": 0.5, "no": 0.5}},
    {"probabilities": {"prediction": "yes"}},
    {"probabilities": {"prediction": "yes", "confidence": "much"}},
    {"probabilities": [0.2, 0.1, 0.7]},
)


def test_an_answer_however_it_is_said_is_corrected_logged_and_refused_as_in_python(
    door: Door,
) -> None:
    answering, settings = door.let_serve(of_numbers()), door.registry.settings
    expected_rows = list[Mapping[str, object]]()
    for answer in ANSWERS:
        response = correct(door, OWN, entity_id="m 1", **answer)
        try:
            expected, logged = in_python(answering, settings, OWN, answer)
        except InputError as error:
            refused, first = response.json(), begun(error)
            assert (response.status_code, refused["code"]) == (400, "MLP08"), answer
            assert refused["message"].startswith(first), answer
        else:
            assert response.is_success, (answer, response.text)
            assert_same(response.json(), expected)
            expected_rows.append(logged)
    assert len(expected_rows) >= 10
    for found, logged in zip(door.logged(), expected_rows, strict=True):
        told = json.loads(str(logged["metadata"]))
        assert found["metadata"].keys() == told.keys()
        assert found["metadata"]["incumbent"] == pytest.approx(told["incumbent"], abs=1e-9)
        assert_same_row({**found, "metadata": None}, {**logged, "metadata": None})


ROWS: tuple[object, ...] = (
    OWN, [0.3, None], {"a": None, "b": 1}, {**OWN, "incumbent:no": 0.5, "more": "x"}, [99, 0.1],
    # Those that are refused.
    {"a": 1}, [1], [None, "nan"], [0.3, 1, 0.2, 0.1, 0.7], {"a": "x", "b": 1},
)  # fmt: skip


def test_features_are_read_without_the_incumbents_answer(door: Door) -> None:
    answering, settings = door.let_serve(of_numbers()), door.registry.settings
    for row in ROWS:
        response = correct(door, row, entity_id="m 1", log=False, probabilities=SHARES)
        try:
            expected, _ = in_python(answering, settings, row, {"probabilities": SHARES})
        except InputError as error:
            refused, first = response.json(), begun(error)
            assert refused["code"] == "MLP08", row
            assert refused["message"].startswith(first), row
        else:
            assert_same(response.json(), expected)
    assert door.logged() == []


def test_a_model_of_every_kind_of_feature_corrects_alike(project: SupabaseProject) -> None:
    for door in opened(project, SPELT):
        answering = door.let_serve(of_every_kind())
        row = {"size": 1.25, "colour": "blue", "old": "yes", "at": "2026-03-14T15:00:00Z"}
        for features in (row, {**row, "colour": "mauve", "size": None}, {**row, "at": None}):
            for answer in ({"probabilities": SHARES}, {"prediction": "no", "confidence": 0.5}):
                expected, _ = in_python(answering, SPELT, features, answer)
                assert_same(correct(door, features, entity_id="m 1", **answer).json(), expected)


def test_an_answer_that_is_not_sure_keeps_guess_incumbent_and_who_asked(
    project: SupabaseProject,
) -> None:
    for door in opened(project, SPELT):
        door.let_serve(of_numbers())
        project.sql("update model_scoring set confidence_threshold = 0.99")
        project.sql(f"grant execute on function {SIGNATURE} to authenticated")
        try:
            answer = door.callers["user"].call(
                "correct", model_name=MODEL_NAME, features=OWN, probabilities=SHARES
            ).json()  # fmt: skip
        finally:
            project.sql(f"revoke all on function {SIGNATURE} from authenticated")
        (row,) = door.logged()
        assert (answer["prediction"], row["prediction"]) == ("UNCERTAIN", "UNCERTAIN")
        assert row["metadata"] == {
            "best_guess": answer["best_guess"], "incumbent": answer["incumbent"], "caller": USER,
        }  # fmt: skip
        assert answer["incumbent"] == pytest.approx(SHARES, abs=1e-9)


def test_who_asks_the_wrong_function_is_sent_to_the_right_one(project: SupabaseProject) -> None:
    for door in opened(project, SPELT):
        door.let_serve(of_numbers())
        for refused in (door.predict(OWN), door.predict([0.3, 1, *SHARES.values()]),
                        door.batch([OWN]), door.batch([])):  # fmt: skip
            assert refused.json()["code"] == "MLP08"
            assert refused.json()["message"] == (
                "m-1 corrects the answers of an incumbent, and none was given."
            )
            assert refused.json()["hint"].startswith("Call correct")
        door.let_serve(small(1), "m-2", 2)
        refused = correct(door, [1, 2], probabilities={"c0": 0.5, "c1": 0.5})
        assert refused.json()["message"] == (
            "m-2 stands on a base of its own (LogisticRegression) and corrects nobody's answers."
        )
        assert "by predict" in refused.json()["hint"]
        large = correct(door, [1, 2], probabilities={"c0": "x" * 2_000_000})
        assert large.json()["message"] == "The probabilities are larger than 1 MB."
        assert door.predict([1, 2]).is_success
        assert len(door.logged()) == 1
        for who in ("anon", "user"):
            asked = door.callers[who].call(
                "correct", model_name=MODEL_NAME, features=OWN, probabilities=SHARES
            )
            assert asked.json()["code"] == "42501"


TWO = Settings().changed({"model_name": MODEL_NAME, "data.classes": None, "data.labels": None})


@pytest.mark.parametrize(
    ("classes", "settings"),
    [
        (["0", "1"], TWO), (["false", "true"], TWO), (["H", "h", "D"], TWO), (["é", "e"], TWO),
        (["1", "2", "10"], TWO), (CLASSES, SPELT), (CLASSES, ANY), (["a", "b", "c"], SPELT),
    ],
)  # fmt: skip
def test_a_label_of_an_answer_means_what_it_means_in_python(
    project: SupabaseProject, classes: list[str], settings: Settings
) -> None:
    quick = QuickSettings(
        spellings=settings.data.label_map(), any_label=settings.data.classes is None
    )
    labels = incumbents.labels_of(quick, classes)
    tables = json.dumps(rules_of(settings).labels)
    texts = [
        *classes, "0", "1", "1.0", "-1.0", "true", "FALSE", " H ", "h", "d", "e\u0301",
        "é", "", " ", "NaN", "null", "UNCERTAIN", "uncertain", "10.00", "YES!", "yes!", "NO",
        " nope", "Perhaps", "something",
    ]  # fmt: skip
    found = project.sql(
        "select ml_pipeline_read_class(text, %(classes)s::text[], %(tables)s::jsonb, %(open)s) "
        "as label from unnest(%(texts)s::text[]) with ordinality as given (text, place) "
        "order by place",
        {"classes": classes, "tables": tables, "open": labels.is_open, "texts": texts},
    )
    expected = [labels.find(text) for text in texts]
    assert dict(zip(texts, [row["label"] for row in found], strict=True)) == dict(
        zip(texts, expected, strict=True)
    )
