"""The monitoring page as a Flask application: pages, their JSON, and four actions."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from datetime import datetime
from importlib.resources import files

from flask import (
    Blueprint,
    Flask,
    Response,
    flash,
    jsonify,
    request,
)
from markupsafe import Markup
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import NotFound, PipelineError, StoreUnavailable
from ml_pipeline.registry import champion
from ml_pipeline.reports import pages
from ml_pipeline.runs import requests
from ml_pipeline.store import json_values
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import Priority
from ml_pipeline.web import access, model_pages, run_pages
from ml_pipeline.web.answers import Services, message_page, page, redirect_to, refusal, services
from ml_pipeline.web.guard import (
    Guard,
    csrf_token,
    protect,
)
from ml_pipeline.web.proxies import Proxies, place_behind
from ml_pipeline.web.queries import OverviewCache, Snapshot, rendered_once
from ml_pipeline.web.run_pages import run_of
from ml_pipeline.web.sign_ins import Guesses, Sessions

log = logging.getLogger("monitor")

ASSETS = {"style.css": "text/css", "page.js": "text/javascript"}
LARGEST_FORM = 64 * 1024
LONGEST_REASON = 500
# Stands where each session's own secret goes, in parts that are made once for everybody.
PLACEHOLDER = secrets.token_hex(16)
# Where the forms stand between the parts that are renewed.
FORMS = "<!-- forms -->"

blueprint = Blueprint("monitor", __name__)


def create_app(  # noqa: PLR0913 - what an application consists of
    store: Store,
    settings: Settings,
    guard: Guard,
    *,
    clock: Callable[[], datetime],
    new_id: Callable[[], str],
    proxies: Proxies | None = None,
) -> Flask:
    """Make the application on an open store. Sessions end with the process.

    `proxies` says what stands in front of it, nothing by default.
    """
    proxies = Proxies() if proxies is None else proxies
    app = Flask(__name__, static_folder=None)
    app.secret_key = secrets.token_bytes(32)
    app.config.update(
        MAX_CONTENT_LENGTH=LARGEST_FORM,
        SESSION_COOKIE_NAME="ml_pipeline_monitor",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
    )
    app.extensions["services"] = Services(
        store=store,
        settings=settings,
        guard=guard,
        overviews=OverviewCache(store, settings, clock),
        sessions=Sessions(),
        guesses=Guesses(),
        clock=clock,
        new_id=new_id,
    )
    place_behind(app, proxies)
    app.register_blueprint(blueprint)
    for part in (access, run_pages, model_pages):
        app.register_blueprint(part.blueprint)
    app.before_request(access.authorize)
    app.after_request(protect)
    app.register_error_handler(PipelineError, _handle_fault)
    app.register_error_handler(HTTPException, _handle_http_fault)
    return app


# ----------------------------------------------------------------------------------- pages


@blueprint.get("/")
def home() -> AnyResponse:
    """The page; one that the browser has as it is is not sent again."""
    snapshot = services().overviews.latest()
    live = rendered_once(snapshot, f"live {request.script_root}", lambda: _live(snapshot))
    parts = live.replace(PLACEHOLDER, csrf_token()).split(FORMS)
    text = page(
        "home.html",
        current="Overview",
        title=f"{snapshot.overview.model_name}: training monitor",
        live=[Markup(part) for part in parts],  # noqa: S704 - a template made them
        earlier=snapshot.overview.earlier,
        champion=snapshot.overview.champion,
        priorities=[str(priority) for priority in Priority],
        longest=LONGEST_REASON,
    )
    answer = Response(text, mimetype="text/html")
    answer.add_etag()
    return answer.make_conditional(request)


def _live(snapshot: Snapshot) -> str:
    return pages.render(
        "home_live.html",
        base=request.script_root,
        overview=snapshot.overview,
        view=snapshot.view,
        csrf=PLACEHOLDER,
    )


@blueprint.get("/assets/<name>")
def asset(name: str) -> Response:
    """The style sheet and the script."""
    if name not in ASSETS:
        raise NotFound(f"There is no file {name!r}.")
    text = (files("ml_pipeline") / "templates" / name).read_text(encoding="utf-8")
    answer = Response(text, mimetype=ASSETS[name])
    answer.headers["Cache-Control"] = "max-age=300"
    return answer


# ------------------------------------------------------------------------------------ JSON


@blueprint.get("/api/overview")
def api_overview() -> Response:
    """Everything that the page shows."""
    snapshot = services().overviews.latest()
    return jsonify(snapshot.overview.as_json())


@blueprint.get("/api/runs/<run_id>")
def api_run(run_id: str) -> Response:
    """A run with everything that its row keeps."""
    run = run_of(run_id)
    return jsonify(json_values.run_json(run) | {"review": run.details.get("review")})


@blueprint.get("/api/<part>")
def api_part(part: str) -> Response:
    """One part of the overview: runs, requests, days, alerts, promotions, champion."""
    everything = services().overviews.latest().overview.as_json()
    if part not in everything:
        raise NotFound(f"There is no {part!r}; there are {', '.join(everything)}.")
    return jsonify({part: everything[part]})


@blueprint.get("/health")
def health() -> tuple[Response, int] | Response:
    """Whether the store answers, and whether a run is late; for machines, without a token."""
    try:
        overview = services().overviews.latest().overview
    except PipelineError as error:
        log.warning("Not healthy: %s", error)
        return jsonify({"status": "failed"}), 503
    return jsonify({"status": "ok", "is_late": overview.is_late})


# ---------------------------------------------------------------------------------- buttons


@blueprint.post("/retrain")
def retrain() -> AnyResponse:
    """Submit a request for a run."""
    here = services()
    priority = request.form.get("priority", str(Priority.NORMAL))
    if priority not in set(Priority):
        return message_page(f"There is no priority {priority!r}.", 400)
    submitted = requests.submit_request(
        here.store,
        here.settings,
        reason=_reason(),
        priority=Priority(priority),
        now=here.clock(),
        new_id=here.new_id(),
    )
    return _back_with_notice(
        f"Request {submitted.request_id[:8]} is in the queue; the next run will handle it."
    )


@blueprint.post("/approve")
def approve() -> AnyResponse:
    """Promote a challenger that waits for approval."""
    decision = services().decision(_reason())
    model = champion.approve(services().store, _model_id(), decision)
    return _back_with_notice(f"Approved: {champion.who_answers_then(model.model_id, decision)}")


@blueprint.post("/refuse")
def refuse() -> AnyResponse:
    """Reject a challenger that waits for approval."""
    model = champion.refuse(services().store, _model_id(), services().decision(_reason()))
    return _back_with_notice(f"Rejected: {model.model_id} will not serve; the champion stays.")


@blueprint.post("/roll-back")
def roll_back() -> AnyResponse:
    """Roll back to an earlier champion."""
    reason = _reason()
    if not reason:
        return message_page("A rollback needs a reason: it is kept in the history.", 400)
    model = champion.roll_back(services().store, _model_id() or None, services().decision(reason))
    return _back_with_notice(f"Rolled back: {model.model_id} serves again.")


def _reason() -> str:
    return " ".join(request.form.get("reason", "").split())[:LONGEST_REASON]


def _model_id() -> str:
    return request.form.get("model_id", "")


def _back_with_notice(text: str) -> AnyResponse:
    services().overviews.forget()
    log.info("%s", text)
    flash(text, "done")
    return redirect_to("/")


# ----------------------------------------------------------------------------------- faults


def _handle_fault(error: PipelineError) -> Response:
    """Answer an error of ours with its message."""
    status = 404 if isinstance(error, NotFound) else 409
    if isinstance(error, StoreUnavailable):
        status = 503
    # A path may hold the end of a line: one that is made up must not look like one of ours.
    log.warning("%s %r: %s", request.method, request.path, error)
    return refusal(str(error), status)


def _handle_http_fault(error: HTTPException) -> Response:
    return refusal(error.description or error.name, error.code or 500)
