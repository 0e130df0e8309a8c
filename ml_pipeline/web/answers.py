"""What every handler of the page uses: its services, and its ways to answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import (
    Response,
    current_app,
    get_flashed_messages,
    jsonify,
    redirect,
    request,
    session,
)
from werkzeug.wrappers import Response as AnyResponse

from ml_pipeline.config.settings import Settings
from ml_pipeline.registry.champion import Decision
from ml_pipeline.reports import pages
from ml_pipeline.store.contract import Store
from ml_pipeline.web.guard import SIGNED_IN, Guard, csrf_token
from ml_pipeline.web.queries import OverviewCache
from ml_pipeline.web.sign_ins import Guesses, Sessions

NAVIGATION = (("/", "Overview"), ("/runs", "Runs"), ("/models", "Models"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    """What the handlers of one application use."""

    store: Store
    settings: Settings
    guard: Guard
    overviews: OverviewCache
    sessions: Sessions
    guesses: Guesses
    clock: Callable[[], datetime]
    new_id: Callable[[], str]

    def decision(self, reason: str) -> Decision:
        """A decision that a person takes now."""
        return Decision(
            settings=self.settings,
            reason=reason,
            now=self.clock(),
            event_id=self.new_id(),
        )


def services() -> Services:
    """Those of the application that answers."""
    found: Services = current_app.extensions["services"]
    return found


def page(
    template: str,
    *,
    current: str = "",
    **values: Any,  # noqa: ANN401 - whatever the template shows
) -> str:
    """A page from a template, with what every page shows; `current` is its place in NAVIGATION."""
    return pages.render(
        template,
        navigation=NAVIGATION,
        current=current,
        model_name=services().settings.model_name,
        base=request.script_root,
        csrf=csrf_token(),
        messages=get_flashed_messages(with_categories=True),
        signed_in=services().sessions.holds(session.get(SIGNED_IN)),
        **values,
    )


def redirect_to(path: str) -> AnyResponse:
    """Send the browser to another of our pages."""
    return redirect(f"{request.script_root}{path}", 303)


def refusal(text: str, status: int) -> Response:
    """Say what is wrong, as the path wants it: JSON for programs, a page for people."""
    if request.path.startswith("/api/"):
        return json_fault(text, status)
    return message_page(text, status)


def json_fault(text: str, status: int) -> Response:
    """The same for programs."""
    answer = jsonify({"status": "failed", "error": text})
    answer.status_code = status
    return answer


def message_page(text: str, status: int) -> Response:
    """The same for people."""
    text_page = pages.render("message.html", base=request.script_root, title="Not done", text=text)
    return Response(text_page, status, mimetype="text/html")
