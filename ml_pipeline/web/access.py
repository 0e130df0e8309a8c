"""Who is let in: host name, token, session, and forms that are ours."""

from __future__ import annotations

import logging
import math

from flask import Blueprint, Response, request, session
from werkzeug.wrappers import Response as AnyResponse

from ml_pipeline.reports import pages
from ml_pipeline.web.answers import json_fault, message_page, redirect_to, refusal, services
from ml_pipeline.web.guard import SIGNED_IN, Guard, bearer_token, csrf_token, is_forged

log = logging.getLogger("monitor")

_FOR_MACHINES = {"monitor.health", "monitor.asset"}
OPEN_TO_ALL = {"access.sign_in", *_FOR_MACHINES}

blueprint = Blueprint("access", __name__)


def authorize() -> Response | AnyResponse | None:
    """Check the host name, then the token, then that a form is one of ours."""
    guard = services().guard
    if not guard.accepts_host(request):
        return message_page("This server does not answer to that host name.", 421)
    if _is_signed_in() and _is_printed_address():
        # The token does not stay in the address bar, nor come into a bookmark.
        return redirect_to("/")
    wait = services().guesses.wait_s(_address())
    if wait and request.endpoint not in _FOR_MACHINES and not _is_signed_in():
        answer = refusal("Too many wrong tokens came from your address. Wait a minute.", 429)
        answer.headers["Retry-After"] = str(math.ceil(wait))
        return answer
    if request.endpoint not in OPEN_TO_ALL and not _is_authorized(guard):
        return _ask_to_sign_in()
    if request.method == "POST" and is_forged(request):
        return message_page(
            "This form is not from this page, or it has expired. Reload the page and try again. "
            "Behind a proxy, set --trusted-proxies.",
            403,
        )
    return None


def _is_authorized(guard: Guard) -> bool:
    """Whether the request may see anything: signed in, or with the token in its header."""
    if not guard.requires_token or _is_signed_in():
        return True
    token = bearer_token(request)
    return token is not None and _is_right(token)


def _is_signed_in() -> bool:
    return services().sessions.holds(session.get(SIGNED_IN))


def _is_right(token: str) -> bool:
    """Whether it is the token; a wrong one counts against the address that sent it."""
    if services().guard.is_valid_token(token):
        return True
    services().guesses.note(_address())
    log.warning("A wrong token came from %r", _address())
    return False


def _address() -> str:
    return request.remote_addr or ""


def _is_printed_address() -> bool:
    """Whether somebody opens the address that `ml-pipeline monitor` prints."""
    return (
        request.method == "GET" and request.endpoint == "monitor.home" and "token" in request.args
    )


def _ask_to_sign_in() -> Response | AnyResponse:
    """Send a person to the form, or in at once where the address that was printed is opened."""
    if _is_printed_address():
        return _signed_in() if _is_right(request.args["token"]) else redirect_to("/sign-in")
    if request.path.startswith("/api/") or "Authorization" in request.headers:
        return json_fault("A token is needed: Authorization: Bearer TOKEN.", 401)
    if request.method == "GET":
        return redirect_to("/sign-in")
    return message_page("Sign in first.", 401)


def _signed_in() -> AnyResponse:
    services().sessions.end(session.get(SIGNED_IN))
    session.clear()
    session[SIGNED_IN] = services().sessions.open()
    return redirect_to("/")


@blueprint.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> str | AnyResponse:
    """Ask for the token."""
    if not services().guard.requires_token:
        return redirect_to("/")
    if request.method == "GET":
        return _sign_in_page(wrong=False)
    if not _is_right(request.form.get("token", "")):
        return Response(_sign_in_page(wrong=True), 401, mimetype="text/html")
    return _signed_in()


def _sign_in_page(*, wrong: bool) -> str:
    """The form alone: who is not signed in learns no name."""
    return pages.render(
        "sign_in.html", base=request.script_root, csrf=csrf_token(), title="Sign in", wrong=wrong
    )


@blueprint.post("/sign-out")
def sign_out() -> AnyResponse:
    """End the session, also for a copy of its cookie."""
    services().sessions.end(session.get(SIGNED_IN))
    session.clear()
    return redirect_to("/sign-in")
