"""A Supabase project's report about itself, asked for with the service key and short timeouts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from pydantic import SecretStr

from ml_pipeline.errors import PipelineError, StoreCorrupt, StoreError
from ml_pipeline.store.project_facts import SERIES_ROWS, ProjectFacts, Refused
from ml_pipeline.store.supabase.answers import Refusal, refusal_error
from ml_pipeline.store.supabase.transport import Project, Timeouts

_FULL: Final = Timeouts(attempts=3, budget=10, first_wait=0.3, connect=5, answer=10)
# A health check has two seconds, and the interpreter takes its part of them.
_QUICK: Final = Timeouts(attempts=1, budget=1, first_wait=0.1, connect=0.8, answer=1)
_NO_RIGHT: Final = "42501"

Clock = Callable[[], datetime]


def _refused(refusal: Refusal, what: str) -> Refused:
    error = refusal_error(refusal, what)
    return Refused(
        error.message,
        hint=error.hint,
        wrong_key=refusal.status == HTTPStatus.UNAUTHORIZED and refusal.code != _NO_RIGHT,
        no_right=refusal.code == _NO_RIGHT or refusal.status == HTTPStatus.FORBIDDEN,
        unknown=refusal.status == HTTPStatus.NOT_FOUND,
    )


class Inspector(Project):
    """A project whose refusals keep what a doctor needs to know of them."""

    def ask(self, function: str, **parameters: object) -> Any:  # noqa: ANN401 - whatever it returns
        """What a function returns. Raises Refused, StoreUnavailable."""

        def attempt() -> object:
            return self._client.rpc(function, parameters).execute().data

        def explain(refusal: Refusal, what: str) -> PipelineError:
            return _refused(refusal, what)

        return self.retry(function, attempt, explain)

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
            return self.has_bucket(bucket, _refused)
        except StoreError:
            return False


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
        message = f"The answer of ml_pipeline_doctor cannot be read: {error}."
        raise StoreCorrupt(message, hint="Run `ml-pipeline init` again.") from error
    nearest = min(max(theirs, asked), answered)
    return (theirs - nearest).total_seconds()
