"""The project of the tests behaves as Supabase does, where the adapter has to cope with it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from postgrest.exceptions import APIError
from storage3.exceptions import StorageApiError
from supabase import Client, ClientOptions, create_client

from tests.support.supabase import faults
from tests.support.supabase.project import SupabaseProject

pytestmark = pytest.mark.filterwarnings(
    "ignore:The '(timeout|verify|proxy)' parameter is deprecated:DeprecationWarning"
)

ROOT = Path(__file__).parents[3]
ANN = UUID(int=1)
BEN = UUID(int=2)
SCHEMA = """
create table public.notes (
    id bigint primary key,
    owner uuid default auth.uid() references auth.users (id),
    body text not null check (body <> ''),
    weight numeric
);
alter table public.notes enable row level security;
create policy own on public.notes to authenticated
    using (owner = auth.uid()) with check (owner = auth.uid());

create table public.unguarded (id bigint generated always as identity primary key, n int);
insert into public.unguarded (n) values (1);

create function public.whoami() returns jsonb language sql stable as $$
    select jsonb_build_object('role', auth.role(), 'current', current_user, 'uid', auth.uid(),
                              'timeout', current_setting('statement_timeout'))
$$;
create function public.numbers(many int) returns setof int language sql stable as $$
    select generate_series(1, many)
$$;

insert into storage.buckets (id, name, public) values ('models', 'models', false);
insert into storage.buckets (id, name, public) values ('open', 'open', true);
create policy ann_only on storage.objects for insert to authenticated
    with check (bucket_id = 'open' and auth.uid() = '00000000-0000-0000-0000-000000000001');
notify pgrst, 'reload schema';
"""

Connect = Callable[..., Client]


@pytest.fixture(scope="module", autouse=True)
def schema(supabase: SupabaseProject) -> None:
    supabase.blank()
    supabase.apply(SCHEMA)


@pytest.fixture
def connect(project: SupabaseProject) -> Iterator[Connect]:
    """Open clients as users do, but with connections that are closed in the end."""
    opened: list[httpx.Client] = []

    def connect_with(key: str, token: str | None = None, timeout: float = 10) -> Client:
        opened.append(httpx.Client(timeout=timeout, follow_redirects=True))
        options = ClientOptions(httpx_client=opened[-1], postgrest_client_retry=False)
        if token:
            options.headers["Authorization"] = f"Bearer {token}"
        return create_client(project.url, key, options=options)

    yield connect_with
    for client in opened:
        client.close()


@pytest.fixture
def service(project: SupabaseProject, connect: Connect) -> Client:
    return connect(project.service_key)


def note(number: int, **more: object) -> dict[str, Any]:
    return {"id": number, "body": f"note {number}"} | more


def refused(code: str) -> pytest.RaisesExc[APIError]:
    return pytest.raises(APIError, check=lambda error: error.code == code)


def storage_refused(status: int, code: str) -> pytest.RaisesExc[StorageApiError]:
    return pytest.raises(
        StorageApiError, check=lambda error: (str(error.status), error.code) == (str(status), code)
    )


class TestRest:
    def test_answers_are_cut_at_1000_rows_whatever_the_limit(
        self, project: SupabaseProject, service: Client
    ) -> None:
        project.sql("insert into notes (id, body) select n, 'x' from generate_series(1, 1500) as n")
        assert len(service.table("notes").select("id").limit(2000).execute().data) == 1000
        assert len(_list(service.rpc("numbers", {"many": 1500}).execute().data)) == 1000

    def test_the_row_cap_can_differ(self, project: SupabaseProject, service: Client) -> None:
        project.limit_rows(100)
        assert len(_list(service.rpc("numbers", {"many": 1500}).execute().data)) == 100

    def test_a_second_row_with_the_same_key_is_23505(self, service: Client) -> None:
        service.table("notes").insert(note(1)).execute()
        with refused("23505"):
            service.table("notes").insert(note(1)).execute()

    def test_a_broken_check_is_23514(self, service: Client) -> None:
        with refused("23514"):
            service.table("notes").insert(note(1, body="")).execute()

    def test_a_numeric_column_comes_back_as_a_json_number(self, service: Client) -> None:
        answer = service.table("notes").insert(note(1, weight=0.25)).execute()
        assert _list(answer.data)[0]["weight"] == 0.25

    def test_a_count_says_how_many_rows_there_really_are(
        self, project: SupabaseProject, service: Client
    ) -> None:
        project.sql("insert into notes (id, body) select n, 'x' from generate_series(1, 1500) as n")
        found = service.table("notes").select("id", count="exact").execute()  # type: ignore[arg-type]
        assert (found.count, len(found.data)) == (1500, 1000)

    def test_a_new_table_is_served_after_apply(
        self, project: SupabaseProject, service: Client
    ) -> None:
        try:
            project.apply("create table public.late (id int); insert into late values (5)")
            assert service.table("late").select("*").execute().data == [{"id": 5}]
        finally:
            project.apply("drop table public.late")


class TestKeysAndRoles:
    def test_an_unknown_key_is_401(self, project: SupabaseProject) -> None:
        for headers in ({}, {"apikey": "wrong", "Authorization": f"Bearer {project.service_key}"}):
            for path in ("/rest/v1/notes", "/storage/v1/bucket"):
                assert httpx.get(project.url + path, headers=headers).status_code == 401

    def test_both_styles_of_key_are_the_service_role(
        self, project: SupabaseProject, connect: Connect
    ) -> None:
        for key in (project.service_key, project.secret_key):
            me = _dict(connect(key).rpc("whoami").execute().data)
            assert (me["role"], me["current"], me["timeout"]) == (
                "service_role",
                "service_role",
                "8s",
            )

    def test_both_styles_of_public_key_are_anon_with_3_seconds(
        self, project: SupabaseProject, connect: Connect
    ) -> None:
        for key in (project.anon_key, project.keys.publishable):
            me = _dict(connect(key).rpc("whoami").execute().data)
            assert (me["role"], me["uid"], me["timeout"]) == ("anon", None, "3s")

    def test_a_signed_in_user_is_who_the_token_says(
        self, project: SupabaseProject, connect: Connect
    ) -> None:
        me = _dict(connect(project.anon_key, project.user_token(ANN)).rpc("whoami").execute().data)
        assert (me["role"], me["uid"], me["timeout"]) == ("authenticated", str(ANN), "8s")

    def test_rows_are_seen_by_whom_the_policies_let(
        self, project: SupabaseProject, connect: Connect
    ) -> None:
        ann = connect(project.anon_key, project.user_token(ANN))
        ann.table("notes").insert(note(1)).execute()
        ben = connect(project.anon_key, project.user_token(BEN))
        clients = {"ann": ann, "ben": ben, "anon": connect(project.anon_key)}
        seen = {who: len(c.table("notes").select("*").execute().data) for who, c in clients.items()}
        assert seen == {"ann": 1, "ben": 0, "anon": 0}
        with refused("42501"):
            ben.table("notes").insert(note(2, owner=str(ANN))).execute()

    def test_a_table_without_rls_is_open_to_everyone(
        self, project: SupabaseProject, connect: Connect
    ) -> None:
        anon = connect(project.anon_key)
        anon.table("unguarded").insert({"n": 2}).execute()
        assert len(anon.table("unguarded").select("*").execute().data) == 2

    def test_the_owner_of_the_database_may_not_alter_storage_or_auth(
        self, project: SupabaseProject
    ) -> None:
        for statement in (
            "alter table storage.objects disable row level security",
            "create table auth.mine (id int)",
            "create role another superuser",
        ):
            with (
                psycopg.connect(project.dsn) as database,
                pytest.raises(psycopg.errors.InsufficientPrivilege),
            ):
                database.execute(statement.encode())


class TestStorage:
    def test_a_second_upload_is_a_duplicate_and_changes_nothing(self, service: Client) -> None:
        bucket = service.storage.from_("models")
        content = b"\r\n--model\x00" * 1000
        assert bucket.upload("a/b c.skops", content).full_path == "models/a/b c.skops"
        with storage_refused(409, "Duplicate"):
            bucket.upload("a/b c.skops", b"other")
        assert bucket.download("a/b c.skops") == content

    def test_an_upsert_replaces(self, service: Client) -> None:
        bucket = service.storage.from_("models")
        bucket.upload("log.csv", b"one")
        bucket.upload("log.csv", b"three", {"upsert": "true"})
        assert (bucket.download("log.csv"), bucket.info("log.csv")["size"]) == (b"three", 5)

    def test_what_is_missing_is_404_in_a_400(
        self, project: SupabaseProject, service: Client
    ) -> None:
        bucket = service.storage.from_("models")
        with storage_refused(404, "not_found"):
            bucket.download("nothing")
        assert not bucket.exists("nothing")
        with storage_refused(404, "Bucket not found"):
            service.storage.from_("nowhere").upload("a", b"")
        headers = {"apikey": project.service_key, "Authorization": f"Bearer {project.service_key}"}
        answer = httpx.get(f"{project.url}/storage/v1/object/models/nothing", headers=headers)
        assert (answer.status_code, answer.json()) == (
            400,
            {"statusCode": "404", "error": "not_found", "message": "Object not found"},
        )

    def test_a_list_has_100_entries_unless_more_are_asked_for(
        self, project: SupabaseProject, service: Client
    ) -> None:
        project.sql(
            "insert into storage.objects (bucket_id, name)"
            " select 'models', format('logs/%s.txt', n) from generate_series(100, 204) as n"
        )
        bucket = service.storage.from_("models")
        assert len(bucket.list("logs")) == 100
        names = [entry["name"] for entry in bucket.list("logs", {"offset": 100, "limit": 10})]
        assert names == ["200.txt", "201.txt", "202.txt", "203.txt", "204.txt"]
        (folder,) = bucket.list()
        assert (folder["name"], folder["id"]) == ("logs", None)

    def test_keys_beyond_ascii_are_invalid(self, service: Client) -> None:
        with storage_refused(400, "InvalidKey"):
            service.storage.from_("models").upload("modèle.skops", b"x")

    def test_a_private_bucket_is_closed_to_all_but_the_service_role(
        self, project: SupabaseProject, service: Client, connect: Connect
    ) -> None:
        service.storage.from_("models").upload("model", b"secret")
        for client in (
            connect(project.anon_key),
            connect(project.anon_key, project.user_token(ANN)),
        ):
            bucket = client.storage.from_("models")
            with storage_refused(404, "not_found"):
                bucket.download("model")
            with storage_refused(404, "not_found"):
                bucket.create_signed_url("model", 60)
            with storage_refused(403, "Unauthorized"):
                bucket.upload("mine", b"x")
            assert (bucket.list(), bucket.remove(["model"])) == ([], [])
            with storage_refused(403, "Unauthorized"):
                client.storage.create_bucket("another")
        assert service.storage.from_("models").download("model") == b"secret"

    def test_a_policy_of_a_migration_opens_a_bucket(
        self, project: SupabaseProject, connect: Connect
    ) -> None:
        connect(project.anon_key, project.user_token(ANN)).storage.from_("open").upload("a", b"x")
        with storage_refused(403, "Unauthorized"):
            connect(project.anon_key, project.user_token(BEN)).storage.from_("open").upload(
                "b", b""
            )
        assert connect(project.anon_key).storage.from_("open").download("a") == b"x"

    def test_a_signed_url_opens_one_object_for_a_while(
        self, project: SupabaseProject, service: Client
    ) -> None:
        bucket = service.storage.from_("models")
        bucket.upload("reports/run 1.html", b"<html>")
        url = bucket.create_signed_url("reports/run 1.html", 60)["signedURL"] or ""
        assert httpx.get(url).content == b"<html>"
        assert httpx.get(url.replace("run%201", "run%202")).status_code == 400
        expired = project.keys.expired(url.partition("token=")[2])
        assert httpx.get(f"{url.partition('?')[0]}?token={expired}").json()["statusCode"] == "400"

    def test_a_bad_token_on_download_looks_like_a_missing_bucket(
        self, project: SupabaseProject, connect: Connect
    ) -> None:
        expired = project.keys.expired(project.service_key)
        with storage_refused(404, "Bucket not found"):
            connect(project.service_key, expired).storage.from_("models").download("model")

    def test_files_over_the_limit_and_a_full_disk_are_refused(
        self, project: SupabaseProject, service: Client
    ) -> None:
        bucket = service.storage.from_("models")
        project.storage.file_size_limit = 10
        with storage_refused(413, "Payload too large"):
            bucket.upload("large", b"x" * 11)
        project.storage.capacity = 15
        bucket.upload("first", b"x" * 10)
        with storage_refused(500, "Error"):
            bucket.upload("second", b"x" * 10)

    def test_buckets_are_made_filled_and_removed(self, service: Client) -> None:
        service.storage.create_bucket("new", options={"public": False, "file_size_limit": 5})
        with storage_refused(409, "Duplicate"):
            service.storage.create_bucket("new")
        bucket = service.storage.from_("new")
        with storage_refused(413, "Payload too large"):
            bucket.upload("a", b"123456")
        bucket.upload("a", b"12345")
        assert [gone["name"] for gone in bucket.remove(["a", "b"])] == ["a"]
        service.storage.delete_bucket("new")
        assert {found.id for found in service.storage.list_buckets()} == {"models", "open"}


class TestFaults:
    def test_an_html_page_with_200_arrives_as_a_string(
        self, project: SupabaseProject, service: Client
    ) -> None:
        project.gateway.fault(faults.html200(), path="/rest/v1/notes")
        assert isinstance(service.table("notes").select("*").execute().data, str)
        assert service.table("notes").select("*").execute().data == []

    def test_an_html_page_with_502_is_an_api_error(
        self, project: SupabaseProject, service: Client
    ) -> None:
        project.gateway.fault(faults.status(502), method="POST", path="/rest/v1/notes")
        with refused("502"):
            service.table("notes").insert(note(1)).execute()

    def test_too_many_requests_names_the_wait(self, project: SupabaseProject) -> None:
        project.gateway.fault(faults.status(429, {"Retry-After": "7"}, b"{}"), nth=2)
        headers = {"apikey": project.service_key, "Authorization": f"Bearer {project.service_key}"}
        answers = [httpx.get(f"{project.url}/rest/v1/notes", headers=headers) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 429, 200]
        assert answers[1].headers["Retry-After"] == "7"

    @pytest.mark.parametrize(("fault", "rows"), [("drop_before", 0), ("drop_after", 1)])
    def test_a_lost_connection_does_not_tell_whether_the_write_was_done(
        self, project: SupabaseProject, service: Client, fault: str, rows: int
    ) -> None:
        rule = project.gateway.fault(getattr(faults, fault), method="POST")
        with pytest.raises(httpx.RemoteProtocolError):
            service.table("notes").insert(note(1)).execute()
        assert (rule.hits, len(project.sql("select * from notes"))) == (1, rows)

    def test_an_answer_can_be_cut_short(self, project: SupabaseProject, service: Client) -> None:
        bucket = service.storage.from_("models")
        bucket.upload("model", b"x" * 1000)
        project.gateway.fault(faults.cut_short, method="GET", path="/object/models/model")
        with pytest.raises(httpx.RemoteProtocolError):
            bucket.download("model")

    def test_a_hanging_server_outlasts_the_client(
        self, project: SupabaseProject, connect: Connect
    ) -> None:
        project.gateway.fault(faults.hang(0.5))
        started = time.monotonic()
        with pytest.raises(httpx.ReadTimeout):
            connect(project.service_key, timeout=0.2).table("notes").insert(note(1)).execute()
        assert time.monotonic() - started < 0.45
        assert _eventually(lambda: bool(project.sql("select * from notes")))

    def test_what_hangs_at_a_reset_is_never_done(
        self, project: SupabaseProject, connect: Connect
    ) -> None:
        project.gateway.fault(faults.hang(0.4))
        with pytest.raises(httpx.ReadTimeout):
            connect(project.service_key, timeout=0.1).table("notes").insert(note(1)).execute()
        project.reset()
        time.sleep(0.6)
        assert project.sql("select * from notes") == []

    def test_a_token_can_expire_on_its_way(self, project: SupabaseProject, service: Client) -> None:
        project.gateway.fault(faults.expired_jwt(project.keys), times=2)
        with pytest.raises(APIError, match="JWT expired"):
            service.table("notes").select("*").execute()
        with storage_refused(403, "Unauthorized"):
            service.storage.list_buckets()


class TestTheProjectItself:
    def test_reset_brings_back_the_rows_of_the_last_apply(
        self, project: SupabaseProject, service: Client
    ) -> None:
        service.table("unguarded").insert([{"n": 2}, {"n": 3}]).execute()
        service.storage.from_("models").upload("a", b"x")
        project.user_token(ANN)
        project.sql("update storage.buckets set public = true")
        project.sql(
            "insert into notes (id, body) select n, 'x' from generate_series(1, 30000) as n"
        )
        project.gateway.fault(faults.status(503), times=9)
        started = time.monotonic()
        project.reset()
        assert time.monotonic() - started < 0.5
        assert project.sql("select * from unguarded") == [{"id": 1, "n": 1}]
        assert service.table("unguarded").insert({"n": 2}).execute().data == [{"id": 2, "n": 2}]
        assert project.sql("select * from notes") == project.sql("select * from auth.users") == []
        assert [bucket.public for bucket in service.storage.list_buckets()] == [False, True]
        assert service.storage.from_("models").list() == []

    def test_traffic_is_recorded_with_its_bytes(
        self, project: SupabaseProject, service: Client
    ) -> None:
        service.storage.from_("models").upload("a", b"x" * 5000)
        service.storage.from_("models").download("a")
        upload, download = project.gateway.requests
        assert (upload.method, upload.path) == ("POST", "/storage/v1/object/models/a")
        assert (download.status, download.bytes_out) == (200, 5000)
        assert 5000 < project.gateway.bytes_in < 6000

    def test_servers_do_not_outlive_a_killed_test_run(self) -> None:
        code = (
            "from tests.support.supabase.project import open_project\n"
            "with open_project() as project:\n"
            "    servers = [project.postgres.server, project.rests[1000].server]\n"
            "    pids = [server.process.pid for server in servers]\n"
            "    print(project.folder, *pids, flush=True)\n"
            "    input()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            folder, *pids = process.stdout.readline().split()
            assert all(_alive(int(pid)) for pid in pids)
            process.send_signal(signal.SIGKILL)
        assert _eventually(lambda: not any(_alive(int(pid)) for pid in pids))
        shutil.rmtree(folder)


def _list(data: object) -> list[Any]:
    assert isinstance(data, list)
    return data


def _dict(data: object) -> dict[str, Any]:
    assert isinstance(data, dict)
    return data


def _eventually(true: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _alive(pid: int) -> bool:
    """Say whether a process runs; one that only waits to be buried does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
