"""The HTTP service as a WSGI application: JSON in, JSON out, a token for everything that says much.

Bare WSGI: a framework would take longer than a prediction.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

from ml_pipeline.errors import PipelineError
from ml_pipeline.serving.hosted.recording import WAITING
from ml_pipeline.serving.hosted.service import PredictionService
from ml_pipeline.serving.incumbents import one_answer
from ml_pipeline.web.guard import Guard
from ml_pipeline.web.predictions import bodies, openapi
from ml_pipeline.web.predictions.bodies import Body
from ml_pipeline.web.predictions.problems import MEDIA_TYPE, Problem, problem_of
from ml_pipeline.web.sign_ins import Guesses

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logging.getLogger("serve")

JSON: Final = "application/json"
Answer = tuple[HTTPStatus, dict[str, Any]]
OPEN: Final = {"/health", "/ready", "/openapi.json"}
MOST_ADDRESSES: Final = 10_000
_OUTCOME: Final = (
    "event_id",
    "match_id",
    "entity_id",
    "id",
    "actual_result",
    "actual",
    "evaluated_at",
)
_INCUMBENT: Final = ("probabilities", "prediction", "confidence")
_LABEL: Final = ("id", "match_id", "entity_id", "label", "features", "text", "source")
_HEADERS: Final = [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]
_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_STATUS_LINES: Final = {status: f"{status.value} {status.phrase}" for status in HTTPStatus}


class PredictionApp:
    """The application on an open service. Safe for threads."""

    def __init__(self, service: PredictionService, guard: Guard) -> None:
        self._service = service
        self._guard = guard
        self._guesses = Guesses()
        # Where the right token came from: wrong ones from there lock nobody out.
        self._known: set[str] = set()
        self._posts: dict[str, Callable[[Body], Answer]] = {
            "/v1/predict": self._predict,
            "/v1/predict/batch": self._predict_batch,
            "/v1/correct": self._correct,
            "/v1/outcome": self._outcome,
            "/v1/labels": self._labels,
        }
        self._gets: dict[str, Callable[[WSGIEnvironment], Answer]] = {
            "/": self._model,
            "/v1/model": self._model,
            "/health": self._health,
            "/ready": self._ready,
            "/openapi.json": self._openapi,
        }

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        media_type, more = JSON, list[tuple[str, str]]()
        try:
            status, found = self._answer(environ)
        except (Problem, PipelineError) as error:
            problem = error if isinstance(error, Problem) else problem_of(error)
            status, found, media_type = problem.status, problem.body, MEDIA_TYPE
            more = list(problem.headers)
        except RecursionError:
            problem = Problem(HTTPStatus.BAD_REQUEST, "The body is nested too deeply.")
            status, found, media_type = problem.status, problem.body, MEDIA_TYPE
        except Exception:
            log.exception("%r %r failed", environ["REQUEST_METHOD"], environ.get("PATH_INFO"))
            problem = Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "The log of the server says more.")
            status, found, media_type = problem.status, problem.body, MEDIA_TYPE
        content = _encode(found).encode()
        headers = [
            ("Content-Type", media_type), ("Content-Length", str(len(content))), *_HEADERS, *more,
        ]  # fmt: skip
        start(_STATUS_LINES[status], headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [content]

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
        if path not in OPEN:
            self._require_token(environ, path)
        if method == "POST" and (post := self._posts.get(path)) is not None:
            return post(bodies.read_object(_content(environ)))
        if method in {"GET", "HEAD"} and (get := self._gets.get(path)) is not None:
            return get(environ)
        allowed = "POST" if path in self._posts else "GET, HEAD" if path in self._gets else ""
        if allowed:
            detail = f"{path} takes {allowed}."
            raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, detail, headers=(("Allow", allowed),))
        hint = f"There are {', '.join([*self._posts, *self._gets])}."
        raise Problem(HTTPStatus.NOT_FOUND, f"There is no {path[:200]!r}.", hint=hint)

    # ------------------------------------------------------------------------------ who asks

    def _require_token(self, environ: WSGIEnvironment, path: str) -> None:
        """Raise Problem unless the request has the token."""
        address = environ.get("REMOTE_ADDR", "")
        if address not in self._known and (wait := self._guesses.wait_s(address)):
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                "Too many wrong tokens came from your address.",
                headers=(("Retry-After", str(math.ceil(wait))),),
            )
        token = _token(environ, path)
        if token is not None and self._guard.is_valid_token(token):
            if address not in self._known:
                self._remember(address)
            return
        if token is not None:
            if not self._guesses.wait_s(address):
                log.warning("A wrong token came from %r", address)
            self._guesses.note(address)
        raise Problem(
            HTTPStatus.UNAUTHORIZED,
            "A token is needed." if token is None else "That is not the token.",
            hint="Send the header Authorization: Bearer TOKEN.",
            headers=(("WWW-Authenticate", "Bearer"),),
        )

    def _remember(self, address: str) -> None:
        if len(self._known) >= MOST_ADDRESSES:
            self._known = set()
        self._known = {*self._known, address}

    def _has_token(self, environ: WSGIEnvironment) -> bool:
        """Whether more may be said; a wrong token is refused and counted here, too."""
        if not environ.get("HTTP_AUTHORIZATION"):
            return False
        self._require_token(environ, "")
        return True

    # ------------------------------------------------------------------------------- answers

    def _predict(self, body: Body) -> Answer:
        features, text, match_id = bodies.row(body, ("log",))
        logged = bodies.flag(body, "log", default=True)
        return HTTPStatus.OK, self._service.predict(
            features, text=text, match_id=match_id, log=logged
        )

    def _correct(self, body: Body) -> Answer:
        features, text, match_id = bodies.row(body, (*_INCUMBENT, "log"))
        incumbent = one_answer(
            bodies.member(body, "probabilities", dict, "object"),
            bodies.member(body, "prediction", str, "text"),
            bodies.member(body, "confidence", (int, float), "number"),
        )
        return HTTPStatus.OK, self._service.predict(
            features, text=text, match_id=match_id, incumbent=incumbent,
            log=bodies.flag(body, "log", default=True),
        )  # fmt: skip

    def _predict_batch(self, body: Body) -> Answer:
        bodies.only(body, ("rows", "log"))
        rows = [
            (
                *bodies.row(one, ("incumbent",), f"rows[{place}]"),
                bodies.member(one, "incumbent", dict, "object"),
            )
            for place, one in enumerate(bodies.rows(body, "rows"))
        ]
        logged = bodies.flag(body, "log", default=True)
        answers = self._service.predict_many(rows, log=logged)
        failed = sum("error" in answer for answer in answers)
        counts = {"rows": len(answers), "predicted": len(answers) - failed, "failed": failed}
        if failed == len(answers):
            raise Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"No row can be used; the first: {answers[0]['error']}",
                more={**counts, "predictions": answers},
            )
        return HTTPStatus.OK, {"status": "completed", **counts, "predictions": answers}

    def _outcome(self, body: Body) -> Answer:
        entries = [
            _outcome_of(one) for one in bodies.objects(body, "outcomes", _OUTCOME, ("correct",))
        ]
        correct = bodies.flag(body, "correct", default=False)
        report = self._service.record_outcomes(entries, correct=correct)
        if report["unknown"] and not report["refused"]:
            detail = (
                f"{len(report['unknown'])} of {len(entries)} outcomes are of nothing predicted."
            )
            raise Problem(HTTPStatus.NOT_FOUND, detail, more=report)
        _refuse_some(report, len(entries))
        status = HTTPStatus.ACCEPTED if report["status"] == WAITING else HTTPStatus.OK
        return status, report

    def _labels(self, body: Body) -> Answer:
        entries = [_label_of(one) for one in bodies.objects(body, "labels", _LABEL, ())]
        report = self._service.record_labels(entries)
        _refuse_some(report, len(entries))
        return HTTPStatus.OK, report

    def _model(self, _: WSGIEnvironment) -> Answer:
        return HTTPStatus.OK, self._service.model()

    def _health(self, environ: WSGIEnvironment) -> Answer:
        """Whether everything is well; only to who has the token what is wrong by name."""
        found = self._service.health()
        if not self._has_token(environ):
            found = {
                "status": found["status"],
                "warnings": len(found["warnings"]),
                "store": found["store"],
            }
        return HTTPStatus.OK, found

    def _ready(self, _: WSGIEnvironment) -> Answer:
        if not self._service.is_ready:
            why = "It is ending." if self._service.is_ending else "There is no model to answer."
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, why, headers=(("Retry-After", "5"),))
        return HTTPStatus.OK, {"status": "ok"}

    def _openapi(self, environ: WSGIEnvironment) -> Answer:
        return HTTPStatus.OK, openapi.document(environ.get("SCRIPT_NAME", ""))


def _content(environ: WSGIEnvironment) -> bytes:
    """The whole body. Raises Problem for one that is too large, or has no length."""
    try:
        size = int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        raise Problem(HTTPStatus.BAD_REQUEST, "Content-Length is no number.") from None
    if size > bodies.LARGEST_BODY:
        detail = f"The body has {size} bytes; {bodies.LARGEST_BODY} are taken."
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
    found: bytes = environ["wsgi.input"].read(size)
    return found


def _token(environ: WSGIEnvironment, path: str) -> str | None:
    """The token in the header; the address that is printed has it in its query."""
    scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() == "bearer":
        return str(token).strip()
    query = parse_qs(environ.get("QUERY_STRING", "")) if path == "/" else {}
    return query["token"][0] if "token" in query else None


def _outcome_of(one: Body) -> dict[str, Any]:
    actual = one.get("actual_result")
    return {
        "event_id": one.get("event_id"),
        "match_id": bodies.entity_id(one),
        "actual_result": one.get("actual") if actual is None else actual,
        "evaluated_at": one.get("evaluated_at"),
    }


def _label_of(one: Body) -> dict[str, Any]:
    return {**one, "id": bodies.entity_id(one)}


def _refuse_some(report: dict[str, Any], entries: int) -> None:
    """Raise Problem when some were refused; the others were taken, and the report says which."""
    if report["refused"]:
        first = report["refused"][0]
        raise Problem(
            HTTPStatus.CONFLICT,
            f"{len(report['refused'])} of {entries} were refused; the first: {first['reason']}",
            hint=first.get("hint") or "",
            more=report,
        )
