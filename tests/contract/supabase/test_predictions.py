"""`rpc('predict')` answers and logs what `ml-pipeline predict` answers and logs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from ml_pipeline.config.quick import QuickSettings
from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import InputError
from ml_pipeline.registry import scoring
from ml_pipeline.registry.champion import Decision, roll_back
from ml_pipeline.registry.scoring_writer import scoring_bytes
from ml_pipeline.serving.answered import Answering
from ml_pipeline.store.serving_view import ServedModel
from ml_pipeline.store.supabase.store import SupabaseStore
from tests.contract.supabase.callers import Callers, open_callers
from tests.support import mixed
from tests.support.factories import MODEL_NAME, NOW, make_id, make_promotion
from tests.support.scored import Registry
from tests.support.supabase.project import SupabaseProject
from tests.unit.registry.test_scoring import train
from tests.unit.training import test_kind_features as kinds

pytestmark = pytest.mark.usefixtures("our_schema")
SETTINGS = Settings().changed({"model_name": MODEL_NAME})
MIXED = mixed.settings().changed({"model_name": "shop"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Door:
    """The database as an app reaches it, and the same model in Python."""

    registry: Registry
    project: SupabaseProject
    callers: Callers

    def let_serve(self, model: Any, model_id: str = "m-1", number: int = 1) -> Answering:  # noqa: ANN401
        """Promote a model; returns what answers with it in Python."""
        version = self.registry.register(model_id, model)
        self.registry.promote(version, number)
        served = ServedModel(
            model_id=model_id, algorithm="", state="", created_at="", metrics={}, scoring=None,
            threshold=version.confidence_threshold, calibration=None,
        )  # fmt: skip
        return Answering(served, scoring.parse(scoring_bytes(model)))

    def predict(self, features: object, **arguments: object) -> httpx.Response:
        name = arguments.pop("model_name", self.registry.settings.model_name)
        return self.callers["service"].call(
            "predict", model_name=name, features=features, **arguments
        )

    def batch(self, rows: object, **arguments: object) -> httpx.Response:
        name = self.registry.settings.model_name
        return self.callers["service"].call(
            "predict_batch", model_name=name, rows=rows, **arguments
        )

    def logged(self) -> list[dict[str, Any]]:
        return self.project.sql("select * from evaluation_log order by event_id")


def opened(project: SupabaseProject, settings: Settings) -> Iterator[Door]:
    store = SupabaseStore.open(project.url, SecretStr(project.service_key))
    with open_callers(project) as callers:
        yield Door(
            registry=Registry(store=store, settings=settings), project=project, callers=callers
        )
    store.close()


@pytest.fixture
def door(project: SupabaseProject) -> Iterator[Door]:
    yield from opened(project, SETTINGS)


@pytest.fixture
def shop(project: SupabaseProject) -> Iterator[Door]:
    yield from opened(project, MIXED)


def small(seed: int) -> Any:  # noqa: ANN401 - AdaptiveClassifier
    model = train("LogisticRegression", seed, classes=2, features=2, nights=0)
    model.feature_names_ = ["form", "strength"]
    return model


def in_python(
    answering: Answering, features: object, settings: Settings, match_id: str | None = None
) -> tuple[dict[str, Any], Mapping[str, object]]:
    quick = QuickSettings(
        model_name=settings.model_name,
        conflict_margin=settings.prediction.conflict_margin,
        missing=settings.prediction.missing,
    )
    answer, row = answering.answer(
        features, match_id, None, settings=quick, clock=lambda: datetime.now(UTC)
    )
    return answer, row()


OF_THEIR_OWN = ("event_id", "timestamp")


def without(answer: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in {*OF_THEIR_OWN, *names}}


def assert_same_answer(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    shares = found["probabilities"]
    assert shares == pytest.approx(expected["probabilities"], abs=1e-9)
    assert found["confidence"] == pytest.approx(expected["confidence"], abs=1e-9)
    told = ("probabilities", "confidence", "ensemble")
    assert without(found, *told) == without(expected, *told)
    if "ensemble" in expected:
        votes, theirs = found["ensemble"], expected["ensemble"]
        assert votes.keys() == theirs.keys()
        assert (votes["missing"], votes["agree"]) == (theirs["missing"], theirs["agree"])
        for name, vote in theirs["members"].items():
            assert votes["members"][name] == pytest.approx(vote)


def assert_same_row(found: Mapping[str, Any], expected: Mapping[str, object]) -> None:
    of_json = ("features", "metadata")
    plain = {
        name: json.loads(str(expected[name])) if expected[name] is not None else None
        for name in of_json
    }
    # A whole number is a float in Python; of many digits it is written otherwise.
    doubles = {
        name: float(value) if type(value) is int else value
        for name, value in found["features"].items()
    }
    assert {"features": doubles, "metadata": found["metadata"]} == plain
    same = ("event_type", "model_id", "match_id", "prediction", "status", "model_name")
    assert {name: found[name] for name in same} == {name: expected[name] for name in same}
    assert found["probabilities"] == pytest.approx(
        json.loads(str(expected["probabilities"])), abs=1e-9
    )
    assert found["confidence"] == pytest.approx(expected["confidence"], abs=1e-9)
    assert found["known_at"] == found["timestamp"]
    assert (found["actual_result"], found["accuracy"], found["evaluated_at"]) == (None,) * 3


NUMBERS: Sequence[Sequence[object]] = (
    (0.1, 3), ("0.25", " -1e3 "), (None, 2.5), ("n/a", "+.5"), (True, "1_000"), (1e300, 1),
    ("inf", 1), ("NaN", "nan"), ("1,5", 1), ([1], 2), ({}, 2), ("", 900), (1e-310, "0x10"),
    ("Infinity", 0), (-0.0, "1e999"), (12345678901234567890, 0.1),
)  # fmt: skip


def test_numbers_of_any_spelling_are_answered_and_logged_as_in_python(door: Door) -> None:
    answering = door.let_serve(small(1))
    rows: list[object] = [*map(list, NUMBERS), {"form": 1, "strength": 2, "more": "x"}, {"form": 1}]
    answers, expected_rows = door.batch(rows).json(), list[Mapping[str, object]]()
    for row, found in zip(rows, answers, strict=True):
        try:
            expected, logged = in_python(answering, row, SETTINGS)
        except InputError as error:
            assert found["prediction"] is None
            first = error.message.partition(" =")[0]
            assert found["error"].startswith(first), (row, found)
        else:
            assert_same_answer(found, expected)
            expected_rows.append(logged)
    assert len(expected_rows) >= 8
    for found, logged in zip(door.logged(), expected_rows, strict=True):
        assert_same_row(found, logged)


CELLS: Mapping[str, Sequence[object]] = {
    "spend": (1.5, None, "2"),
    "city": ("Oslo", " Rome ", "none", "", None, 7, 7.0, 1.5, True, "TRUE", "3.0",
             "Ünïcode", "U\u0308ni\u0308code"),
    "shop": ("shop 1", "SHOP 1", "NA", False, 10**20),
    "member": (True, "Yes", "off", 0, 1.0, None, "?", "maybe", 2),
    "at": (
        "2026-03-14T15:00:00Z", "2026-03-14", "2026-03-14 15:00:00.123456789+02:30",
        "2026/3/4 7:05", "20260314T150000Z", "2026-03-14T15:00:00-0500", "2026-02-30",
        "2026-03-14 15:00 Europe/Oslo", "2026-03-14T25:00", "1969-12-31T23:59:59.5Z", 5,
        None, "n/a", "2026-03-14T15:00:00 Nowhere/City", "14.3.2026", "2026-03-14 15:00 UTC",
        "2026-03-14T15:00:61Z", "2026-03-14T15",
    ),
}  # fmt: skip


def test_values_of_every_kind_are_answered_and_logged_as_in_python(shop: Door) -> None:
    answering = shop.let_serve(kinds.model("Ensemble"))
    usual = {"spend": 0.5, "city": "Oslo", "shop": "shop 3", "member": "no", "at": "2026-02-03"}
    rows = [{**usual, name: value} for name, values in CELLS.items() for value in values]
    rows.append(dict.fromkeys(usual))
    answers, expected_rows = shop.batch(rows).json(), list[Mapping[str, object]]()
    for row, found in zip(rows, answers, strict=True):
        try:
            expected, logged = in_python(answering, row, MIXED)
        except InputError as error:
            first = error.message.partition(" =")[0]
            assert found.get("error", "").startswith(first), (row, found)
        else:
            assert "error" not in found, (row, found)
            assert_same_answer(found, expected)
            expected_rows.append(logged)
    for found, logged in zip(shop.logged(), expected_rows, strict=True):
        assert_same_row(found, logged)


def test_one_row_has_its_id_and_is_not_logged_where_nobody_wants_it(door: Door) -> None:
    answering = door.let_serve(small(1))
    features = {"form": 0.1, "strength": None}
    expected, logged = in_python(answering, features, SETTINGS, "match 7")
    answer = door.predict(features, entity_id="match 7").json()
    assert_same_answer(answer, expected)
    (row,) = door.logged()
    assert_same_row(row, logged)
    assert (str(row["event_id"]), row["match_id"]) == (answer["event_id"], "match 7")
    assert row["timestamp"].isoformat() == answer["timestamp"]
    assert_same_answer(door.predict(features, entity_id="match 7", log=False).json(), expected)
    assert len(door.logged()) == 1
    assert answer["event_id"][14] == "7"


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"form": 1}, "Features are missing: strength."),
        ([1], "The model takes 2 features (form, strength), not 1."),
        ("text", "The features are neither an object of names and values nor an array of values."),
        (None, "The features are neither an object of names and values nor an array of values."),
        ({"form": "'; drop table evaluation_log; --", "strength": 1}, "form = \"'; drop table"),
        ([None, "nan"], "Every feature is missing."),
    ],
)
def test_input_that_cannot_be_used_is_refused_and_nothing_is_logged(
    door: Door, features: object, message: str
) -> None:
    door.let_serve(small(1))
    refused = door.predict(features)
    assert refused.status_code == 400
    assert refused.json()["code"] == "MLP08"
    assert refused.json()["message"].startswith(message)
    assert door.logged() == []


def test_settings_go_with_the_row(door: Door) -> None:
    strict = Registry(
        store=door.registry.store, settings=SETTINGS.changed({"prediction.missing": "refuse"})
    )
    strict.promote(strict.register("m-1", small(1)), 1)
    assert door.predict([1, None]).json()["message"] == "strength is missing."


def test_an_old_champion_never_answers_for_a_new_one(door: Door) -> None:
    door.let_serve(small(1))
    door.registry.register("m-2", small(2))
    door.registry.store.promote(make_promotion("m-2", "m-1", 2))  # as an earlier version does
    refused = door.predict([1, 2]).json()
    assert refused["code"] == "MLP07"
    assert refused["message"] == "The database has nothing to answer with for m-2."
    assert "models publish" in refused["hint"]
    assert door.logged() == []


@pytest.mark.parametrize(
    "damage",
    [
        "places = places[1:20]", "numbers = numbers[1:9]", "places = '{}'", "mean = '{}'",
        "places[5] = 99", "numbers = array_fill('NaN'::float8, array[2000])", "classes = '{a}'",
    ],
)  # fmt: skip
def test_a_damaged_row_answers_nothing_and_says_how_it_is_written_again(
    door: Door, damage: str
) -> None:
    door.let_serve(small(1))
    door.project.sql(f"update model_scoring set {damage}")  # noqa: S608 - from above
    refused = door.predict([1, 2])
    assert not refused.is_success
    assert door.logged() == []


def test_a_model_that_the_database_has_no_words_for_is_refused_with_the_way_out(door: Door) -> None:
    door.registry.promote(door.registry.register("m-1", small(1), has_scoring=False), 1)
    refused = door.predict([1, 2]).json()
    assert refused["message"].startswith("The database cannot answer with m-1: it has no scoring")
    assert "ml-pipeline predict" in refused["hint"]


@pytest.mark.parametrize("name", ["nobody", "x'; drop table ml_data; --", "", 'a"b', "%"])
def test_a_name_that_nobody_serves_is_a_name_and_no_sql(door: Door, name: str) -> None:
    door.let_serve(small(1))
    refused = door.predict([1, 2], model_name=name).json()
    assert refused["code"] == "MLP03"
    assert refused["message"] == f"No model serves {name} yet, so nothing can be predicted."
    odd = {"form'); drop table ml_data; --": 1, "form": 1, "strength": "$$; select 1"}
    assert door.predict(odd).json()["code"] == "MLP08"
    assert door.predict([1, 2], entity_id="'; delete from evaluation_log; --").is_success
    assert [row["match_id"] for row in door.logged()] == ["'; delete from evaluation_log; --"]


def test_what_is_too_large_is_refused_at_once(door: Door) -> None:
    door.let_serve(small(1))
    large = {"form": 1, "strength": 2, "more": "x" * 5_000_000}
    assert door.predict(large).json()["message"] == "The features are larger than 1 MB."
    many = door.batch([[1, 2]] * 10_001).json()
    assert many["message"] == "10001 rows are over 10,000."
    assert door.batch({"form": 1}).json()["message"] == "The rows are no array."
    assert door.batch([]).json() == []
    odd_id = door.predict([1, 2], entity_id="a\nb").json()
    assert odd_id["message"] == "An id holds a control character."
    assert door.logged() == []


def test_a_call_that_cannot_log_fails_whole(door: Door) -> None:
    door.let_serve(small(1))
    door.project.sql(
        "alter table evaluation_log add constraint no_more check (match_id <> 'x') not valid"
    )
    try:
        assert not door.predict([1, 2], entity_id="x").is_success
        assert door.predict([1, 2], entity_id="x", log=False).is_success
        rows = [{"form": 1, "strength": 2, "match_id": match_id} for match_id in ("y", "x")]
        assert not door.batch(rows).is_success
    finally:
        door.project.sql("alter table evaluation_log drop constraint no_more")
    assert door.logged() == []


def test_a_statement_that_takes_too_long_is_ended_and_logs_nothing(door: Door) -> None:
    door.let_serve(small(1))
    rows = json.dumps([[1, 2]] * 10_000)
    with psycopg.connect(door.project.dsn) as database:
        database.execute("set statement_timeout = '200ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            database.execute("select predict_batch(%s, %s)", [MODEL_NAME, rows])
    assert door.logged() == []


def test_a_promotion_and_a_rollback_amid_predictions_leave_each_answer_to_one_model(
    door: Door,
) -> None:
    models = {"m-1": small(1), "m-2": small(2)}
    answerings = {"m-1": door.let_serve(models["m-1"])}
    expected = {
        model_id: scoring.parse(scoring_bytes(model)).probabilities([0.1, 3.0])
        for model_id, model in models.items()
    }
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(door.predict, [0.1, 3.0]) for _ in range(50)]
        door.let_serve(models["m-2"], "m-2", 2)
        decision = Decision(settings=SETTINGS, reason="odd", now=NOW, event_id=make_id(3))
        roll_back(door.registry.store, None, decision)
        answers = [future.result().json() for future in asked]
    assert answerings
    for answer in answers:
        shares = list(answer["probabilities"].values())
        assert shares == pytest.approx(expected[answer["model_id"]], abs=1e-9)
    assert len(door.logged()) == 50
    assert door.predict([0.1, 3.0]).json()["model_id"] == "m-1"


def test_a_stranger_and_a_signed_in_user_without_the_grant_ask_nothing(door: Door) -> None:
    door.let_serve(small(1))
    for who in ("anon", "user"):
        for function, arguments in (
            ("predict", {"features": [1, 2]}), ("predict_batch", {"rows": [[1, 2]]}),
        ):  # fmt: skip
            refused = door.callers[who].call(function, model_name=MODEL_NAME, **arguments)
            assert refused.json()["code"] == "42501"
    assert door.logged() == []
