"""The OpenAPI document of `serve`: it is one, and what is taken and answered is as it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.web.predictions import openapi
from tests.conftest import FirstModel
from tests.support import hosting
from tests.support.hosting import ROW, Hosted

DOCUMENT = openapi.document("")


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory, first_model: FirstModel) -> Iterator[Hosted]:
    folder = tmp_path_factory.mktemp("documented")
    hosting.promote(LocalStore.open(folder / "store"), first_model.model, folder, "first")
    with hosting.hosting(local_dir=folder / "store") as served:
        yield served


def checked(value: Any, schema: dict[str, Any]) -> list[str]:  # noqa: ANN401 - JSON
    """What is wrong with a value by a schema of the document."""
    whole = {**schema, "components": DOCUMENT["components"]}
    return [error.message for error in Draft202012Validator(whole).iter_errors(value)]


def schema_of(content: dict[str, Any]) -> dict[str, Any]:
    (found,) = content.values()
    schema: dict[str, Any] = found["schema"]
    return schema


def test_the_document_is_one_and_is_shown_to_everybody(hosted: Hosted) -> None:
    validate(DOCUMENT)
    assert hosted.get("/openapi.json", Authorization="").json == DOCUMENT


def test_every_path_is_in_the_document_and_takes_the_method_that_it_says(hosted: Hosted) -> None:
    hint = hosted.get("/nowhere").json["hint"]
    named = set(hint.removeprefix("There are ").removesuffix(".").split(", "))
    assert named - {"/", "/openapi.json"} == set(DOCUMENT["paths"])
    for path, (method,) in DOCUMENT["paths"].items():
        other = "GET" if method == "post" else "POST"
        assert hosted.call(other, path, {} if other == "POST" else None).status == 405


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/predict", {"features": ROW, "entity_id": "m1"}, 200),
        ("/v1/predict", {"features": [0, 0, 0, 0, 0], "log": False}, 200),
        ("/v1/predict", {"features": [0, 0, 0, 0, None], "id": 3}, 200),
        ("/v1/predict", {"feature": [1]}, 400),
        ("/v1/predict/batch", {"rows": [{"features": ROW}, {"features": [1]}]}, 200),
        ("/v1/predict/batch", {"rows": []}, 400),
        ("/v1/correct", {"features": ROW, "prediction": "H"}, 422),
        ("/v1/correct", {"features": ROW}, 422),
        ("/v1/predict/batch", {"rows": [{"features": ROW}] * 1001}, 400),
        ("/v1/outcome", {"entity_id": "m1", "actual_result": 0}, 200),
        ("/v1/outcome", {"outcomes": [{"id": "m1", "actual_result": "A"}], "correct": True}, 200),
        ("/v1/outcome", {"outcomes": [{"id": "m1", "actual": "A"}], "correct": True}, 200),
        ("/v1/outcome", {"entity_id": "m1"}, 422),
        ("/v1/labels", {"id": "m1", "label": "H", "source": "a test"}, 200),
        ("/v1/labels", {"labels": [{"id": "m1", "label": "H"}]}, 200),
        ("/v1/labels", {"labels": [{"id": "m1"}]}, 409),
        ("/v1/model", None, 200),
        ("/health", None, 200),
        ("/ready", None, 200),
    ],
)
def test_what_is_taken_and_answered_is_as_the_document_says(
    hosted: Hosted,
    path: str,
    body: Any,  # noqa: ANN401 - JSON
    status: int,
) -> None:
    hosted.predict(entity_id="m1")
    (operation,) = DOCUMENT["paths"][path].values()
    reply = hosted.call("GET" if body is None else "POST", path, body)
    assert reply.status == status, reply.text
    answer = operation["responses"].get(str(status), operation["responses"]["default"])
    assert reply.headers["content-type"] in answer["content"]
    assert checked(reply.json, schema_of(answer["content"])) == []
    if body is not None:
        faults = checked(body, schema_of(operation["requestBody"]["content"]))
        assert bool(faults) == (status >= 400)
