"""What Supabase's answers mean: none came, it refused, or something else answered.

Refusals are told apart by SQLSTATE and by HTTP status, never by their texts, which differ between
server versions. The texts are passed on, but not the details of a broken constraint: those
hold the whole row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Self

import httpx

from ml_pipeline.errors import (
    AlreadyFinished,
    NotFound,
    PipelineError,
    PromotionRefused,
    RunInProgress,
    StoreDenied,
    StoreRefused,
)
from ml_pipeline.store.project_facts import KEY_HINT, RELOAD_HINT

_SQLSTATE = re.compile(r"[0-9A-Z]{5}")
# Lost connections, conflicts that a second try resolves, no resources, time-outs and shutdowns,
# locks, and faults of the server's own.
_TEMPORARY: Final = ("08", "40", "53", "55", "57", "58", "XX")
_BUSY: Final = {httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS}
# Refusals also where a gateway gives them without JSON.
_CERTAIN: Final = {
    httpx.codes.UNAUTHORIZED,
    httpx.codes.PAYMENT_REQUIRED,
    httpx.codes.REQUEST_ENTITY_TOO_LARGE,
}
_LONGEST_TEXT: Final = 300
_ERRORS: Final[Mapping[str, type[PipelineError]]] = {
    "MLP01": RunInProgress,
    "MLP02": AlreadyFinished,
    "MLP03": NotFound,
    "MLP04": StoreRefused,
    "MLP05": PromotionRefused,
    "MLP06": StoreRefused,
}
_HINTS: Final = {
    "MLP01": "Wait until it ends; a run that died is closed by the next `ml-pipeline run`.",
    "MLP06": "Wait until some requests are served, or cancel some.",
    "25006": "The project is read-only, which happens when its disk is full.",
    "57014": "The database's time limit ended it. If that lasts, look for what keeps the database "
    "busy, or raise the limit: `alter role authenticator set statement_timeout = '30s'; "
    "notify pgrst, 'reload config';`.",
    "PGRST106": "Add the schema `public` to the exposed schemas in the project's API settings.",
}
_STATUS_HINTS: Final[Mapping[int, str]] = {
    httpx.codes.PAYMENT_REQUIRED: "The project or its organisation is restricted, mostly for "
    "usage beyond its plan: see its billing page in the dashboard.",
}
_NOT_MADE: Final = {"42P01", "42883", "42703", "42704", "3F000"}
_NO_ID: Final = "22P02"
_NO_RIGHT: Final = "42501"
INIT_HINT: Final = (
    "`ml-pipeline init --database-url URL` creates tables, functions and buckets, as often as you "
    f"like. {RELOAD_HINT}"
)
_LONGEST_CODE: Final = 40
_PROXY_HINT: Final = (
    "Something between here and Supabase answered in its place: check SUPABASE_URL, the network's "
    "proxy, and whether the project is paused."
)


class Unanswered(Exception):
    """No answer, or one that asks to try again. `retry_after` is in seconds."""

    def __init__(self, text: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(text)
        self.hint = hint
        self.retry_after = retry_after

    @classmethod
    def by_proxy(cls, what: str, *, retry_after: float | None = None) -> Self:
        """Something that is not Supabase answered."""
        return cls(f"a proxy answered with {what}", hint=_PROXY_HINT, retry_after=retry_after)


class Refusal(Exception):
    """An answer that refuses. `code` is the SQLSTATE where there is one."""

    def __init__(self, status: int, code: str = "", text: str = "", hint: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.text = text
        self.hint = hint


def fault_of(error: httpx.TransportError) -> str:
    """What happened to a connection, for a message."""
    texts = {
        httpx.ConnectTimeout: "the connection took too long",
        httpx.ReadTimeout: "the answer took too long",
        httpx.WriteTimeout: "sending took too long",
        httpx.ConnectError: "no connection",
    }
    text = texts.get(type(error), "the connection was lost")
    return (
        f"{text} ({error})"
        if str(error) and not isinstance(error, httpx.TimeoutException)
        else text
    )


def checked(response: httpx.Response, clean: Callable[[str], str]) -> httpx.Response:
    """Return a good answer. Raises Unanswered and Refusal for every other one."""
    kind = response.headers.get("content-type", "")
    if response.is_success:
        if not _fits(response.request, kind):
            response.close()
            raise Unanswered.by_proxy(f"{response.status_code} {clean(kind) or 'without a type'}")
        return response
    response.read()
    wait = _retry_after(response)
    body = _object(response)
    if body is None:
        if response.status_code in _CERTAIN:
            raise Refusal(response.status_code)
        what = f"{response.status_code} {clean(kind) or 'without a type'}"
        raise Unanswered.by_proxy(what, retry_after=wait)
    status, code = _status(response, body), str(body.get("code") or "")
    text = clean(str(body.get("message") or ""))[:_LONGEST_TEXT]
    if _is_temporary(status, code):
        raise Unanswered(f"{status} {text}".strip(), hint=_HINTS.get(code, ""), retry_after=wait)
    raise Refusal(status, clean(code)[:_LONGEST_CODE], text, clean(str(body.get("hint") or "")))


def _fits(request: httpx.Request, kind: str) -> bool:
    """Whether the type is one that was asked for: JSON, or an object's bytes."""
    if request.method == "GET" and "/storage/v1/object/" in request.url.path:
        return not kind.startswith("text/html") or request.url.path.endswith((".html", ".htm"))
    return "json" in kind


def _object(response: httpx.Response) -> dict[str, Any] | None:
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _status(response: httpx.Response, body: Mapping[str, Any]) -> int:
    """The status; Storage sends nearly everything as 400 with the true one in the body."""
    stated = str(body.get("statusCode", ""))
    return int(stated) if re.fullmatch(r"[1-5]\d\d", stated) else response.status_code


def _is_temporary(status: int, code: str) -> bool:
    if _SQLSTATE.fullmatch(code):
        return code.startswith(_TEMPORARY)
    return status in _BUSY or status >= httpx.codes.INTERNAL_SERVER_ERROR


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds to wait, from either form of the header."""
    text = response.headers.get("retry-after", "")
    if re.fullmatch(r"\d{1,9}", text):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def refusal_error(refusal: Refusal, what: str, *, by_id: bool = False) -> PipelineError:
    """What a refusal means to the caller of the store."""
    code = refusal.code
    if code in _ERRORS:
        return _ERRORS[code](refusal.text, hint=refusal.hint or _HINTS.get(code, ""))
    if by_id and code == _NO_ID:
        return NotFound(f"There is no such row: {refusal.text}.")
    if code == _NO_RIGHT:
        return StoreDenied(f"The key has no right to {what}: {refusal.text}.", hint=KEY_HINT)
    if refusal.status == httpx.codes.UNAUTHORIZED:
        reason = f": {refusal.text}" if refusal.text else ""
        return StoreDenied(f"Supabase does not accept the key ({what}){reason}.", hint=KEY_HINT)
    if code in _NOT_MADE or refusal.status == httpx.codes.NOT_FOUND:
        return StoreDenied(f"Supabase does not know {what}: {refusal.text}.", hint=INIT_HINT)
    message = f"Supabase refused {what}: {refusal.text} ({code or refusal.status})."
    hint = _HINTS.get(code) or _STATUS_HINTS.get(refusal.status, "")
    return StoreRefused(message, hint=hint)
