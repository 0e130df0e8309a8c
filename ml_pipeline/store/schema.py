"""The package's SQL files: what they make, and how a Supabase database gets them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit

from ml_pipeline.config.defaults import install_extra
from ml_pipeline.errors import ConfigError, PipelineError, StoreRefused, StoreUnavailable

BUCKETS: Final = ("ml-models", "model-artifacts")
EXTRA: Final = install_extra("init")
_CONNECT_SECONDS: Final = 10
_LOCK: Final = "select pg_advisory_xact_lock(hashtextextended('ml_pipeline.init', 0))"
# A pooler may bring a statement timeout that an index on a large table does not fit in.
_TIMEOUTS: Final = "set local statement_timeout = 0; set local lock_timeout = '30s'"
_NO_RIGHT: Final = "42501"
_BUSY: Final = ("08", "40", "53", "55", "57")
_URL_HINT: Final = (
    "It looks like postgresql://postgres.PROJECT:PASSWORD@HOST:5432/postgres: copy it from the "
    "project's Connect dialog, put the database password in, and write characters such as "
    "@ : / # ? % in it as %40 %3A %2F %23 %3F %25 (or leave it out and set PGPASSWORD)."
)
_NAMES_HINT: Final = (
    "Check what already has that name in the database, then run `ml-pipeline init` again."
)
_CONNECT_HINT: Final = (
    "Check host, port, user and database password. A machine without IPv6 needs the URL of the "
    "session pooler (port 5432) from the project's Connect dialog. Nothing was changed."
)

Kind = Literal["supabase", "local"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Script:
    """One SQL file; they are applied in the order of their numbers."""

    number: int
    name: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """What the files make, read from the files themselves.

    `keys` are unique indexes that may have any name: table and columns. `policies` are pairs of
    table and name, `user_functions` those that signed-in users may call.
    """

    tables: frozenset[str]
    functions: frozenset[str]
    user_functions: frozenset[str]
    triggers: frozenset[str]
    indexes: frozenset[str]
    keys: frozenset[tuple[str, frozenset[str]]]
    policies: frozenset[tuple[str, str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Applied:
    """What applying the files left: every bucket of ours that is there, and the warnings."""

    version: int
    names: list[str]
    buckets: list[str]
    warnings: list[str]


@cache
def scripts(kind: Kind = "supabase") -> tuple[Script, ...]:
    """The files in their order."""
    folder = files("ml_pipeline") / "sql" / kind
    found = [item for item in folder.iterdir() if item.name.endswith(".sql")]
    return tuple(
        Script(
            number=int(item.name[:4]),
            name=item.name.removesuffix(".sql"),
            text=item.read_text(encoding="utf-8"),
        )
        for item in sorted(found, key=lambda item: item.name)
    )


def newest(kind: Kind = "supabase") -> int:
    """The version that a database has after all files."""
    return scripts(kind)[-1].number


def whole(grants: str = "") -> str:
    """All files, and `grants` after them, as one script in one transaction."""
    parts = [f"-- {script.name}\n\n{script.text.strip()}\n" for script in scripts()]
    parts += [grants] if grants else []
    return "begin;\n\n" + "\n".join(parts) + "\ncommit;\n"


def names() -> Names:
    """What the files make."""
    text = "\n".join(script.text for script in scripts())

    def found(pattern: str) -> frozenset[str]:
        return frozenset(re.findall(pattern, text))

    keys = re.findall(r"select ml_pipeline_unique\('(\w+)', '\w+', ([^)]*)\)", text)
    policies = re.findall(r'create policy "([^"]+)" on (\w+)', text)
    return Names(
        tables=found(r"create table if not exists (\w+)"),
        functions=found(r"create or replace function (\w+)\("),
        user_functions=found(r"grant execute on function (\w+)\(.*\) to authenticated"),
        triggers=found(r"create or replace trigger (\w+)"),
        indexes=found(r"create (?:unique )?index if not exists (\w+)\s"),
        keys=frozenset(
            (table, frozenset(re.findall(r"'(\w+)'", columns))) for table, columns in keys
        ),
        policies=frozenset((table, name) for name, table in policies),
    )


def apply(url: str, grants: str = "") -> Applied:
    """Apply every file to the database in one transaction, as the user that the URL names.

    `grants` are statements that follow them, see `scoring.grants`.

    Raises ConfigError for a URL that is none and where psycopg is missing, StoreUnavailable when
    the database cannot be reached or is busy, StoreRefused for everything that it refuses. Then
    nothing has changed. No message holds the password.
    """
    warnings: list[str] = []

    def listen(notice: Any) -> None:  # noqa: ANN401 - psycopg's
        if notice.severity_nonlocalized == "WARNING":
            warnings.append(notice.message_primary)

    with session(url, "waiting for another `ml-pipeline init`", hint=_NAMES_HINT) as opened:
        opened.database.add_notice_handler(listen)
        opened.database.execute(_LOCK)
        for script in scripts():
            opened.step = script.name
            opened.database.execute(script.text.encode())
        if grants:
            opened.step = "granting"
            opened.database.execute(grants.encode())
        opened.step = "looking for the buckets"
        buckets = _buckets(opened.database)
        opened.step = "committing"
    missing = [name for name in BUCKETS if name not in buckets]
    if missing:
        warnings.append(
            f"No bucket {' and no bucket '.join(missing)}: this database has no Storage."
        )
    made = [script.name for script in scripts()]
    return Applied(version=newest(), names=made, buckets=buckets, warnings=warnings)


@dataclass(slots=True)
class Session:
    """A connection to the database, and what is being done in it, for a message."""

    database: Any
    step: str


@contextmanager
def session(url: str, step: str, *, hint: str) -> Iterator[Session]:
    """A connection in one transaction; nothing that is done in it stays on an error.

    `hint` is the way out where the database refuses. Raises ConfigError, StoreUnavailable and
    StoreRefused as `apply` does.
    """
    psycopg = _psycopg()
    clean = _cleaner(url)
    opened: Session | None = None
    try:
        # Poolers that hand out connections by transaction know no prepared statements.
        with psycopg.connect(
            url, connect_timeout=_CONNECT_SECONDS, prepare_threshold=None
        ) as database:
            opened = Session(database=database, step=step)
            database.execute(_TIMEOUTS)
            yield opened
    except psycopg.Error as error:
        reached = None if opened is None else opened.step
        raise _error_for(error, reached, clean, hint) from None


def _psycopg() -> Any:  # noqa: ANN401 - a module that may be missing
    try:
        import psycopg
    except ImportError as error:
        raise ConfigError(
            f"--database-url needs psycopg, which cannot be imported here ({error}).",
            hint=f"Install it with `{EXTRA}`, or run `ml-pipeline init --print-sql` and paste what "
            "it prints into the project's SQL editor.",
        ) from None
    return psycopg


def _buckets(database: Any) -> list[str]:  # noqa: ANN401 - a psycopg connection
    if database.execute("select to_regclass('storage.buckets')").fetchone()[0] is None:
        return []
    rows = database.execute(
        "select id from storage.buckets where id = any (%s) and not public order by id",
        [list(BUCKETS)],
    )
    return [row[0] for row in rows.fetchall()]


def _cleaner(url: str) -> Callable[[str], str]:
    """A function that takes the password out of a message.

    Raises ConfigError for what is no URL of a database. A password with unescaped characters is
    refused here: the driver would take a part of it for the host, and print it.
    """
    try:
        parts = urlsplit(url.strip())
        known = parts.scheme in {"postgresql", "postgres"} and bool(parts.hostname)
        password = parts.password or ""
        _ = parts.port
    except ValueError:
        known, password, parts = False, "", urlsplit("")
    behind = f"{parts.path}{parts.query}{parts.fragment}"
    broken = parts.netloc.count("@") > 1 or "@" in behind or re.search(r"[\s\[\]]", password)
    if not known or broken or re.search(r"%(?![0-9A-Fa-f]{2})", password):
        raise ConfigError("--database-url is not the URL of a PostgreSQL database.", hint=_URL_HINT)
    in_query = re.findall(r"password=([^&]*)", parts.query)
    secrets = {text for raw in (password, *in_query) for text in (raw, unquote(raw)) if text}

    def clean(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "***")
        return " ".join(text.split())

    return clean


def _error_for(
    error: Any,  # noqa: ANN401 - psycopg's
    step: str | None,
    clean: Callable[[str], str],
    hint: str,
) -> PipelineError:
    code = getattr(error, "sqlstate", None) or ""
    text = clean(getattr(error.diag, "message_primary", None) or str(error))
    if step is None:
        if code or type(error).__name__ == "OperationalError":
            return StoreUnavailable(f"No connection to the database: {text}.", hint=_CONNECT_HINT)
        return ConfigError(f"--database-url cannot be used: {text}.", hint=_URL_HINT)
    message = f"The database refused, nothing was changed: {step}: {text} ({code or 'lost'})."
    if code == _NO_RIGHT:
        hint = "Connect as the owner of the database: on Supabase that is the user postgres."
        return StoreRefused(message, hint=hint)
    if not code or code.startswith(_BUSY):
        hint = "Try again when no other run, migration or long query holds the tables."
        return StoreUnavailable(message, hint=hint)
    return StoreRefused(message, hint=hint)
