"""What is answered when something is wrong: `application/problem+json` (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from ml_pipeline.errors import (
    ArtifactError,
    ConfigError,
    DataError,
    InputError,
    NotFound,
    PipelineError,
    StoreDenied,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)

MEDIA_TYPE: Final = "application/problem+json"
LONGEST_DETAIL: Final = 2000
# The first that an error is of counts.
_STATUS: Final[tuple[tuple[type[PipelineError], HTTPStatus], ...]] = (
    (InputError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (DataError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (NotFound, HTTPStatus.NOT_FOUND),
    (StoreDenied, HTTPStatus.SERVICE_UNAVAILABLE),
    (StoreRefused, HTTPStatus.CONFLICT),
    (StoreUnavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (StoreError, HTTPStatus.SERVICE_UNAVAILABLE),
    (ArtifactError, HTTPStatus.SERVICE_UNAVAILABLE),
    (ConfigError, HTTPStatus.NOT_IMPLEMENTED),
)
_RETRY_S: Final = "5"


class Problem(Exception):
    """An answer that is no success; `more` are members of its own."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        hint: str = "",
        headers: tuple[tuple[str, str], ...] = (),
        more: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers
        self.body: dict[str, Any] = {
            **(more or {}),
            "type": "about:blank",
            "title": status.phrase,
            "status": int(status),
            "detail": _cut(detail),
            **({"hint": _cut(hint)} if hint else {}),
        }


def problem_of(error: PipelineError) -> Problem:
    """The same of an error of ours."""
    status = next(
        (status for kind, status in _STATUS if isinstance(error, kind)),
        HTTPStatus.INTERNAL_SERVER_ERROR,
    )
    headers = (("Retry-After", _RETRY_S),) if status == HTTPStatus.SERVICE_UNAVAILABLE else ()
    return Problem(status, error.message, hint=error.hint, headers=headers)


def _cut(text: str) -> str:
    """What a caller sent may stand in a sentence, and be a megabyte."""
    return text if len(text) <= LONGEST_DETAIL else f"{text[:LONGEST_DETAIL]}…"
