"""What the service takes and answers, as an OpenAPI 3.1 document."""

from __future__ import annotations

from typing import Any, Final

from ml_pipeline import __version__
from ml_pipeline.web.predictions.bodies import MOST_ROWS
from ml_pipeline.web.predictions.problems import MEDIA_TYPE

Schema = dict[str, Any]
_TEXT: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_TRUTH: Final[Schema] = {"type": "boolean"}
_TEXTS: Final[Schema] = {"type": "array", "items": _TEXT}
_OBJECTS: Final[Schema] = {"type": "array", "items": {"type": "object"}}
_SHARE: Final[Schema] = {"type": "number", "minimum": 0, "maximum": 1}
_ANY: Final[Schema] = {"type": ["string", "number", "boolean", "null"]}
_LABEL: Final[Schema] = {"type": ["string", "number", "boolean"]}
_ID: Final[Schema] = {"type": ["string", "integer"]}
_MAYBE: Final[Schema] = {"type": ["string", "null"]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _record(properties: Schema, *, required: tuple[str, ...] = (), closed: bool = True) -> Schema:
    """An object; `closed` ones have no other members."""
    found: Schema = {"type": "object", "properties": properties}
    if required:
        found["required"] = list(required)
    if closed:
        found["additionalProperties"] = False
    return found


def _described(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


_ROW: Final[Schema] = {
    "features": {
        "description": "Values by name, or in the model's order. A missing value is null.",
        "oneOf": [
            {"type": "object", "additionalProperties": _ANY},
            {"type": "array", "items": _ANY},
        ],
    },
    "text": _described(_TEXT, "The text, where the model reads one."),
    "entity_id": _described(_ID, "What is predicted; its outcome can be recorded by this id."),
    "match_id": _described(_ID, "Another name of entity_id."),
    "id": _described(_ID, "Another name of entity_id."),
}
_LOG: Final[Schema] = {
    "type": "boolean", "default": True,
    "description": "Whether the answer is logged, with its features, before it is given.",
}  # fmt: skip
_OUTCOME: Final[Schema] = {
    "event_id": _described(_TEXT, "The prediction whose outcome is known."),
    "entity_id": _described(_ID, "Or what was predicted: all predictions of it get the outcome."),
    "match_id": _described(_ID, "Another name of entity_id."),
    "id": _described(_ID, "Another name of entity_id."),
    "actual_result": _described(_LABEL, "What really happened: a label, in any of its spellings."),
    "actual": _described(_LABEL, "Another name of actual_result."),
    "evaluated_at": _described(_TEXT, "When it became known, ISO 8601; now by default."),
}
_EITHER_NAME: Final[Schema] = {"oneOf": [{"required": ["actual_result"]}, {"required": ["actual"]}]}
_LABEL_ENTRY: Final[Schema] = {
    "id": _described(_ID, "A waiting row, an event, what was predicted, or any id of yours."),
    "entity_id": _described(_ID, "Another name of id."),
    "match_id": _described(_ID, "Another name of id."),
    "label": _LABEL,
    "features": {"type": "object", "additionalProperties": _ANY},
    "text": _TEXT,
    "source": _described(_TEXT, "Who says so; `person` by default."),
}
_SHARES: Final[Schema] = {"type": "object", "additionalProperties": _SHARE}
_INCUMBENT: Final[Schema] = {
    "probabilities": _described(_SHARES, "What the incumbent answered, by class; 1 in all."),
    "prediction": _described(_TEXT, "Or its label, of whose confidence the others share the rest."),
    "confidence": _SHARE,
}
_ANSWER: Final[Schema] = {
    "event_id": _described(_TEXT, "By which its outcome is recorded."),
    "match_id": _MAYBE,
    "prediction": _described(_TEXT, "The label, or UNCERTAIN below the model's own threshold."),
    "best_guess": _described(_TEXT, "What it would have been, beside UNCERTAIN."),
    "confidence": _SHARE,
    "confidence_level": {"enum": ["high", "medium", "low"]},
    "probabilities": _SHARES,
    "incumbent": _described(_SHARES, "What was corrected, by a model that corrects an incumbent."),
    "imputed": _described(_TEXTS, "Features that were missing, and filled in as in training."),
    "model_id": _TEXT,
    "timestamp": {"type": "string", "format": "date-time"},
    "status": {"const": "completed"},
    "warnings": _TEXTS,
}
_REPORT: Final[Schema] = {
    "status": {"enum": ["completed", "waiting"]},
    "recorded": _COUNT,
    "corrected": _COUNT,
    "already_known": _COUNT,
    "uncertain": _COUNT,
    "accuracy": {"type": ["number", "null"]},
    "refused": _OBJECTS,
    "unknown": _OBJECTS,
}


def _rows_of(name: str) -> Schema:
    return {"type": "array", "items": _ref(name), "minItems": 1, "maxItems": MOST_ROWS}


def _requests() -> Schema:
    """What is sent."""
    return {
        "Row": _record({**_ROW, "incumbent": {"type": "object"}}),
        "PredictRequest": _record({**_ROW, "log": _LOG}),
        "CorrectRequest": {
            **_record({**_ROW, **_INCUMBENT, "log": _LOG}),
            "oneOf": [
                {"required": ["probabilities"], "not": {"required": ["prediction"]}},
                {"required": ["prediction", "confidence"]},
            ],
        },
        "BatchRequest": _record({"rows": _rows_of("Row"), "log": _LOG}, required=("rows",)),
        "Outcome": {**_record(_OUTCOME), **_EITHER_NAME},
        "OutcomeRequest": {
            "oneOf": [
                {**_record({**_OUTCOME, "correct": _TRUTH}), **_EITHER_NAME},
                _record(
                    {"outcomes": _rows_of("Outcome"), "correct": _TRUTH}, required=("outcomes",)
                ),
            ]
        },
        "Label": _record(_LABEL_ENTRY, required=("label",)),
        "LabelRequest": {
            "oneOf": [
                _ref("Label"), _record({"labels": _rows_of("Label")}, required=("labels",)),
            ]
        },
    }  # fmt: skip


def _answers() -> Schema:
    """What is answered."""
    counts = {"rows": _COUNT, "predicted": _COUNT, "failed": _COUNT}
    either = {"type": "array", "items": {"oneOf": [_ref("Answer"), _ref("FaultyRow")]}}
    return {
        "Answer": _record(
            _ANSWER, closed=False,
            required=(
                "event_id", "prediction", "confidence", "probabilities", "model_id", "status",
            ),
        ),
        "FaultyRow": _record(
            {"match_id": _MAYBE, "prediction": {"type": "null"}, "error": _TEXT},
            required=("error",),
        ),
        "BatchAnswer": _record(
            {"status": {"const": "completed"}, **counts, "predictions": either},
            required=("status", *counts, "predictions"),
        ),
        "OutcomeReport": _record(_REPORT, required=("status", "recorded")),
        "LabelReport": _record(
            {
                "status": {"const": "completed"}, "added": _COUNT, "filled": _COUNT,
                "already_known": _COUNT, "refused": _OBJECTS,
            },
            required=("status", "added", "filled", "already_known"),
        ),
        "Model": _record(
            {"model_id": _TEXT, "model_name": _TEXT, "features": _TEXTS, "classes": _TEXTS},
            required=("model_id", "features", "classes"), closed=False,
        ),
        "Health": _record({"status": {"enum": ["ok", "degraded", "failed"]}}, closed=False),
        "Problem": _record(
            {"type": _TEXT, "title": _TEXT, "status": {"type": "integer"}, "detail": _TEXT,
             "hint": _TEXT},
            required=("type", "title", "status", "detail"), closed=False,
        ),
    }  # fmt: skip


def _content(media_type: str, name: str) -> Schema:
    return {media_type: {"schema": _ref(name)}}


def _call(
    summary: str, answer: str, *, body: str = "", also: tuple[str, ...] = (), is_open: bool = False
) -> Schema:
    """One operation; `also` are further statuses that answer alike."""
    good = {"description": "Done.", "content": _content("application/json", answer)}
    call: Schema = {
        "summary": summary,
        "operationId": summary.lower().replace(" ", "_").replace(",", ""),
        "responses": {
            "200": good,
            **{status: {**good, "description": "Kept for the store."} for status in also},
            "default": {
                "description": "Not done, and why.", "content": _content(MEDIA_TYPE, "Problem"),
            },
        },
    }  # fmt: skip
    if body:
        content = _content("application/json", body)
        call["requestBody"] = {"required": True, "content": content}
    if is_open:
        call["security"] = []
    return call


def _paths() -> Schema:
    return {
        "/v1/predict": {"post": _call("Predict one row", "Answer", body="PredictRequest")},
        "/v1/predict/batch": {
            "post": _call("Predict up to a thousand rows", "BatchAnswer", body="BatchRequest")
        },
        "/v1/correct": {
            "post": _call("Correct what an incumbent answered", "Answer", body="CorrectRequest")
        },
        "/v1/outcome": {
            "post": _call(
                "Record what really happened", "OutcomeReport", body="OutcomeRequest", also=("202",)
            )
        },
        "/v1/labels": {"post": _call("Add labels", "LabelReport", body="LabelRequest")},
        "/v1/model": {"get": _call("Show the model that answers", "Model")},
        "/health": {"get": _call("Say how the service is", "Health", is_open=True)},
        "/ready": {"get": _call("Say whether predictions are answered", "Health", is_open=True)},
    }


def document(base_path: str) -> Schema:
    """The document, of a service under that path."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "ml_pipeline predictions", "version": __version__},
        "servers": [{"url": base_path or "/"}],
        "security": [{"token": []}],
        "paths": _paths(),
        "components": {
            "schemas": _requests() | _answers(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
