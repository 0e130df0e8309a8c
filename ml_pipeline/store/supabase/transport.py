"""Calls to Supabase: one HTTP client, one way to retry, and no secret in any error."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr
from stamina import retry_context

from ml_pipeline.errors import (
    ConfigError,
    NotFound,
    PipelineError,
    StoreCorrupt,
    StoreRefused,
    StoreUnavailable,
)
from ml_pipeline.store.supabase.answers import Refusal, Unanswered, checked, fault_of, refusal_error
from ml_pipeline.store.supabase.network import certificates, proxy_of

if TYPE_CHECKING:
    from supabase import Client

log = logging.getLogger("supabase_client")

Answer = TypeVar("Answer")
Explain = Callable[[Refusal, str], PipelineError]

# Their DEBUG lines hold headers, and stamina logs retries that we log in a sentence.
_QUIET: Final = {
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "hpack": logging.WARNING,
    "h2": logging.WARNING,
    "stamina": logging.ERROR,
}
# Undefined table, undefined column.
_NO_SUCH: Final = {"42P01", "42703"}
# Filters of warnings belong to the whole process: two threads must not change them at once.
_BUILDING: Final = threading.Lock()


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """How long an answer is waited for, and how often a call is repeated. Times are in seconds.

    `connect` and `answer` are waited for in each attempt. Once `budget` is used up no other attempt
    is made. A wait that the server asks for is kept when the budget has room for it, and ends the
    attempts when it has not.
    """

    attempts: int = 5
    budget: float = 30
    first_wait: float = 0.5
    longest_wait: float = 8
    jitter: float = 1
    connect: float = 5
    answer: float = 20


class CheckedClient(httpx.Client):
    """An HTTP client whose every failure is `Unanswered` or `Refusal`, without the key."""

    def __init__(self, url: str, key: str, timeouts: Timeouts) -> None:
        proxy = proxy_of(url)
        # Redirects are not followed: the key would go wherever they lead.
        super().__init__(
            timeout=httpx.Timeout(timeouts.answer, connect=timeouts.connect),
            follow_redirects=False,
            proxy=proxy.address if proxy else None,
            verify=certificates(),
            trust_env=False,
        )
        self._clean: Callable[[str], str] = lambda text: text.replace(key, "***")
        self._through = f" through the proxy that {proxy.variable} names" if proxy else ""

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:  # noqa: ANN401
        """Send, and judge the answer before a library sees it."""
        with self.translating_errors():
            return checked(super().send(request, **options), self._clean)

    @contextmanager
    def translating_errors(self) -> Iterator[None]:
        """Turn lost connections into `Unanswered`, also while a body streams in."""
        try:
            yield
        except httpx.TransportError as error:
            raise Unanswered(self._clean(fault_of(error)) + self._through) from None


class Project:
    """A Supabase project as its service role sees it."""

    def __init__(self, url: str, key: SecretStr, timeouts: Timeouts) -> None:
        self.url = checked_url(url, "SUPABASE_URL")
        self._timeouts = timeouts
        self._http = CheckedClient(self.url, _checked_key(key), timeouts)
        for name, level in _QUIET.items():
            if logging.getLogger(name).getEffectiveLevel() < level:
                logging.getLogger(name).setLevel(level)
        self._client = _client(self.url, key, self._http)

    def __repr__(self) -> str:
        return f"Project({self.url!r})"

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(self, function: str, *, by_id: bool = False, **parameters: object) -> Any:  # noqa: ANN401
        """What a database function returns. `by_id`: an id that is none names no row."""
        _check_sendable(parameters)

        def attempt() -> object:
            return _data_of(self._client.rpc(function, parameters))

        return self.retry(function, attempt, _explain_id if by_id else refusal_error)

    def select(
        self, table: str, narrow: Callable[[Any], Any], *, named: bool = False, columns: str = "*"
    ) -> list[Mapping[str, Any]]:
        """The rows of a select that `narrow` has narrowed; an id that is none names no row.

        `named`: a person named the table, so one that is not there is NotFound.
        """

        def attempt() -> object:
            return _data_of(narrow(self._client.table(table).select(columns)))

        explain = _explain_named if named else _explain_id
        rows = self.retry(f"a row of {table}", attempt, explain)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            message = f"Supabase answered a select on {table} with {type(rows).__name__}, not rows."
            raise StoreCorrupt(message)
        return rows

    def count(self, table: str) -> int:
        """How many rows a table has that a person named. Raises NotFound when there is none."""

        def attempt() -> object:
            query = self._client.table(table).select("*", count="exact").limit(1)  # type: ignore[arg-type]
            return _count_of(query)

        counted = self.retry(f"the number of rows of {table}", attempt, _explain_named)
        if not isinstance(counted, int):
            raise StoreCorrupt(f"Supabase answered {counted!r} when asked for the rows of {table}.")
        return counted

    def upsert(self, table: str, rows: list[dict[str, Any]], *, key: str) -> None:
        """Insert rows; those whose key is known stay as they are."""
        _check_sendable({"rows": rows})

        def attempt() -> object:
            query = self._client.table(table).upsert(rows, on_conflict=key, ignore_duplicates=True)
            return _data_of(query)

        self.retry(f"a write to {table}", attempt)

    def update(
        self,
        table: str,
        values: dict[str, Any],
        narrow: Callable[[Any], Any],
    ) -> None:
        """Change the rows that `narrow` leaves; the same again changes nothing."""
        _check_sendable(values)

        def attempt() -> object:
            return _data_of(narrow(self._client.table(table).update(values)))

        self.retry(f"a write to {table}", attempt)

    def bucket(self, name: str) -> Any:  # noqa: ANN401 - the library's own
        """The library's handle on a bucket."""
        return self._client.storage.from_(name)

    def has_bucket(self, name: str, explain: Explain) -> bool:
        """Whether the key opens that bucket."""

        def attempt() -> bool:
            try:
                self._http.get(f"{self.url}/storage/v1/bucket/{name}", headers=self._headers)
            except Refusal as refusal:
                if refusal.status == httpx.codes.NOT_FOUND:
                    return False
                raise
            return True

        return self.retry(f"bucket {name}", attempt, explain)

    @contextmanager
    def stream(self, bucket: str, path: str) -> Iterator[Iterator[bytes]]:
        """The bytes of an object as they come in."""
        url = f"{self.url}/storage/v1/object/{bucket}/{path}"
        with (
            self._http.translating_errors(),
            self._http.stream("GET", url, headers=self._headers) as answer,
        ):
            yield answer.iter_bytes()

    @property
    def _headers(self) -> dict[str, str]:
        return self._client.options.headers

    def retry(
        self, what: str, attempt: Callable[[], Answer], explain: Explain = refusal_error
    ) -> Answer:
        """Call until there is an answer, within the time budget. Every call is repeatable.

        Raises StoreUnavailable in the end, and what `explain` makes of a refusal at once.
        """
        timeouts, tries = self._timeouts, 0
        latest = Unanswered("")
        deadline = time.monotonic() + timeouts.budget

        def worth_it(error: Exception) -> bool | float:
            if not isinstance(error, Unanswered):
                return False
            if error.retry_after is None:
                return True
            return time.monotonic() + error.retry_after <= deadline and error.retry_after

        try:
            for turn in retry_context(
                on=worth_it,
                attempts=timeouts.attempts,
                timeout=timeouts.budget,
                wait_initial=timeouts.first_wait,
                wait_max=timeouts.longest_wait,
                wait_jitter=timeouts.jitter,
            ):
                with turn:
                    tries = turn.num
                    if tries > 1:
                        _log_retry(what, tries, latest)
                    try:
                        return attempt()
                    except Unanswered as error:
                        latest = error
                        raise
        except Unanswered:
            times = "once" if tries == 1 else f"{tries} times"
            message = f"Supabase did not answer {what}, asked {times}: {latest}."
            raise StoreUnavailable(message, hint=latest.hint) from None
        except Refusal as refusal:
            raise explain(refusal, what) from None
        raise AssertionError(what)


def _log_retry(what: str, tries: int, latest: Unanswered) -> None:
    log.warning(
        "Supabase did not answer %s: %s; attempt %d",
        what,
        latest,
        tries,
        extra={"event": "store_retried", "call": what, "attempt": tries},
    )


def _explain_id(refusal: Refusal, what: str) -> PipelineError:
    return refusal_error(refusal, what, by_id=True)


def _explain_named(refusal: Refusal, what: str) -> PipelineError:
    error = refusal_error(refusal, what)
    is_missing = refusal.code in _NO_SUCH or refusal.status == httpx.codes.NOT_FOUND
    return (
        NotFound(error.message, hint="Correct ground_truth.table in the settings.")
        if is_missing
        else error
    )


def _count_of(query: Any) -> object:  # noqa: ANN401 - the library's own
    from postgrest.exceptions import APIError

    try:
        return query.execute().count
    except APIError:
        raise Unanswered.by_proxy("something that cannot be read") from None


def _data_of(query: Any) -> object:  # noqa: ANN401 - the library's own
    from postgrest.exceptions import APIError

    try:
        data = query.execute().data
    except APIError:
        # Refusals never get this far: this is an answer that the library cannot read.
        raise Unanswered.by_proxy("something that cannot be read") from None
    # What is no JSON comes as text from some versions; none of our functions returns text.
    if isinstance(data, str):
        raise Unanswered.by_proxy("a page of text")
    return data


def _check_sendable(parameters: Mapping[str, object]) -> None:
    try:
        json.dumps(parameters, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        message = f"This cannot be sent as JSON: {error}."
        raise StoreRefused(message) from None


def checked_url(url: str, variable: str) -> str:
    """The address without a slash at its end. Raises ConfigError for what is none."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or True)
    except ValueError:
        usable = False
    # A password in the address would be shown wherever the store describes itself.
    if not usable or "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"{variable} is not the address of a project.",
            hint="It looks like https://PROJECT.supabase.co; copy it from the project's settings.",
        )
    return url.rstrip("/").removesuffix("/rest/v1")


def _checked_key(key: SecretStr) -> str:
    # No local name holds the key where an error is raised: tracebacks may show those.
    if not re.fullmatch(r"[!-~]+", key.get_secret_value()):
        raise ConfigError(
            "SUPABASE_SERVICE_KEY holds characters that no key has.",
            hint="Copy the service_role key or an sb_secret_… key from the project's settings.",
        )
    return key.get_secret_value()


def _client(url: str, key: SecretStr, http: CheckedClient) -> Client:
    with _BUILDING, warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore",
            message=r"The '(timeout|verify|proxy)' parameter is deprecated",
            category=DeprecationWarning,
        )
        from supabase import ClientOptions, create_client

        options = ClientOptions(httpx_client=http, auto_refresh_token=False, persist_session=False)
        client = create_client(url, key.get_secret_value(), options=options)
        # Built on first use otherwise, and then with its warnings.
        _ = client.postgrest, client.storage
    return client
