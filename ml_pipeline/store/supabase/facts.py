"""What a Supabase project says of itself, asked with the service key and little patience."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from pydantic import SecretStr

from ml_pipeline.errors import PipelineError, StoreCorrupt, StoreError, StoreRefused
from ml_pipeline.supabase_answers import Refusal, refusal_error
from ml_pipeline.supabase_transport import Patience, Project

SERIES_ROWS: Final = 10_001
_FULL: Final = Patience(attempts=3, budget=10, first_wait=0.3, connect=5, answer=10)
# A health check has two seconds, and the interpreter takes its part of them.
_QUICK: Final = Patience(attempts=1, budget=1, first_wait=0.1, connect=0.8, answer=1)
_NO_RIGHT: Final = "42501"

Clock = Callable[[], datetime]


class Refused(StoreRefused):
    """A refusal, told apart by what a doctor would do about it."""

    def __init__(self, refusal: Refusal, what: str) -> None:
        said = refusal_error(refusal, what)
        super().__init__(said.message, hint=said.hint)
        self.wrong_key = refusal.status == HTTPStatus.UNAUTHORIZED and refusal.code != _NO_RIGHT
        self.no_right = refusal.code == _NO_RIGHT or refusal.status == HTTPStatus.FORBIDDEN
        self.unknown = refusal.status == HTTPStatus.NOT_FOUND


class Inspector(Project):
    """A project whose refusals keep their reason."""

    def ask(self, function: str, **parameters: object) -> Any:  # noqa: ANN401 - whatever it returns
        """What a function returns. Raises Refused, StoreUnavailable."""

        def attempt() -> object:
            return self._client.rpc(function, parameters).execute().data

        def explain(refusal: Refusal, what: str) -> PipelineError:
            return Refused(refusal, what)

        return self.insist(function, attempt, explain)

    def ask_or_none(self, function: str, **parameters: object) -> Any:  # noqa: ANN401 - the same
        """The same, and None when there is no such function."""
        try:
            return self.ask(function, **parameters)
        except Refused as refused:
            if refused.unknown:
                return None
            raise

    def opens(self, bucket: str) -> bool:
        """Whether Storage hands out the bucket to this key."""
        try:
            return self.has_bucket(bucket, Refused)
        except StoreError:
            return False


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectFacts:
    """What a project says. `version` and `catalogue` are None where their functions are missing.

    `ahead_s` says by how many seconds its clock is ahead of ours, `rows` how many of
    `SERIES_ROWS` rows arrive in one answer, `storage` which of the buckets Storage hands out.
    """

    version: int | None
    catalogue: Mapping[str, Any] | None = None
    ahead_s: float | None = None
    rows: int | None = None
    storage: tuple[str, ...] | None = None


def key_role(key: SecretStr) -> str:
    """The role that a key says it is for, `unknown` when it does not say."""
    text = key.get_secret_value()
    if text.startswith("sb_"):
        return {"sb_secret": "service_role", "sb_publishable": "anon"}.get(
            "_".join(text.split("_")[:2]), "unknown"
        )
    try:
        payload = text.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return str(claims["role"])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return "unknown"


def inspect(
    url: str, key: SecretStr, *, buckets: tuple[str, ...], clock: Clock, quick: bool
) -> ProjectFacts:
    """Ask the project. Raises Refused, StoreUnavailable, and ConfigError for no address or key."""
    inspector = Inspector(url, key, _QUICK if quick else _FULL)
    try:
        version = inspector.ask_or_none("ml_pipeline_schema")
        if quick:
            return ProjectFacts(version=version)
        asked = clock()
        catalogue = inspector.ask_or_none("ml_pipeline_doctor")
        answered = clock()
        if catalogue is None:
            return ProjectFacts(version=version)
        rows = inspector.ask_or_none("ml_pipeline_series", p_rows=SERIES_ROWS)
        return ProjectFacts(
            version=version,
            catalogue=catalogue,
            ahead_s=_ahead(catalogue, asked, answered),
            rows=len(rows) if isinstance(rows, list) else None,
            storage=tuple(name for name in buckets if inspector.opens(name)),
        )
    finally:
        inspector.close()


def _ahead(catalogue: object, asked: datetime, answered: datetime) -> float:
    """Seconds; between the two readings the answer is of any moment, so the nearest counts."""
    try:
        theirs = datetime.fromisoformat(catalogue["now"]).astimezone(UTC)  # type: ignore[index]
    except (KeyError, TypeError, ValueError) as error:
        message = f"ml_pipeline_doctor answered something else: {error}."
        raise StoreCorrupt(message, hint="Run `ml-pipeline init` again.") from error
    nearest = min(max(theirs, asked), answered)
    return (theirs - nearest).total_seconds()
