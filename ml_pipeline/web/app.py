"""The pages, their JSON, and the four things that a person may do."""

from __future__ import annotations

import logging
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any
from uuid import UUID

from flask import (
    Blueprint,
    Flask,
    Response,
    current_app,
    flash,
    get_flashed_messages,
    jsonify,
    redirect,
    request,
    session,
)
from markupsafe import Markup
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import NotFound, PipelineError, StoreUnavailable
from ml_pipeline.registry import champion
from ml_pipeline.registry.champion import Decision
from ml_pipeline.registry.retention import LOG_BUCKET
from ml_pipeline.reports import pages, report
from ml_pipeline.reports.report import view_of
from ml_pipeline.runs import requests
from ml_pipeline.store import json_values
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import Priority, RetrainingRun
from ml_pipeline.web.guard import SIGNED_IN, Guard, csrf_token, is_forged, protect
from ml_pipeline.web.queries import Look, Looks, made_once

log = logging.getLogger("monitor")

OPEN_TO_ALL = {"monitor.sign_in", "monitor.health", "monitor.asset"}
ASSETS = {"style.css": "text/css", "monitor.js": "text/javascript"}
LARGEST_FORM = 64 * 1024
LONGEST_REASON = 500
# Stands where each session's own secret goes, in parts that are made once for everybody.
PLACEHOLDER = secrets.token_hex(16)
# Where the forms stand between the parts that are renewed.
FORMS = "<!-- forms -->"

door = Blueprint("monitor", __name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Desk:
    """What the handlers of one application work with."""

    store: Store
    settings: Settings
    guard: Guard
    looks: Looks
    clock: Callable[[], datetime]
    new_id: Callable[[], str]

    def decision(self, reason: str) -> Decision:
        """A person's word, said now."""
        return Decision(
            model_name=self.settings.model_name,
            reason=reason,
            now=self.clock(),
            event_id=self.new_id(),
        )


def create_app(
    store: Store,
    settings: Settings,
    guard: Guard,
    *,
    clock: Callable[[], datetime],
    new_id: Callable[[], str],
) -> Flask:
    """Make the application on an open store. Sessions end with the process."""
    app = Flask(__name__, static_folder=None)
    app.secret_key = secrets.token_bytes(32)
    app.config.update(
        MAX_CONTENT_LENGTH=LARGEST_FORM,
        SESSION_COOKIE_NAME="ml_pipeline_monitor",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
    )
    app.extensions["desk"] = Desk(
        store=store,
        settings=settings,
        guard=guard,
        looks=Looks(store, settings, clock),
        clock=clock,
        new_id=new_id,
    )
    app.register_blueprint(door)
    app.before_request(_check)
    app.after_request(protect)
    app.register_error_handler(PipelineError, _told)
    app.register_error_handler(HTTPException, _http)
    return app


def desk() -> Desk:
    """The application's own."""
    found: Desk = current_app.extensions["desk"]
    return found


def _check() -> Response | AnyResponse | None:
    """Host, then token, then whether a form is one of ours."""
    guard = desk().guard
    if not guard.knows_host(request):
        return _message("This server does not answer to that host name.", 421)
    if request.endpoint not in OPEN_TO_ALL and not guard.lets_in(request):
        if request.path.startswith("/api/") or "Authorization" in request.headers:
            return _failure("A token is needed: Authorization: Bearer TOKEN.", 401)
        return redirect("/sign-in", 303) if request.method == "GET" else _message("Sign in.", 401)
    if request.method == "POST" and is_forged(request):
        return _message(
            "This form is not from this page, or it has expired. Reload the page and try again.",
            403,
        )
    return None


# ----------------------------------------------------------------------------------- pages


@door.get("/")
def home() -> str:
    """The page."""
    look = desk().looks.latest()
    live = made_once(look, "live", lambda: _live(look))
    parts = live.replace(PLACEHOLDER, csrf_token()).split(FORMS)
    return _page(
        "monitor.html",
        title=f"{look.overview.model_name}: training monitor",
        live=[Markup(part) for part in parts],  # noqa: S704 - a template made them
        earlier=look.overview.earlier,
        champion=look.overview.champion,
        model_name=look.overview.model_name,
        priorities=[str(priority) for priority in Priority],
        longest=LONGEST_REASON,
    )


def _live(look: Look) -> str:
    return pages.render("monitor_live.html", seen=look.overview, made=look.view, csrf=PLACEHOLDER)


@door.get("/runs/<run_id>")
def run_page(run_id: str) -> str:
    """A run with its report."""
    run = _run(run_id)
    view = view_of(run, desk().looks.latest().overview.promotions)
    return _page("monitor_run.html", title=f"Run {run.run_id[:8]}", view=view, run=run)


@door.get("/runs/<run_id>/report.html")
def run_report(run_id: str) -> Response:
    """The same as the file that a run stores: for a mail, or to be kept."""
    run = _run(run_id)
    page = report.as_html(run, desk().looks.latest().overview.promotions)
    return protect(Response(page, mimetype="text/html"), inline_style=pages.style())


@door.get("/runs/<run_id>/log.txt")
def run_log(run_id: str) -> Response:
    """The log of a run."""
    run = _run(run_id)
    with tempfile.TemporaryDirectory() as folder:
        path = desk().store.download(
            LOG_BUCKET, f"training-logs/{run.run_id}.txt", Path(folder) / "log.txt"
        )
        return Response(path.read_bytes(), mimetype="text/plain")


def _run(run_id: str) -> RetrainingRun:
    try:
        known = str(UUID(run_id))
    except ValueError:
        raise NotFound(f"There is no run {run_id!r}.") from None
    return desk().store.get_run(known)


def _page(template: str, **values: Any) -> str:  # noqa: ANN401 - whatever the template shows
    return pages.render(
        template,
        csrf=csrf_token(),
        messages=get_flashed_messages(with_categories=True),
        signed_in=desk().guard.asks_for_token and session.get(SIGNED_IN) is True,
        **values,
    )


@door.get("/assets/<name>")
def asset(name: str) -> Response:
    """The style sheet and the script."""
    if name not in ASSETS:
        raise NotFound(f"There is no file {name!r}.")
    text = (files("ml_pipeline") / "templates" / name).read_text(encoding="utf-8")
    answer = Response(text, mimetype=ASSETS[name])
    answer.headers["Cache-Control"] = "max-age=300"
    return answer


# ------------------------------------------------------------------------------------ JSON


@door.get("/api/overview")
def api_overview() -> Response:
    """Everything that the page shows."""
    look = desk().looks.latest()
    return jsonify(look.overview.as_json())


@door.get("/api/runs/<run_id>")
def api_run(run_id: str) -> Response:
    """A run with all that it keeps."""
    run = _run(run_id)
    return jsonify(json_values.run_json(run) | {"review": run.details.get("review")})


@door.get("/api/<part>")
def api_part(part: str) -> Response:
    """One part of the overview: runs, requests, days, alerts, promotions, champion."""
    everything = desk().looks.latest().overview.as_json()
    if part not in everything:
        raise NotFound(f"There is no {part!r}; there are {', '.join(everything)}.")
    return jsonify({part: everything[part]})


@door.get("/health")
def health() -> tuple[Response, int] | Response:
    """Whether the store answers, and whether a run is late; for machines, without a token."""
    try:
        seen = desk().looks.latest().overview
    except PipelineError as error:
        log.warning("Not healthy: %s", error)
        return jsonify({"status": "failed"}), 503
    return jsonify({"status": "ok", "is_late": seen.is_late})


# ---------------------------------------------------------------------------------- buttons


@door.post("/retrain")
def retrain() -> AnyResponse:
    """Ask for a run."""
    at = desk()
    priority = request.form.get("priority", str(Priority.NORMAL))
    if priority not in set(Priority):
        return _message(f"There is no priority {priority!r}.", 400)
    asked = requests.ask(
        at.store,
        at.settings,
        reason=_reason(),
        priority=Priority(priority),
        now=at.clock(),
        new_id=at.new_id(),
    )
    return _done(f"Request {asked.request_id[:8]} is in the queue; the next run will handle it.")


@door.post("/approve")
def approve() -> AnyResponse:
    """Let a waiting challenger serve."""
    model = champion.approve(desk().store, _model_id(), desk().decision(_reason()))
    return _done(f"Approved: {model.model_id} serves now.")


@door.post("/refuse")
def refuse() -> AnyResponse:
    """Let a waiting challenger go."""
    model = champion.refuse(desk().store, _model_id(), desk().decision(_reason()))
    return _done(f"Rejected: {model.model_id} will not serve; the champion stays.")


@door.post("/roll-back")
def roll_back() -> AnyResponse:
    """Let an earlier champion serve again."""
    reason = _reason()
    if not reason:
        return _message("A rollback needs a reason: it is kept in the history.", 400)
    model = champion.roll_back(desk().store, _model_id() or None, desk().decision(reason))
    return _done(f"Rolled back: {model.model_id} serves again.")


def _reason() -> str:
    return " ".join(request.form.get("reason", "").split())[:LONGEST_REASON]


def _model_id() -> str:
    return request.form.get("model_id", "")


def _done(text: str) -> AnyResponse:
    desk().looks.forget()
    log.info("%s", text)
    flash(text, "done")
    return redirect("/", 303)


@door.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> str | AnyResponse:
    """Ask for the token."""
    if not desk().guard.asks_for_token:
        return redirect("/", 303)
    if request.method == "GET":
        return _page("monitor_sign_in.html", title="Sign in", wrong=False)
    if not desk().guard.is_token(request.form.get("token", "")):
        log.warning("A wrong token was given from %s", request.remote_addr)
        page = _page("monitor_sign_in.html", title="Sign in", wrong=True)
        return Response(page, 401, mimetype="text/html")
    session.clear()
    session[SIGNED_IN] = True
    return redirect("/", 303)


@door.post("/sign-out")
def sign_out() -> AnyResponse:
    """Forget who it was."""
    session.clear()
    return redirect("/sign-in", 303)


# ----------------------------------------------------------------------------------- faults


def _told(error: PipelineError) -> Response:
    """What went wrong, in the words of the error."""
    status = 404 if isinstance(error, NotFound) else 409
    if isinstance(error, StoreUnavailable):
        status = 503
    log.warning("%s %s: %s", request.method, request.path, error)
    if request.path.startswith("/api/"):
        return _failure(str(error), status)
    return _message(str(error), status)


def _http(error: HTTPException) -> Response:
    text = error.description or error.name
    if request.path.startswith("/api/"):
        return _failure(text, error.code or 500)
    return _message(text, error.code or 500)


def _failure(text: str, status: int) -> Response:
    answer = jsonify({"status": "failed", "error": text})
    answer.status_code = status
    return answer


def _message(text: str, status: int) -> Response:
    page = pages.render("monitor_message.html", title="Not done", text=text)
    return Response(page, status, mimetype="text/html")
