"""What anybody can read: a marker in every column, and everything that each caller can get.

`CLASSES` says of every column of ours whose it is. One that is there and not here, or the other
way round, fails: no column comes without a decision.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from tests.contract.supabase.callers import (
    OTHER,
    REQUESTS,
    RUN_COLUMNS,
    USER,
    Caller,
    Callers,
    Row,
    everything,
    migrate,
    open_callers,
)
from tests.support.factories import make_id
from tests.support.supabase.project import SupabaseProject

STRANGERS = {"anon": "", "user": USER, "other": OTHER}
SERVICE, SIGNED_IN, OWN = "the service role alone", "every signed-in user", "whoever asked"

CLASSES: Mapping[str, Mapping[str, str]] = {
    "evaluation_log": {
        SERVICE: "event_id timestamp event_type model_id match_id prediction actual_result "
        "confidence accuracy metadata status model_name features probabilities evaluated_at "
        "known_at"
    },
    "evaluation_log_changes": {SERVICE: "change_id model_name day kind changed_at"},
    "evaluation_log_erased": {SERVICE: "event_hash model_name erased_at"},
    "learning_events": {SERVICE: "id event_type created_at model_name message metadata"},
    "learning_stats": {
        SERVICE: "id timestamp accept_rate accepted total model_name metadata model_id"
    },
    "ml_data": {SERVICE: "id created_at model_name query features label source metadata"},
    "ml_pipeline_leases": {SERVICE: "name holder taken_at until"},
    "ml_pipeline_limits": {SERVICE: "name value"},
    "ml_pipeline_schema_version": {SERVICE: "version name applied_at"},
    "model_metadata": {
        SERVICE: "model_name model_id version accuracy f1_score confidence_threshold "
        "training_timestamp is_active metrics created_at updated_at algorithm artifact_bucket "
        "artifact_path artifact_digest artifact_size artifact_format state anchor_id parent_id "
        "run_id lineage library_versions pruned_at"
    },
    "model_promotion_events": {
        SERVICE: "sequence event_id model_name kind to_model_id from_model_id reason actor "
        "created_at run_id verdict"
    },
    "model_scoring": {
        SERVICE: "model_name model_id written_at trouble scoring_digest settings_digest format "
        "features kinds classes base_classes members mean scale level_features level_ends "
        "known_levels confidence_threshold conflict_margin imputes labels is_open tolerance "
        "shares_labels places numbers"
    },
    "model_retraining_requests": {
        OWN: "id requested_by reason priority status processed_at retraining_run_id created_at "
        "updated_at model_name attempts claimed_at lease_until error_message priority_rank by_user"
    },
    "model_retraining_runs": {
        SIGNED_IN: "id source dataset_size fine_tune_flag status metrics started_at completed_at "
        "log_url created_at updated_at model_name heartbeat_at training_rows outcome champion_id "
        "challenger_id training_digest holdout_digest config_digest git_sha",
        SERVICE: "error_message triggered_by outcome_reason details",
    },
    "prediction_accuracy_daily": {
        SERVICE: "model_name day model_id evaluated correct uncertain log_loss details updated_at "
        "accuracy"
    },
    "prediction_decay_events": {
        SERVICE: "id model_name model_id detected_at metric baseline recent drop_size threshold "
        "baseline_rows recent_rows window_start window_end message request_id run_id resolved_at "
        "details cause severity status updated_at action action_state acted_at attempts fruitless "
        "needs_person"
    },
    "system_events": {SERVICE: "id event_type timestamp model_name message metadata"},
    "storage.buckets": {
        SERVICE: "id name owner owner_id public avif_autodetection file_size_limit "
        "allowed_mime_types created_at updated_at"
    },
    "storage.objects": {
        SERVICE: "id bucket_id name owner owner_id version metadata user_metadata path_tokens "
        "created_at updated_at last_accessed_at"
    },
}
# Functions that signed-in users may call, with arguments that reach for somebody else's.
CALLS: Mapping[str, Row] = {
    "cancel_retraining_request": {"p_request_id": "THEIRS"},
    "ml_pipeline_caller": {},
    "ml_pipeline_differences": {"p_known": {}, "p_given": {"a": 1}, "p_columns": ["a"]},
    "submit_retraining_request": {"p_request": {"id": "THEIRS", "model_name": "default"}},
}
COLUMNS = """
    select nspname as schema, relname as table, attname as column,
           format_type(atttypid, null) as type,
           attgenerated <> '' or attidentity <> '' as made
    from pg_attribute
    join pg_class on pg_class.oid = attrelid
    join pg_namespace on pg_namespace.oid = relnamespace
    where nspname in ('public', 'storage') and relkind in ('r', 'p', 'v', 'm', 'f')
      and attnum > 0 and not attisdropped
    order by 1, 2, attnum
"""
# Columns whose values a check or a key chooses. What is short or common is no marker.
FIXED: Mapping[str, object] = {
    "evaluation_log_changes.kind": "erased",
    "evaluation_log_erased.event_hash": "e" * 64,
    "model_metadata.state": "retired",
    "model_metadata.artifact_digest": f"sha256:{'d' * 64}",
    "model_promotion_events.model_name": "mark model_metadata.model_name",
    "model_promotion_events.to_model_id": "mark model_metadata.model_id",
    "model_promotion_events.from_model_id": "mark model_metadata.model_id",
    "model_promotion_events.kind": "rollback",
    "model_retraining_requests.priority": "low",
    "model_retraining_requests.status": "failed",
    "model_retraining_requests.lease_until": None,
    "model_retraining_runs.source": "manual",
    "model_retraining_runs.status": "failed",
    "model_retraining_runs.outcome": "failed",
    "prediction_accuracy_daily.evaluated": 900_003,
    "prediction_accuracy_daily.correct": 900_001,
    "prediction_accuracy_daily.uncertain": 900_002,
    "prediction_decay_events.severity": "severe",
    "prediction_decay_events.status": "resolved",
    "prediction_decay_events.action_state": "failed",
    "storage.objects.bucket_id": "ml-models",
}


def named(row: Row) -> str:
    prefix = "" if row["schema"] == "public" else f"{row['schema']}."
    return f"{prefix}{row['table']}"


def marker(place: str, number: int, type_: str) -> object:
    """A value of that type which stands nowhere else."""
    fraction = 0.123456 + number / 1_000_000_000
    values: dict[str, object] = {
        "text": f"mark {place}",
        "jsonb": Jsonb({f"mark {place}": [f"mark {place} inside"]}),
        "uuid": str(uuid5(NAMESPACE_OID, place)),
        "double precision": fraction,
        "integer": 700_000 + number,
        "bigint": 700_000 + number,
        "smallint": 7,
        "boolean": True,
        "date": f"{2100 + number}-01-01",
        "timestamp with time zone": f"{2100 + number}-01-01T00:00:00+00:00",
        "text[]": [f"mark {place}"],
        "integer[]": [700_000 + number],
        "double precision[]": [fraction],
        "interval": f"{700_000 + number} seconds",
    }
    return values[type_]


def needle(value: object) -> str | None:
    """How the value is found in an answer; None for what could stand there by chance."""
    if isinstance(value, Jsonb):
        return str(next(iter(value.obj)))
    if isinstance(value, list):
        return str(value[0])
    if isinstance(value, bool) or value is None:
        return None
    text = str(value)
    return text.removesuffix("T00:00:00+00:00") if len(text) > 5 else None


@pytest.fixture(scope="module")
def schema(supabase: SupabaseProject) -> Iterator[SupabaseProject]:
    supabase.blank()
    migrate(supabase)
    yield supabase
    supabase.blank()


@pytest.fixture(scope="module")
def marked(schema: SupabaseProject) -> tuple[SupabaseProject, dict[str, str]]:
    """A project with a marker in every column that takes one, and where each marker stands.

    Of requests there are two, whose places end in `of USER` and `of OTHER`. A column that a check
    or a key restricts gets its value from `FIXED`.
    """
    found: dict[str, str] = {}
    columns = schema.sql(COLUMNS)
    number = 0
    for table in dict.fromkeys(named(row) for row in columns):
        for owner in (USER, OTHER) if table == REQUESTS else (None,):
            whose = "" if owner is None else f" of {owner}"
            values: Row = {}
            for column in (row for row in columns if named(row) == table and not row["made"]):
                number += 1
                place = f"{table}.{column['column']}"
                value = marker(f"{place}{whose}", number, column["type"])
                if place in FIXED:
                    value = FIXED[place]
                elif place == f"{REQUESTS}.requested_by":
                    value = owner
                elif (text := needle(value)) is not None:
                    found[f"{place}{whose}"] = text
                values[column["column"]] = value
            query = sql.SQL("insert into {} ({}) values ({})").format(
                sql.Identifier(*table.split(".")),
                sql.SQL(", ").join(map(sql.Identifier, values)),
                sql.SQL(", ").join(map(sql.Placeholder, values)),
            )
            schema.sql(query.as_string(), values)
    # Triggers set some of them anew.
    stored = json.dumps(everything(schema), default=str)
    return schema, {place: text for place, text in found.items() if text in stored}


@pytest.fixture(scope="module")
def callers(marked: tuple[SupabaseProject, dict[str, str]]) -> Iterator[Callers]:
    with open_callers(marked[0]) as opened:
        yield opened


def classed(table: str) -> dict[str, str]:
    return {name: who for who, names in CLASSES[table].items() for name in names.split()}


def test_every_column_is_classed(schema: SupabaseProject) -> None:
    there: dict[str, set[str]] = {}
    for row in schema.sql(COLUMNS):
        there.setdefault(named(row), set()).add(row["column"])
    assert there == {table: set(classed(table)) for table in CLASSES}
    assert set(RUN_COLUMNS) == {
        name for name, who in classed("model_retraining_runs").items() if who == SIGNED_IN
    }


def test_nearly_every_column_holds_a_marker(
    marked: tuple[SupabaseProject, dict[str, str]],
) -> None:
    """The rest are flags, counts, and words and keys that a check or another row chooses."""
    assert len(marked[1]) > 0.75 * sum(len(classed(table)) for table in CLASSES)


def test_every_function_that_a_stranger_may_call_is_called_here(
    marked: tuple[SupabaseProject, dict[str, str]],
) -> None:
    query = """
        select proname from pg_proc
        where pronamespace = 'public'::regnamespace and has_function_privilege(%s, oid, 'execute')
          and prorettype <> 'trigger'::regtype
    """
    found = {
        role: {row["proname"] for row in marked[0].sql(query, [role])}
        for role in ("anon", "authenticated")
    }
    assert found == {"anon": set(), "authenticated": set(CALLS)}


def everything_read(caller: Caller) -> str:
    """All that the caller gets to see by asking every table, column, function and bucket."""
    answers = [caller.send("GET", "/rest/v1/").text]
    for table in CLASSES:
        # PostgREST shows `public` alone; asking for another schema is tried as well.
        schema, _, name = table.rpartition(".")
        headers = {"Accept-Profile": schema or "public", "Prefer": "count=exact"}
        for columns in ("*", *classed(table)):
            path = f"/rest/v1/{name}"
            answer = caller.send("GET", path, query={"select": columns}, headers=headers)
            answers.append(answer.text)
    for function, arguments in CALLS.items():
        for theirs in (uuid5(NAMESPACE_OID, f"{REQUESTS}.id of {who}") for who in (USER, OTHER)):
            sent = json.loads(json.dumps(arguments).replace("THEIRS", str(theirs)))
            answers.append(caller.call(function, **sent).text)
    for bucket in ("ml-models", "model-artifacts"):
        listing = {"prefix": "", "limit": 100}
        place = "mark storage.objects.name"
        answers += [
            caller.send("POST", f"/storage/v1/object/list/{bucket}", listing).text,
            caller.send("GET", f"/storage/v1/bucket/{bucket}").text,
            *(
                caller.send("GET", f"/storage/v1/object{kind}/{bucket}/{place}").text
                for kind in ("", "/public", "/authenticated", "/info")
            ),
            caller.send(
                "POST", f"/storage/v1/object/sign/{bucket}/{place}", {"expiresIn": 60}
            ).text,
        ]
    return "\n".join([*answers, caller.send("GET", "/storage/v1/bucket").text])


def expected(who: str, found: Mapping[str, str]) -> set[str]:
    """The places whose markers that caller may see."""
    mine: set[str] = set()
    for place in found:
        spot, _, owner = place.partition(" of ")
        table, _, column = spot.rpartition(".")
        whose = classed(table)[column]
        if who != "anon" and (whose == SIGNED_IN or (whose == OWN and owner == STRANGERS[who])):
            mine.add(place)
    return mine


@pytest.mark.parametrize("who", STRANGERS)
def test_s1_a_caller_reads_what_is_theirs_and_nothing_of_others_or_of_the_log(
    marked: tuple[SupabaseProject, dict[str, str]], callers: Callers, who: str
) -> None:
    project, found = marked
    before = everything(project)
    read = everything_read(callers[who])
    # A refusal repeats what was asked for: the ids of the functions' arguments, the file's name.
    asked = {f"{REQUESTS}.id of {owner}" for owner in (USER, OTHER)} | {"storage.objects.name"}
    seen = {place for place, text in found.items() if text in read}
    assert seen - asked == expected(who, found) - asked
    assert everything(project) == before


WRITES = {
    ("authenticated", "INSERT"): {
        f"{REQUESTS}.{column}"
        for column in ("id", "model_name", "requested_by", "reason", "priority", "status")
    },
    ("authenticated", "UPDATE"): {f"{REQUESTS}.status"},
}


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_s1_a_caller_writes_these_columns_and_deletes_nothing(
    marked: tuple[SupabaseProject, dict[str, str]], role: str
) -> None:
    for what in ("INSERT", "UPDATE", "REFERENCES"):
        held = marked[0].sql(
            """
            select relname || '.' || attname as place
            from pg_attribute join pg_class on pg_class.oid = attrelid
            where relnamespace = 'public'::regnamespace and relkind = 'r' and attnum > 0
              and has_column_privilege(%s, attrelid, attnum, %s)
            """,
            [role, what],
        )
        places = {row["place"] for row in held}
        assert places == WRITES.get((role, what), set()), what
    whole = marked[0].sql(
        """
        select relname, what from pg_class, unnest(array['DELETE', 'TRUNCATE', 'TRIGGER']) as what
        where relnamespace = 'public'::regnamespace and relkind = 'r'
          and has_table_privilege(%s, oid, what)
        """,
        [role],
    )
    assert whole == []


@pytest.mark.parametrize("who", STRANGERS)
def test_s1_writing_reads_nothing_and_changes_nothing_of_others(
    marked: tuple[SupabaseProject, dict[str, str]], callers: Callers, who: str
) -> None:
    project, found = marked
    before = everything(project)
    read: list[Any] = []
    for table in CLASSES:
        if "." in table:
            continue
        key = next(iter(classed(table)))
        for method, query in (("PATCH", {key: "not.is.null"}), ("DELETE", {key: "not.is.null"})):
            read.append(callers[who].table(method, table, {key: None}, **query).text)
        upsert = callers[who].table(
            "POST", table, {key: make_id(77)}, prefer="resolution=merge-duplicates"
        )
        read.append(upsert.text)
    text = "\n".join(read)
    assert {place for place, marked_ in found.items() if marked_ in text} <= expected(who, found)
    made = "delete from model_retraining_requests where id = %s"
    project.sql(made, [make_id(77)])
    assert everything(project) == before
