"""Callers of a project over HTTP: anonymous, two signed-in users, the service role."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from threading import Barrier
from typing import Any, TypeVar

import httpx
from psycopg import sql
from psycopg.types.json import Jsonb

from tests.support.factories import make_id
from tests.support.supabase.project import SupabaseProject

T = TypeVar("T")
Row = dict[str, Any]
Callers = dict[str, "Caller"]

USER, OTHER = make_id(901), make_id(902)
REQUESTS = "model_retraining_requests"
# Whoever wants to see the changed rows is checked for reading them too; so ask without as well.
UNSEEN = "return=minimal"


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody with a key; `token` is the user's who signed in with it."""

    http: httpx.Client
    key: str
    token: str

    def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send JSON, or bytes as they are."""
        identity = {"apikey": self.key, "Authorization": f"Bearer {self.token}"}
        content: dict[str, Any] = {"content" if isinstance(body, bytes) else "json": body}
        return self.http.request(
            method,
            path,
            params=query,
            headers={**identity, **(headers or {})},
            **content if body is not None else {},
        )

    def table(
        self, method: str, table: str, body: object = None, *, prefer: str = "", **query: str
    ) -> httpx.Response:
        """Ask PostgREST for a table; changes are answered with the rows unless `UNSEEN`."""
        wishes = prefer if "return=" in prefer else f"return=representation,{prefer}"
        body = {} if body is None and method == "POST" else body
        return self.send(method, f"/rest/v1/{table}", body, query=query, headers={"Prefer": wishes})

    def call(self, function: str, **arguments: object) -> httpx.Response:
        return self.send("POST", f"/rest/v1/rpc/{function}", arguments)


def migrations() -> list[str]:
    """The package's own files, in order."""
    folder = files("ml_pipeline") / "sql" / "supabase"
    scripts = sorted(folder.iterdir(), key=lambda item: item.name)
    return [item.read_text(encoding="utf-8") for item in scripts]


def migrate(project: SupabaseProject) -> None:
    project.apply("\n".join(migrations()))


@contextmanager
def open_callers(project: SupabaseProject) -> Iterator[Callers]:
    with httpx.Client(base_url=project.url, trust_env=False, timeout=20) as http:
        yield {
            "anon": Caller(http, project.anon_key, project.anon_key),
            "user": Caller(http, project.anon_key, project.keys.user_token(USER)),
            "other": Caller(http, project.anon_key, project.keys.user_token(OTHER)),
            "service": Caller(http, project.service_key, project.service_key),
        }


def code_of(answer: httpx.Response) -> str | None:
    """Return the SQLSTATE of a refusal, None when there was none."""
    return None if answer.is_success else str(answer.json()["code"])


def insert(project: SupabaseProject, table: str, row: Row) -> None:
    """Put a row in, past all policies."""
    query = sql.SQL("insert into {} ({}) values ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(map(sql.Placeholder, row)),
    )
    values = {
        name: Jsonb(value) if isinstance(value, dict) else value for name, value in row.items()
    }
    project.sql(query.as_string(), values)


def rows(project: SupabaseProject, table: str) -> list[Row]:
    """Return what a table really holds, whoever may see it."""
    query = sql.SQL("select to_jsonb(found) as row from {} as found order by found::text")
    return [found["row"] for found in project.sql(query.format(sql.Identifier(table)).as_string())]


# What signed-in users read of a run; whoever asks for all columns is refused.
_RUN_COLUMNS = """
    id source dataset_size fine_tune_flag status metrics started_at completed_at log_url created_at
    updated_at model_name heartbeat_at training_rows outcome champion_id challenger_id
    training_digest holdout_digest config_digest git_sha
"""
RUN_COLUMNS = _RUN_COLUMNS.split()


def seen_runs(caller: Caller, **query: str) -> httpx.Response:
    """Ask for the runs as a page of an app does."""
    return caller.table("GET", "model_retraining_runs", select=",".join(RUN_COLUMNS), **query)


def let_be_known(project: SupabaseProject, model_name: str) -> None:
    """Make a model name one that something serves."""
    lease = {"name": f"worker:{model_name}", "holder": "a worker"}
    insert(
        project, "ml_pipeline_leases", {**lease, "taken_at": "2026-03-01", "until": "2026-03-02"}
    )


def everything(project: SupabaseProject) -> list[Row]:
    """Return every row of every table of ours, and of storage: equal when nothing was changed."""
    return project.sql("""
        select oid::regclass::text as name,
               query_to_xml(format('select * from %s as t order by t::text', oid::regclass),
                            true, false, '')::text as rows
        from pg_class
        where relnamespace in ('public'::regnamespace, 'storage'::regnamespace) and relkind = 'r'
        order by name
    """)


def stored(project: SupabaseProject) -> dict[str, bytes]:
    """Return the bytes in all buckets, by bucket and path."""
    found = project.sql("select bucket_id || '/' || name as path, version from storage.objects")
    return {row["path"]: (project.storage.folder / row["version"]).read_bytes() for row in found}


def at_once(*actions: Callable[[], T], before: Callable[[], None] = lambda: None) -> list[T]:
    """Do everything at the same moment; `before` the answers are waited for, call that."""
    start = Barrier(len(actions))

    def run(action: Callable[[], T]) -> T:
        start.wait()
        return action()

    with ThreadPoolExecutor(len(actions)) as pool:
        running = [pool.submit(run, action) for action in actions]
        before()
        return [answer.result() for answer in running]
