"""The schema on a real PostgreSQL: upgrades, access, races and plans.

The fixture `database` is a new project with nothing of ours in it: `dsn` connects as the owner of
the database, who may take the roles `anon`, `authenticated` and `service_role`; `sql` runs a
statement as superuser.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from threading import Barrier
from typing import Any, Protocol

import psycopg
import pytest
from psycopg import errors, sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from ml_pipeline.store.schema import newest
from tests.support.factories import MODEL_NAME, NOW, make_id

Row = dict[str, Any]
Connection = psycopg.Connection[Row]

TABLES = {
    "evaluation_log",
    "evaluation_log_changes",
    "evaluation_log_erased",
    "learning_events",
    "learning_stats",
    "ml_data",
    "ml_pipeline_leases",
    "ml_pipeline_limits",
    "ml_pipeline_schema_version",
    "model_metadata",
    "model_promotion_events",
    "model_retraining_requests",
    "model_retraining_runs",
    "model_scoring",
    "prediction_accuracy_daily",
    "prediction_decay_events",
    "system_events",
}
FOR_USERS = {
    "cancel_retraining_request",
    "ml_pipeline_caller",
    "ml_pipeline_differences",
    "submit_retraining_request",
}
OPEN_PER_USER = 3
USER, OTHER_USER = make_id(901), make_id(902)
EVER = {"p_start": NOW - timedelta(days=3650), "p_end": NOW + timedelta(days=3650)}

# The tables as the documents draw them, with the policies that were found around them.
SEEDS_TABLES = """
create table model_retraining_runs (
    id uuid primary key default gen_random_uuid(),
    source text not null check (source in ('auto_daily', 'manual', 'decay_triggered')),
    dataset_size integer,
    fine_tune_flag boolean,
    status text check (status in ('pending', 'running', 'completed', 'failed')),
    metrics jsonb,
    started_at timestamptz,
    completed_at timestamptz,
    log_url text,
    error_message text,
    triggered_by uuid,
    created_at timestamptz default now(),
    updated_at timestamptz default now(),
    worker text not null
);
create table model_retraining_requests (
    id uuid primary key default gen_random_uuid(),
    requested_by uuid,
    reason text,
    priority text check (priority in ('low', 'normal', 'high')),
    status text constraint any_name
        check (status in ('pending', 'processing', 'completed', 'cancelled')),
    processed_at timestamptz,
    retraining_run_id uuid references model_retraining_runs (id),
    created_at timestamptz default now(),
    updated_at timestamptz default now()
);
create table model_metadata (
    id serial primary key,
    version text unique not null,
    accuracy real not null,
    f1_score real not null,
    confidence_threshold numeric(3, 2),
    training_timestamp timestamp,
    is_active boolean default false,
    metrics jsonb,
    created_at timestamp default now()
);
create table evaluation_log (
    id bigserial primary key,
    timestamp timestamp,
    event_id text,
    event_type text,
    model_id text,
    match_id integer,
    prediction text,
    actual_result text,
    confidence numeric(5, 4),
    accuracy numeric,
    metadata text,
    status text
);
create table learning_stats (id bigserial primary key, timestamp timestamptz, accept_rate float);
create table system_events (
    id bigserial primary key, event_type text, timestamp timestamptz, severity text not null
);
alter table model_retraining_runs enable row level security;
create policy "Anyone reads" on model_retraining_runs for select using (true);
create policy "Anyone writes" on evaluation_log for all using (true);

insert into model_retraining_runs
    (id, source, dataset_size, fine_tune_flag, status, metrics, started_at, error_message, worker)
values
    ('00000000-0000-4000-8000-000000000001', 'auto_daily', 45, true, 'completed',
     '{"accuracy": 0.85}', '2026-01-01 02:00+00', null, 'ci'),
    ('00000000-0000-4000-8000-000000000002', 'auto_daily', null, null, 'completed',
     null, '2026-01-02 02:00+00', null, 'ci'),
    ('00000000-0000-4000-8000-000000000003', 'manual', 12, true, 'failed',
     '{}', '2026-01-03 02:00+00', null, 'ci'),
    ('00000000-0000-4000-8000-000000000004', 'manual', 12, true, 'running',
     null, '2026-01-04 02:00+00', null, 'ci'),
    ('00000000-0000-4000-8000-000000000005', 'manual', 12, true, 'running',
     null, '2026-01-05 02:00+00', null, 'ci'),
    ('00000000-0000-4000-8000-000000000006', 'manual', 0, true, 'pending',
     null, null, null, 'ci');
insert into model_retraining_requests (id, reason, priority, status, retraining_run_id) values
    ('00000000-0000-4000-8000-000000000011', null, 'high', 'pending', null),
    ('00000000-0000-4000-8000-000000000012', 'drift', 'low', 'processing',
     '00000000-0000-4000-8000-000000000004'),
    ('00000000-0000-4000-8000-000000000013', 'done', 'normal', 'completed',
     '00000000-0000-4000-8000-000000000001');
insert into model_metadata
    (version, accuracy, f1_score, confidence_threshold, training_timestamp, is_active, metrics)
values
    ('v20240101_120000', 0.7, 0.6, 0.55, '2024-01-01 12:00', false, '{"accuracy": 0.7}'),
    ('v20240201_120000', 0.8, 0.7, null, '2024-02-01 12:00', true, null),
    ('v20240301_120000', 0.9, 0.8, 0.6, '2024-03-01 12:00', true, '{}');
insert into evaluation_log
    (timestamp, event_id, event_type, model_id, match_id, prediction, actual_result, confidence,
     accuracy, metadata, status)
values
    ('2026-01-01 10:00', '00000000-0000-4000-8000-000000000021', 'prediction', 'm-1', 7, 'H', 'A',
     0.9, 1.0, '{"league": "E0"}', 'evaluated'),
    ('2026-01-01 11:00', '00000000-0000-4000-8000-000000000022', 'prediction', 'm-1', 8, 'D', '',
     0.4, null, null, 'pending'),
    ('2026-01-01 12:00', null, 'training', 'm-1', null, null, null, null, null, null, null);
insert into learning_stats (timestamp, accept_rate) values ('2026-01-01 10:00+00', 0.5);
insert into system_events (event_type, timestamp, severity)
    values ('model_retrain', '2026-01-01 10:00+00', 'info');
"""


class Database(Protocol):
    """What the tests need of a database."""

    @property
    def dsn(self) -> str: ...

    def sql(self, query: str, params: Any = None) -> list[Row]: ...  # noqa: ANN401 - psycopg's


def migrations() -> list[str]:
    """The package's own files, in order."""
    folder = files("ml_pipeline") / "sql" / "supabase"
    scripts = sorted((item for item in folder.iterdir()), key=lambda item: item.name)
    return [item.read_text(encoding="utf-8") for item in scripts if item.name.endswith(".sql")]


def upgrade(database: Database) -> None:
    """Apply every file in a transaction of its own, as the owner."""
    for script in migrations():
        with connected(database) as owner:
            owner.execute(script.encode())


@contextmanager
def connected(
    database: Database, role: str | None = None, user: str | None = None
) -> Iterator[Connection]:
    """A transaction; `role` and `user` are who PostgREST would say is calling."""
    with psycopg.connect(database.dsn, row_factory=dict_row) as connection:
        if role is not None:
            connection.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
            claims = {"role": role} if user is None else {"role": role, "sub": user}
            connection.execute(
                "select set_config('request.jwt.claims', %s, true)", [json.dumps(claims)]
            )
        yield connection


def run(connection: Connection, query: str, *params: object) -> list[Row]:
    """The rows of a statement."""
    cursor = connection.execute(query.encode(), params or None)
    return cursor.fetchall() if cursor.description else []


def call(connection: Connection, function: str, **arguments: object) -> Any:  # noqa: ANN401
    """The answer of a function."""
    query = sql.SQL("select {}({}) as answer").format(
        sql.Identifier(function),
        sql.SQL(", ").join(
            sql.SQL("{} => {}").format(sql.Identifier(name), sql.Placeholder(name))
            for name in arguments
        ),
    )
    values = {
        name: Jsonb(value) if isinstance(value, dict | list) else value
        for name, value in arguments.items()
    }
    return connection.execute(query, values).fetchall()[0]["answer"]


def as_service(database: Database, function: str, **arguments: object) -> Any:  # noqa: ANN401
    """The answer of a function that the service role calls."""
    with connected(database, "service_role") as service:
        return call(service, function, **arguments)


def race(count: int, action: Callable[[int], Any]) -> list[Any]:
    """What `count` threads got from `action` at the same moment: a value or an error."""
    start = Barrier(count)

    def runner(number: int) -> Any:  # noqa: ANN401 - whatever the action returns
        start.wait()
        try:
            return action(number)
        except psycopg.Error as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(runner, range(count)))


def codes(results: list[Any]) -> list[str]:
    """The SQLSTATEs among the results of a race."""
    return sorted(str(item.sqlstate) for item in results if isinstance(item, psycopg.Error))


def catalogue(database: Database) -> list[Row]:
    """Everything that the files make: columns, indexes, constraints, functions, policies."""
    return database.sql("""
        select 'column' as kind, table_name || '.' || column_name as name,
               concat_ws(' ', data_type, is_nullable, column_default, generation_expression) as what
        from information_schema.columns where table_schema = 'public'
        union all
        select 'index', indexname, indexdef from pg_indexes where schemaname = 'public'
        union all
        select 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
        from pg_constraint where connamespace = 'public'::regnamespace
        union all
        select 'trigger', tgname, pg_get_triggerdef(oid) from pg_trigger where not tgisinternal
        union all
        select 'function', oid::regprocedure::text, md5(pg_get_functiondef(oid)) || proacl::text
        from pg_proc where pronamespace = 'public'::regnamespace and prokind = 'f'
        union all
        select 'table', relname, relrowsecurity || relacl::text
        from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'
        union all
        select 'policy', schemaname || tablename || policyname,
               concat_ws(' ', roles, cmd, qual, with_check)
        from pg_policies
        order by 1, 2, 3
    """)


def run_row(number: int, **changes: object) -> Row:
    """A running run as the client sends it."""
    at = NOW.isoformat()
    row = {"model_name": MODEL_NAME, "source": "manual", "status": "running", "started_at": at}
    return {"id": make_id(number), **row, **changes}


def request_row(number: int, **changes: object) -> Row:
    """A request as the client sends it."""
    return {"id": make_id(number), "model_name": MODEL_NAME, "reason": "drift", **changes}


def model_row(model_id: str) -> Row:
    """A candidate as the client sends it."""
    return {
        "model_name": MODEL_NAME,
        "model_id": model_id,
        "algorithm": "LogisticRegression",
        "artifact_bucket": "ml-models",
        "artifact_path": f"{MODEL_NAME}/{model_id}/model.skops",
        "artifact_digest": "sha256:" + "ab" * 32,
        "artifact_size": 2048,
        "created_at": NOW.isoformat(),
        "anchor_id": model_id,
        "metrics": {"accuracy": 0.75, "f1_score": 0.5},
    }


def promotion_row(number: int, to_model_id: str, from_model_id: str | None) -> Row:
    """A promotion as the client sends it."""
    return {
        "event_id": make_id(number),
        "model_name": MODEL_NAME,
        "kind": "promotion",
        "to_model_id": to_model_id,
        "from_model_id": from_model_id,
        "reason": "better",
        "actor": "test",
        "created_at": NOW.isoformat(),
    }


@pytest.fixture
def store(database: Database) -> Database:
    """The database with our schema."""
    upgrade(database)
    return database


# ----------------------------------------------------------------------------------- upgrades


def test_every_file_may_be_run_again(store: Database) -> None:
    before = catalogue(store)
    upgrade(store)
    assert catalogue(store) == before
    assert as_service(store, "ml_pipeline_schema") == newest()


def test_the_files_make_the_tables_of_the_contract(store: Database) -> None:
    rows = store.sql("select tablename from pg_tables where schemaname = 'public'")
    assert {row["tablename"] for row in rows} == TABLES


def test_tables_from_before_are_upgraded_and_keep_their_rows(database: Database) -> None:
    with connected(database) as owner:
        run(owner, SEEDS_TABLES)
    upgrade(database)
    before = catalogue(database)
    upgrade(database)
    assert catalogue(database) == before

    runs = database.sql("select * from model_retraining_runs order by id")
    assert [row["status"] for row in runs] == [
        *("completed", "completed", "failed", "failed", "running", "pending")
    ]
    assert [row["outcome"] for row in runs] == [
        *("rejected", "skipped_insufficient_errors", "failed", "failed", None, None)
    ]
    assert {row["model_name"] for row in runs} == {"default"}
    assert all(row["error_message"] for row in runs if row["status"] == "failed")
    assert runs[0]["metrics"] == {"accuracy": 0.85}
    assert runs[0]["dataset_size"] == 45
    assert all(row["heartbeat_at"] and row["started_at"] for row in runs)
    assert all(row["completed_at"] for row in runs if row["outcome"])

    requests = database.sql("select * from model_retraining_requests order by id")
    assert [row["status"] for row in requests] == ["pending", "pending", "completed"]
    assert [row["reason"] for row in requests] == ["", "drift", "done"]
    assert [row["priority_rank"] for row in requests] == [0, 2, 1]
    assert requests[2]["retraining_run_id"] == runs[0]["id"]

    models = database.sql("select * from model_metadata order by version")
    assert [row["model_id"] for row in models] == [row["version"] for row in models]
    assert [row["state"] for row in models] == ["retired", "retired", "champion"]
    assert [row["is_active"] for row in models] == [False, False, True]
    assert [row["accuracy"] for row in models] == [0.7, 0.8, 0.9]
    assert [row["confidence_threshold"] for row in models] == [0.55, 0.6, 0.6]
    assert models[0]["training_timestamp"] == datetime(2024, 1, 1, 12, tzinfo=UTC)

    events = database.sql("select * from evaluation_log order by timestamp")
    assert [row["actual_result"] for row in events] == ["A", None, None]
    assert [row["accuracy"] for row in events] == [0.0, None, None]
    assert [row["status"] for row in events] == ["evaluated", "pending", "pending"]
    assert events[0]["known_at"] == datetime(2026, 1, 1, 10, tzinfo=UTC)
    assert events[0]["metadata"] == {"league": "E0"}
    assert len(database.sql("select * from learning_stats where accept_rate = 0.5")) == 1
    assert len(database.sql("select * from system_events where severity = 'info'")) == 1


def test_upgraded_tables_work_as_new_ones(database: Database) -> None:
    with connected(database) as owner:
        run(owner, SEEDS_TABLES)
    upgrade(database)
    # The column `worker` of someone else's must not stop a run.
    as_service(database, "start_retraining_run", p_run=run_row(100))
    # A version of one model name may exist under another as well.
    as_service(database, "register_model", p_model=model_row("v20240301_120000"))
    newer = model_row("new") | {"model_name": "default"}
    as_service(database, "register_model", p_model=newer)
    as_service(database, "submit_retraining_request", p_request=request_row(101))
    claimed = as_service(
        database,
        "claim_retraining_request",
        p_model_name=MODEL_NAME,
        p_run_id=make_id(100),
        p_now=NOW,
        p_lease_until=NOW + timedelta(minutes=1),
    )
    closed = as_service(
        database,
        "fail_retraining_request",
        p_request_id=claimed["id"],
        p_run_id=make_id(100),
        p_now=NOW,
        p_reason="no data",
    )
    assert closed["status"] == "failed"
    database.sql("insert into system_events (event_type) values ('model_retrain')")
    event = promotion_row(1, "new", "v20240301_120000") | {"model_name": "default"}
    promoted = as_service(database, "promote_model", p_event=event)
    assert (promoted["state"], promoted["is_active"]) == ("champion", True)


def test_a_policy_from_before_opens_nothing(database: Database) -> None:
    with connected(database) as owner:
        run(owner, SEEDS_TABLES)
    upgrade(database)
    names = database.sql("select policyname from pg_policies where policyname like 'Anyone%%'")
    assert names == []


# --------------------------------------------------------------------------------- evaluation


def test_an_application_that_updates_an_outcome_in_place_leaves_a_whole_row(
    store: Database,
) -> None:
    began = store.sql("select now() as now")[0]["now"]
    with connected(store, "service_role") as service:
        run(
            service,
            "insert into evaluation_log (event_id, timestamp, prediction, confidence) "
            "values (%s, %s, 'H', 0.9)",
            make_id(1),
            NOW - timedelta(days=900),
        )
    with connected(store, "service_role") as service:
        run(service, "update evaluation_log set actual_result = 'A'")
    row = store.sql("select * from evaluation_log")[0]
    assert (row["accuracy"], row["status"]) == (0.0, "evaluated")
    assert row["evaluated_at"] >= began
    assert row["known_at"] == row["evaluated_at"]
    with connected(store, "service_role") as service:
        run(service, "update evaluation_log set actual_result = 'H', accuracy = 0")
    row = store.sql("select * from evaluation_log")[0]
    assert row["accuracy"] == 1.0


def test_a_time_that_comes_with_the_outcome_is_kept(store: Database) -> None:
    store.sql(
        "insert into evaluation_log (event_id, timestamp, prediction) values (%s, %s, 'H')",
        [make_id(1), NOW],
    )
    at = NOW + timedelta(hours=1)
    store.sql("update evaluation_log set actual_result = 'H', evaluated_at = %s", [at])
    row = store.sql("select * from evaluation_log")[0]
    assert (row["evaluated_at"], row["known_at"], row["accuracy"]) == (at, at, 1.0)


def test_checking_events_writes_none(store: Database) -> None:
    event = {
        "event_id": make_id(1),
        "timestamp": NOW.isoformat(),
        "model_name": MODEL_NAME,
        "prediction": "H",
    }
    arguments: Row = {"p_events": [event], "p_check_only": True}
    assert as_service(store, "append_evaluation_events", **arguments) == 1
    assert store.sql("select 1 from evaluation_log") == []
    as_service(store, "append_evaluation_events", p_events=[event])
    with pytest.raises(psycopg.Error) as caught:
        as_service(
            store,
            "append_evaluation_events",
            p_events=[event | {"prediction": "D"}],
            p_check_only=True,
        )
    assert caught.value.sqlstate == "MLP04"


def fill_log(database: Database, rows: int) -> None:
    """One event a second, every tenth of them wrong and confident, every seventh pending."""
    database.sql(
        """
        insert into evaluation_log
            (event_id, timestamp, model_name, model_id, prediction, confidence, actual_result)
        select gen_random_uuid(), %s::timestamptz + n * interval '1 second',
               case when n %% 2 = 0 then %s else 'tennis' end, 'm-1', 'H', random(),
               case when n %% 7 = 0 then null when n %% 10 = 0 then 'A' else 'H' end
        from generate_series(1, %s) as n
        """,
        [NOW, MODEL_NAME, rows],
    )


@pytest.mark.parametrize(
    ("function", "more", "index"),
    [
        ("read_error_samples", {"p_confidence": 0.7}, "evaluation_log_errors"),
        ("read_evaluation_events", {}, "evaluation_log_labelled"),
        ("count_labelled_by_day", {}, "evaluation_log_labelled"),
        ("read_evaluation_events", {"p_labelled_only": False}, "evaluation_log_pending"),
    ],
)
def test_reads_of_a_long_log_go_through_their_index(
    store: Database, function: str, more: Row, index: str
) -> None:
    fill_log(store, 30_000)
    store.sql("analyze evaluation_log")
    window = {"p_start": NOW + timedelta(hours=5), "p_end": NOW + timedelta(hours=6)}
    used = (
        "select (select idx_scan from pg_stat_user_indexes where indexrelname = %s) as index, "
        "(select seq_scan from pg_stat_user_tables where relname = 'evaluation_log') as whole"
    )
    before = store.sql(used, [index])[0]
    with psycopg.connect(store.dsn, row_factory=dict_row) as owner:
        answer = call(owner, function, p_model_name=MODEL_NAME, **window, **more)
        owner.execute("select pg_stat_force_next_flush()")
    assert answer
    after = store.sql(used, [index])[0]
    assert after["index"] > before["index"]
    assert after["whole"] == before["whole"]


def test_pages_follow_each_other_without_a_gap(store: Database) -> None:
    fill_log(store, 3_000)
    pages, key = [], dict[str, Any]()
    while page := as_service(
        store,
        "read_evaluation_events",
        p_model_name=MODEL_NAME,
        p_labelled_only=False,
        p_rows=400,
        **EVER,
        **key,
    ):
        pages.append(page)
        key = {
            "p_after_known_at": page[-1][-1],
            "p_after_event_id": page[-1][1],
        }
    read = [row[1] for page in pages for row in page]
    kept = store.sql(
        "select event_id::text from evaluation_log where model_name = %s "
        "order by known_at, event_id",
        [MODEL_NAME],
    )
    assert read == [row["event_id"] for row in kept]


# -------------------------------------------------------------------------------------- races


def test_of_many_claimers_each_request_has_one(store: Database) -> None:
    for number in range(15):
        as_service(store, "submit_retraining_request", p_request=request_row(number))
    got = race(
        20,
        lambda number: as_service(
            store,
            "claim_retraining_request",
            p_model_name=MODEL_NAME,
            p_run_id=make_id(100 + number),
            p_now=NOW,
            p_lease_until=NOW + timedelta(minutes=1),
        ),
    )
    claimed = [row["id"] for row in got if row is not None]
    assert sorted(claimed) == [make_id(number) for number in range(15)]
    rows = store.sql("select status, attempts, retraining_run_id from model_retraining_requests")
    assert {(row["status"], row["attempts"]) for row in rows} == {("processing", 1)}
    assert len({row["retraining_run_id"] for row in rows}) == 15


def test_of_racing_promotions_one_wins(store: Database) -> None:
    names = [f"c-{number}" for number in range(10)]
    for name in ("m-1", *names):
        as_service(store, "register_model", p_model=model_row(name))
    first = race(
        2,
        lambda number: as_service(
            store, "promote_model", p_event=promotion_row(number, "m-1", None)
        ),
    )
    assert codes(first) == ["MLP05"]
    got = race(
        10,
        lambda number: as_service(
            store, "promote_model", p_event=promotion_row(10 + number, names[number], "m-1")
        ),
    )
    assert codes(got) == ["MLP05"] * 9
    rows = store.sql("select model_id, is_active from model_metadata where state = 'champion'")
    (winner,) = [row for row in got if not isinstance(row, psycopg.Error)]
    assert rows == [{"model_id": winner["model_id"], "is_active": True}]
    assert len(store.sql("select 1 from model_promotion_events")) == 2


def test_nobody_becomes_champion_past_the_promotion(store: Database) -> None:
    for name in ("m-1", "m-2"):
        as_service(store, "register_model", p_model=model_row(name))
    as_service(store, "promote_model", p_event=promotion_row(1, "m-1", None))
    with pytest.raises(errors.UniqueViolation), connected(store, "service_role") as service:
        run(service, "update model_metadata set state = 'champion'")
    with connected(store, "service_role") as service:
        run(service, "update model_metadata set is_active = true")
    rows = store.sql("select model_id from model_metadata where is_active")
    assert rows == [{"model_id": "m-1"}]


def test_of_racing_runs_one_is_running(store: Database) -> None:
    got = race(
        10,
        lambda number: as_service(store, "start_retraining_run", p_run=run_row(number)),
    )
    assert codes(got) == ["MLP01"] * 9
    with pytest.raises(errors.UniqueViolation), connected(store, "service_role") as service:
        run(
            service,
            "insert into model_retraining_runs (model_name, source, status) "
            "values (%s, 'manual', 'running')",
            MODEL_NAME,
        )


# ------------------------------------------------------------------------------------- limits


def ask(database: Database, user: str = USER, **changes: object) -> Any:  # noqa: ANN401
    """What a signed-in user gets for a request."""
    with connected(database, "authenticated", user) as client:
        return call(client, "submit_retraining_request", p_request={"reason": "please", **changes})


def test_a_user_asks_as_themselves_and_now(store: Database) -> None:
    row = ask(
        store,
        requested_by=OTHER_USER,
        status="completed",
        created_at="1990-01-01T00:00:00Z",
        attempts=7,
        retraining_run_id=make_id(1),
        priority="high",
    )
    assert (row["requested_by"], row["status"], row["attempts"]) == (USER, "pending", 0)
    assert (row["priority"], row["retraining_run_id"]) == ("high", None)
    assert datetime.fromisoformat(row["created_at"]) > NOW - timedelta(days=365)


def test_asking_again_under_the_same_id_is_one_request(store: Database) -> None:
    first = ask(store, id=make_id(1))
    assert ask(store, id=make_id(1)) == first
    with pytest.raises(psycopg.Error) as caught:
        ask(store, id=make_id(1), reason="another")
    assert caught.value.sqlstate == "MLP04"
    with pytest.raises(psycopg.Error) as caught:
        ask(store, OTHER_USER, id=make_id(1))
    assert caught.value.sqlstate == "MLP04"


def test_a_user_has_so_many_open_requests_and_no_more(store: Database) -> None:
    rows = [ask(store) for _ in range(OPEN_PER_USER)]
    with pytest.raises(psycopg.Error) as caught:
        ask(store)
    assert caught.value.sqlstate == "MLP06"
    assert ask(store, OTHER_USER)["status"] == "pending"
    with connected(store, "authenticated", USER) as client:
        cancelled = call(client, "cancel_retraining_request", p_request_id=rows[0]["id"])
    assert cancelled["status"] == "cancelled"
    assert cancelled["processed_at"]
    assert ask(store)["status"] == "pending"


def test_the_limit_holds_against_inserts_past_the_function(store: Database) -> None:
    insert = "insert into model_retraining_requests (requested_by, status) values (%s, %s)"
    several = f"{insert}, {', '.join(['(%s, %s)'] * OPEN_PER_USER)}"
    with pytest.raises(psycopg.Error) as caught, connected(store, "authenticated", USER) as client:
        run(client, several, *([USER, "pending"] * (OPEN_PER_USER + 1)))
    assert caught.value.sqlstate == "MLP06"

    def act(_: int) -> None:
        with connected(store, "authenticated", USER) as client:
            run(client, insert, USER, "pending")

    assert codes(race(8, act)) == ["MLP06"] * 5
    assert len(store.sql("select 1 from model_retraining_requests")) == OPEN_PER_USER


def test_all_users_together_have_a_limit(store: Database) -> None:
    store.sql("update ml_pipeline_limits set value = 2 where name = 'open_requests_total'")
    # What the service asks for is none of theirs.
    as_service(store, "submit_retraining_request", p_request=request_row(1, model_name="default"))
    ask(store)
    ask(store, OTHER_USER)
    with pytest.raises(psycopg.Error) as caught:
        ask(store, make_id(903))
    assert caught.value.sqlstate == "MLP06"
    as_service(store, "submit_retraining_request", p_request=request_row(2, model_name="default"))


# ------------------------------------------------------------------------------------- access


def test_anonymous_callers_have_no_rights_at_all(store: Database) -> None:
    rights = store.sql("""
        select relname as name
        from pg_class
        where relnamespace = 'public'::regnamespace and case
            when relkind = 'r' then
                has_table_privilege('anon', oid, 'delete, truncate, trigger')
                or has_any_column_privilege('anon', oid, 'select, insert, update, references')
            when relkind = 'S' then has_sequence_privilege('anon', oid, 'usage, select, update')
        end
        union all
        select proname from pg_proc
        where pronamespace = 'public'::regnamespace
          and has_function_privilege('anon', oid, 'execute')
    """)
    assert rights == []


def test_signed_in_users_call_their_two_functions_only(store: Database) -> None:
    rows = store.sql("""
        select proname from pg_proc where pronamespace = 'public'::regnamespace
        and has_function_privilege('authenticated', oid, 'execute')
    """)
    assert {row["proname"] for row in rows} == FOR_USERS


def test_signed_in_users_touch_runs_and_requests_only(store: Database) -> None:
    rows = store.sql("""
        select relname, privilege
        from pg_class,
             unnest(array['select', 'insert', 'update', 'delete', 'truncate']) as privilege
        where relnamespace = 'public'::regnamespace and relkind = 'r'
          and case when privilege in ('delete', 'truncate')
                   then has_table_privilege('authenticated', oid, privilege)
                   else has_any_column_privilege('authenticated', oid, privilege) end
        order by 1, 2
    """)
    assert [(row["relname"], row["privilege"]) for row in rows] == [
        ("model_retraining_requests", "insert"),
        ("model_retraining_requests", "select"),
        ("model_retraining_requests", "update"),
        ("model_retraining_runs", "select"),
    ]


def test_every_table_has_row_level_security(store: Database) -> None:
    rows = store.sql("""
        select relname from pg_class
        where relnamespace = 'public'::regnamespace and relkind = 'r' and not relrowsecurity
    """)
    assert rows == []


def test_users_read_runs_and_their_own_requests(store: Database) -> None:
    as_service(store, "start_retraining_run", p_run=run_row(1))
    mine, theirs = (ask(store, user, model_name=MODEL_NAME) for user in (USER, OTHER_USER))
    with connected(store, "authenticated", USER) as client:
        seen = run(client, "select id, status, outcome, metrics from model_retraining_runs")
        assert [row["status"] for row in seen] == ["running"]
        rows = run(client, "select id::text from model_retraining_requests")
    assert rows == [{"id": mine["id"]}]
    with connected(store, "authenticated") as nobody:
        assert run(nobody, "select * from model_retraining_requests") == []
    with pytest.raises(psycopg.Error) as caught, connected(store, "authenticated", USER) as client:
        call(client, "cancel_retraining_request", p_request_id=theirs["id"])
    assert caught.value.sqlstate == "MLP03"


@pytest.mark.parametrize(
    "values",
    [
        {"requested_by": OTHER_USER},
        {"requested_by": USER, "status": "completed"},
        {"requested_by": USER, "status": "processing"},
        {"requested_by": USER, "created_at": "1990-01-01T00:00:00Z"},
        {"requested_by": USER, "retraining_run_id": make_id(1)},
        {"requested_by": USER, "attempts": 0},
    ],
    ids=str,
)
def test_users_insert_nothing_but_their_own_pending_requests(store: Database, values: Row) -> None:
    query = sql.SQL("insert into model_retraining_requests ({}) values ({})").format(
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join(map(sql.Placeholder, values)),
    )
    with (
        pytest.raises((errors.InsufficientPrivilege, errors.CheckViolation)),
        connected(store, "authenticated", USER) as client,
    ):
        client.execute(query, values)
    assert store.sql("select 1 from model_retraining_requests") == []


@pytest.mark.parametrize("status", ["processing", "completed", "failed", "pending"])
def test_users_change_nothing_but_pending_to_cancelled(store: Database, status: str) -> None:
    row = ask(store)
    query = "update model_retraining_requests set status = %s where id = %s"
    with (
        pytest.raises((errors.InsufficientPrivilege, errors.CheckViolation)),
        connected(store, "authenticated", USER) as client,
    ):
        run(client, query, status, row["id"])
    with connected(store, "authenticated", USER) as client:
        run(client, query, "cancelled", row["id"])
        run(client, query, "cancelled", row["id"])
    kept = store.sql("select status, processed_at from model_retraining_requests")[0]
    assert kept["status"] == "cancelled"
    assert kept["processed_at"] is not None


def test_users_do_not_cancel_for_others_or_in_work(store: Database) -> None:
    theirs = ask(store, OTHER_USER)
    as_service(store, "register_model", p_model=model_row("m-1"))
    mine = ask(store, model_name=MODEL_NAME)
    as_service(
        store,
        "claim_retraining_request",
        p_model_name=MODEL_NAME,
        p_run_id=make_id(1),
        p_now=NOW,
        p_lease_until=NOW + timedelta(minutes=1),
    )
    with connected(store, "authenticated", USER) as client:
        run(client, "update model_retraining_requests set status = 'cancelled'")
    rows = store.sql("select id::text, status from model_retraining_requests")
    states = {row["id"]: row["status"] for row in rows}
    assert states == {theirs["id"]: "pending", mine["id"]: "processing"}
    with pytest.raises(psycopg.Error) as caught, connected(store, "authenticated", USER) as client:
        call(client, "cancel_retraining_request", p_request_id=mine["id"])
    assert caught.value.sqlstate == "MLP02"


def test_functions_have_a_fixed_search_path(store: Database) -> None:
    rows = store.sql("""
        select proname from pg_proc
        where pronamespace = 'public'::regnamespace and not coalesce(proconfig, '{}') @> case
            when prosecdef then array['search_path=pg_catalog, pg_temp']
            else array['search_path=pg_catalog, public, pg_temp']
        end
    """)
    assert rows == []


# ----------------------------------------------------------------------------------- watching


def test_without_system_events_an_event_goes_to_learning_events(store: Database) -> None:
    event = {"event_id": make_id(1), "event_type": "model_retrain", "at": NOW.isoformat(),
             "model_name": MODEL_NAME, "message": "triggered",
             "metadata": {"exit_code": 3}}  # fmt: skip
    for _ in range(2):
        answer = as_service(store, "record_system_event", p_event=event)
        assert answer == [{"table": "system_events"}]
    assert len(store.sql("select * from system_events")) == 1
    store.sql("drop table system_events")
    for _ in range(2):
        answer = as_service(store, "record_system_event", p_event=event)
        assert answer == [{"table": "learning_events"}]
    (row,) = store.sql("select * from learning_events")
    assert (row["event_type"], row["created_at"], row["message"]) == (
        "model_retrain", NOW, "triggered",
    )  # fmt: skip
    assert row["metadata"] == {"exit_code": 3, "event_id": make_id(1)}


def test_learning_cycles_come_newest_first_and_without_a_rate_not_at_all(store: Database) -> None:
    store.sql(
        "insert into learning_stats (timestamp, accept_rate, total, model_name, metadata) values "
        "(%s, 0.5, 40, 'football', '{\"model_id\": \"m-1\"}'), (%s, 0.75, null, 'football', '{}'), "
        "(%s, null, 9, 'football', '{}'), (%s, 0.1, 9, 'tennis', '{}')",
        [NOW - timedelta(hours=1), NOW, NOW, NOW],
    )
    found = as_service(store, "list_learning_cycles", p_model_name="football", p_limit=5)
    assert [(row["accept_rate"], row["total"], row["model_id"]) for row in found] == [
        (0.75, None, None), (0.5, 40, "m-1"),
    ]  # fmt: skip


def test_learning_cycles_of_a_version_are_not_crowded_out_by_another(store: Database) -> None:
    store.sql(
        "insert into learning_stats (timestamp, accept_rate, model_name, model_id, metadata) "
        "values "
        "(%s, 0.1, 'football', null, '{\"model_id\": \"llm-1\"}'), "
        "(%s, 0.2, 'football', 'llm-1', '{}'), (%s, 0.3, 'football', null, '{}'), "
        "(%s, 0.4, 'football', 'llm-2', '{}'), (%s, 0.5, 'tennis', 'llm-1', '{}')",
        [NOW + timedelta(hours=number) for number in range(5)],
    )

    def rates(*model_ids: str) -> list[float]:
        query = "select list_learning_cycles_of('football', %s::text[], 3) as found"
        (row,) = store.sql(query, [list(model_ids)])
        return [cycle["accept_rate"] for cycle in row["found"]]

    assert rates("llm-1") == [0.3, 0.2, 0.1]
    assert rates("llm-2") == [0.4, 0.3]
    assert rates("it's") == [0.3]


# ------------------------------------------------------------------------------------ storage


def test_the_buckets_are_private_and_without_policies(database: Database) -> None:
    database.sql(
        "insert into storage.buckets (id, name, public) values ('ml-models', 'ml-models', true)"
    )
    database.sql(
        'create policy "Service role full access" on storage.objects for all '
        "using (bucket_id = 'ml-models') with check (bucket_id = 'ml-models')"
    )
    upgrade(database)
    upgrade(database)
    rows = database.sql("select id, public from storage.buckets order by id")
    assert rows == [
        {"id": "ml-models", "public": False},
        {"id": "model-artifacts", "public": False},
    ]
    assert database.sql("select 1 from pg_policies where schemaname = 'storage'") == []
