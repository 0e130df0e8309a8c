"""The project: everything that a test needs to know about its Supabase."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from tests.support.supabase.gateway import Gateway, postgrest
from tests.support.supabase.keys import KeyRing
from tests.support.supabase.servers import SUPERUSER, Postgres, Rest
from tests.support.supabase.storage import Storage

HERE = Path(__file__).parent
TEMPLATE = "new_project"
DATABASE = "postgres"


@dataclass(slots=True)
class SupabaseProject:
    """A Supabase project of one's own.

    `url` with one of the keys is what users configure; `dsn` is the database as its owner
    `postgres`, who is no superuser. `gateway` injects faults and records traffic.
    """

    folder: Path
    keys: KeyRing
    postgres: Postgres
    max_rows: int
    rests: dict[int, Rest] = field(default_factory=dict)
    row_cap: int = field(init=False)
    storage: Storage = field(init=False)
    gateway: Gateway = field(init=False)

    def __post_init__(self) -> None:
        self.row_cap = self.max_rows
        self.storage = Storage(self._admin, self.folder / "objects", self.keys)
        rest = postgrest(lambda: self.rests[self.row_cap])
        self.gateway = Gateway(self.keys, {"rest": rest, "storage": self.storage})

    @property
    def url(self) -> str:
        return self.gateway.url

    @property
    def dsn(self) -> str:
        return self.postgres.dsn("postgres", DATABASE)

    @property
    def anon_key(self) -> str:
        return self.keys.anon

    @property
    def service_key(self) -> str:
        return self.keys.service

    @property
    def secret_key(self) -> str:
        """A service key of the new style."""
        return self.keys.secret

    @property
    def _admin(self) -> str:
        return self.postgres.dsn(SUPERUSER, DATABASE)

    def user_token(self, user_id: UUID | str, email: str | None = None) -> str:
        """Return the token of a signed-in user, who is in auth.users from then on."""
        self.sql(
            "insert into auth.users (id, email) values (%s, %s) on conflict do nothing",
            [user_id, email],
        )
        return self.keys.user_token(user_id, email=email)

    def sql(
        self, query: str, params: Sequence[Any] | Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Run SQL as the superuser; several statements when there are no parameters."""
        with psycopg.connect(self._admin, row_factory=dict_row) as database:
            cursor = database.execute(query.encode(), params)
            return cursor.fetchall() if cursor.description else []

    def apply(self, sql_text: str) -> None:
        """Run a migration as the database's owner; `reset` returns to the state afterwards."""
        with psycopg.connect(self.dsn) as database:
            database.execute(sql_text.encode())
        self.keep()

    def keep(self) -> None:
        """Take the present rows for those that `reset` returns to; show PostgREST the schema."""
        before = {cap: rest.loads() for cap, rest in self.rests.items()}
        self.sql("select project.keep(); notify pgrst, 'reload schema'")
        for cap, rest in self.rests.items():
            rest.wait_until_loaded(after=before[cap])

    def reset(self) -> None:
        """Bring back the rows of the last `apply`, `keep` or `blank`; forget faults and records.

        Changes of the schema stay: those are for `apply`, and `blank` to be rid of them.
        """
        self.gateway.reset()
        self.row_cap = self.max_rows
        self.sql("select project.bring_back()")
        self.storage.forget_orphans()

    def blank(self) -> None:
        """Start over with a database as Supabase hands it out."""
        self.gateway.reset()
        self._stop_rests()
        with psycopg.connect(
            self.postgres.dsn(SUPERUSER, "template1"), autocommit=True
        ) as maintenance:
            maintenance.execute(f"drop database if exists {DATABASE} with (force)")
            maintenance.execute(
                f"create database {DATABASE} template {TEMPLATE} owner postgres strategy file_copy"
            )
        self.storage.forget_orphans()
        self.limit_rows(self.max_rows)

    def limit_rows(self, max_rows: int) -> None:
        """Cut answers at `max_rows` until the next reset."""
        if max_rows not in self.rests:
            self.rests[max_rows] = Rest.start(
                self.folder,
                dsn=self.postgres.dsn("authenticator", DATABASE),
                jwt_secret=self.keys.jwt_secret,
                max_rows=max_rows,
            )
        self.row_cap = max_rows

    def close(self) -> None:
        self.gateway.close()
        self._stop_rests()

    def _stop_rests(self) -> None:
        while self.rests:
            self.rests.popitem()[1].stop()


@contextmanager
def open_project(folder: Path | None = None, *, max_rows: int = 1000) -> Iterator[SupabaseProject]:
    """Start the servers below `folder`, or below a temporary one that is removed in the end.

    Sockets live there, so its path must be short; and as root, PostgreSQL's user must get in.
    """
    with ExitStack() as stack:
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix="supabase-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        postgres = Postgres.start(folder)
        stack.callback(postgres.stop)
        _make_template(postgres)
        project = SupabaseProject(folder, KeyRing.cut(), postgres, max_rows)
        stack.callback(project.close)
        project.blank()
        yield project


def _make_template(postgres: Postgres) -> None:
    with psycopg.connect(postgres.dsn(SUPERUSER, "template1"), autocommit=True) as maintenance:
        maintenance.execute((HERE / "roles.sql").read_bytes())
        maintenance.execute(f"create database {TEMPLATE} owner postgres")
    with psycopg.connect(postgres.dsn(SUPERUSER, TEMPLATE)) as database:
        database.execute((HERE / "database.sql").read_bytes())
