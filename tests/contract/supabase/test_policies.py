"""Who may do what on Supabase, asked over HTTP and judged by what the database holds afterwards.

The tables below are the decisions. What is in the catalogue and not here, or here and
not in the catalogue, fails a test: nothing of ours comes without a decision.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple

import pytest

from ml_pipeline.store.scoring.grants import GRANTABLE
from ml_pipeline.store.supabase.tables import to_json
from tests.contract.supabase.callers import (
    REQUESTS,
    RUN_COLUMNS,
    USER,
    Caller,
    Callers,
    Row,
    code_of,
    everything,
    insert,
    migrate,
    open_callers,
    rows,
    seen_runs,
)
from tests.support.factories import DIGEST, MODEL_NAME, NOW, make_alert, make_id
from tests.support.supabase.project import SupabaseProject

CALLERS = ("anon", "user", "other", "service")
REFUSED = "42501"
RUNS = "model_retraining_runs"

NOBODY: frozenset[str] = frozenset()
ASK = frozenset({"select", "insert", "update"})
ALL = frozenset({"select", "insert", "update", "delete"})
SERVICE_ONLY = {"anon": NOBODY, "user": NOBODY, "other": NOBODY, "service": ALL}

# What comes of it when each tries everything with the table's sample; the request is `user`'s.
WHO_MAY = {
    "evaluation_log": SERVICE_ONLY,
    "evaluation_log_changes": SERVICE_ONLY,
    "evaluation_log_erased": SERVICE_ONLY,
    "learning_events": SERVICE_ONLY,
    "learning_stats": SERVICE_ONLY,
    "ml_data": SERVICE_ONLY,
    "ml_pipeline_leases": SERVICE_ONLY,
    "ml_pipeline_limits": SERVICE_ONLY,
    "ml_pipeline_schema_version": SERVICE_ONLY,
    "model_metadata": SERVICE_ONLY,
    "model_promotion_events": SERVICE_ONLY,
    "model_scoring": SERVICE_ONLY,
    "model_retraining_requests": {
        "anon": NOBODY,
        "user": ASK,
        "other": frozenset({"insert"}),
        "service": ALL,
    },
    # Users read some of the columns, and whoever asks for all is refused.
    "model_retraining_runs": SERVICE_ONLY,
    "prediction_accuracy_daily": SERVICE_ONLY,
    "prediction_decay_events": SERVICE_ONLY,
    "system_events": SERVICE_ONLY,
}
# Allowed, but the row is not theirs: nothing is found, and nothing about it is shown.
FINDS_NOTHING = {("model_retraining_requests", "other"): {"select", "update"}}

SERVICE = frozenset({"service"})
SIGNED_IN = frozenset({"user", "other", "service"})
WHO_CALLS = {
    "redact_retraining_run": SERVICE,
    "list_runs_that_name": SERVICE,
    "list_erased_events": SERVICE,
    "erase_evaluation_events": SERVICE,
    "append_evaluation_events": SERVICE,
    "cancel_retraining_request": SIGNED_IN,
    "change_decay_alert": SERVICE,
    "claim_retraining_request": SERVICE,
    "complete_retraining_request": SERVICE,
    "count_evaluation_changes": SERVICE,
    "count_labelled_by_day": SERVICE,
    "drop_lease": SERVICE,
    "evaluations_in_order": SERVICE,
    "fail_retraining_request": SERVICE,
    "fail_stale_retraining_runs": SERVICE,
    "finish_retraining_run": SERVICE,
    "heartbeat_retraining_run": SERVICE,
    "keep_daily_accuracy": SERVICE,
    "list_daily_accuracy": SERVICE,
    "list_decay_alerts": SERVICE,
    "list_learning_cycles": SERVICE,
    "list_learning_cycles_of": SERVICE,
    "list_model_ids": SERVICE,
    "list_models": SERVICE,
    "list_models_in_state": SERVICE,
    "list_promotion_events": SERVICE,
    "list_retraining_requests": SERVICE,
    "list_retraining_runs": SERVICE,
    "list_retraining_runs_in_brief": SERVICE,
    "ml_pipeline_caller": SIGNED_IN,
    "ml_pipeline_check": SERVICE,
    "ml_pipeline_close_request": SERVICE,
    "count_answers": SERVICE,
    "label_delays": SERVICE,
    "ml_pipeline_differences": SIGNED_IN,
    "ml_pipeline_doctor": SERVICE,
    "ml_pipeline_etag": SERVICE,
    "ml_pipeline_expire_requests": SERVICE,
    "ml_pipeline_given_events": SERVICE,
    "ml_pipeline_given_run": SERVICE,
    "ml_pipeline_held_request": SERVICE,
    "ml_pipeline_history": SERVICE,
    "ml_pipeline_knows_model": SERVICE,
    "ml_pipeline_label": SERVICE,
    "ml_pipeline_lock": SERVICE,
    "ml_pipeline_logged_events": SERVICE,
    "ml_pipeline_relax": SERVICE,
    "ml_pipeline_retype": SERVICE,
    "ml_pipeline_run_columns": SERVICE,
    "ml_pipeline_schema": SERVICE,
    "ml_pipeline_series": SERVICE,
    "ml_pipeline_some": SERVICE,
    "ml_pipeline_unique": SERVICE,
    "open_decay_alert": SERVICE,
    "promote_model": SERVICE,
    "read_error_samples": SERVICE,
    "read_evaluation_events": SERVICE,
    "record_evaluation_outcomes": SERVICE,
    "record_system_event": SERVICE,
    "register_model": SERVICE,
    "release_retraining_request": SERVICE,
    "release_stale_retraining_requests": SERVICE,
    "prune_model": SERVICE,
    "prune_retraining_requests": SERVICE,
    "renew_retraining_leases": SERVICE,
    "sample_evaluation_events": SERVICE,
    "set_model_state": SERVICE,
    "start_retraining_run": SERVICE,
    "submit_retraining_request": SIGNED_IN,
    "submit_retraining_request_within": SERVICE,
    "sum_evaluations_by_day": SERVICE,
    "take_lease": SERVICE,
    "add_label": SERVICE,
    "correct": SERVICE,
    "ml_pipeline_add_label": SERVICE,
    "ml_pipeline_answer": SERVICE,
    "ml_pipeline_event_id": SERVICE,
    "ml_pipeline_is_blank": SERVICE,
    "ml_pipeline_is_trusted": SERVICE,
    "ml_pipeline_iso": SERVICE,
    "ml_pipeline_label_id": SERVICE,
    "ml_pipeline_level": SERVICE,
    "ml_pipeline_moment": SERVICE,
    "ml_pipeline_open": SERVICE,
    "ml_pipeline_read_cell": SERVICE,
    "ml_pipeline_read_class": SERVICE,
    "ml_pipeline_read_id": SERVICE,
    "ml_pipeline_read_incumbent": SERVICE,
    "ml_pipeline_read_label": SERVICE,
    "ml_pipeline_read_number": SERVICE,
    "ml_pipeline_read_row": SERVICE,
    "ml_pipeline_record_outcome": SERVICE,
    "ml_pipeline_refuse": SERVICE,
    "ml_pipeline_score": SERVICE,
    "ml_pipeline_sha1": SERVICE,
    "ml_pipeline_share": SERVICE,
    "ml_pipeline_short": SERVICE,
    "ml_pipeline_shown": SERVICE,
    "ml_pipeline_subject": SERVICE,
    "ml_pipeline_write_scoring": SERVICE,
    "predict": SERVICE,
    "predict_batch": SERVICE,
    "publish_model_scoring": SERVICE,
    "read_model_scoring": SERVICE,
    "record_outcome": SERVICE,
}
# Triggers are called by the database alone.
TRIGGERS = {
    "ml_pipeline_admit_request",
    "ml_pipeline_check_champion",
    "ml_pipeline_judge_event",
    "ml_pipeline_note_change",
    "ml_pipeline_skip_erased",
    "ml_pipeline_tidy_model",
    "ml_pipeline_tidy_request",
    "ml_pipeline_touch",
}

# What signed-in users see of their request.
REQUEST_COLUMNS = """
    id requested_by reason priority status processed_at retraining_run_id created_at updated_at
    model_name attempts claimed_at lease_until error_message priority_rank by_user
"""
MAY_SAY = {"id", "model_name", "priority", "reason", "requested_by", "status"}


class Sample(NamedTuple):
    """A row that is there, one to add, and a change. The first column is the key."""

    row: Row
    new: Row
    change: Row


def model_row(model_id: str, **changes: object) -> Row:
    return {
        "model_id": model_id,
        "model_name": MODEL_NAME,
        "algorithm": "LogisticRegression",
        "artifact_bucket": "ml-models",
        "artifact_path": f"{MODEL_NAME}/{model_id}/model.skops",
        "artifact_digest": DIGEST,
        "artifact_size": 2048,
        "anchor_id": model_id,
        "created_at": NOW.isoformat(),
        **changes,
    }


def run_row(number: int, **changes: object) -> Row:
    at = NOW.isoformat()
    row = {"id": make_id(number), "model_name": MODEL_NAME, "source": "manual"}
    return {**row, "status": "running", "started_at": at, "heartbeat_at": at, **changes}


def promotion_row(number: int, to: str, **changes: object) -> Row:
    row = {"event_id": make_id(number), "model_name": MODEL_NAME, "kind": "promotion"}
    return {**row, "to_model_id": to, "reason": "better", "actor": "test", **changes}


# What a row has to say beside its name.
SCORING = {
    "model_id": "m-1", "trouble": "theirs", "settings_digest": DIGEST, "confidence_threshold": 0.5,
    "conflict_margin": 0.1, "imputes": True, "labels": {}, "is_open": True, "tolerance": "1 minute",
    "shares_labels": False,
}  # fmt: skip


def plain(column: str, old: object, new: object, **more: object) -> Sample:
    """Rows that differ in one column."""
    return Sample({"id": make_id(1), column: old, **more}, {column: new, **more}, {column: new})


SAMPLES = {
    "evaluation_log": Sample(
        {"event_id": make_id(1), "prediction": "H", "confidence": 0.9},
        {"event_id": make_id(2), "prediction": "A"},
        {"actual_result": "A"},
    ),
    "evaluation_log_changes": Sample(
        {
            "change_id": 901,
            "model_name": "sample",
            "day": "2026-03-01",
            "kind": "corrected",
        },
        {"change_id": 902, "model_name": "mine", "day": "2026-03-01", "kind": "corrected"},
        {"kind": "erased"},
    ),
    "evaluation_log_erased": Sample(
        {"event_hash": "a" * 64, "model_name": "sample"},
        {"event_hash": "b" * 64, "model_name": "mine"},
        {"model_name": "mine"},
    ),
    "learning_events": plain("message", "theirs", "mine"),
    "learning_stats": plain("accept_rate", 0.5, 0.0),
    "ml_data": plain("label", "H", "A"),
    "ml_pipeline_leases": Sample(
        {"name": "sample", "holder": "a", "taken_at": "2026-03-01", "until": "2026-03-02"},
        {"name": "mine", "holder": "b", "taken_at": "2026-03-01", "until": "2026-03-02"},
        {"holder": "mine"},
    ),
    "ml_pipeline_limits": Sample(
        {"name": "sample", "value": 1}, {"name": "mine", "value": 9}, {"value": 1000}
    ),
    "ml_pipeline_schema_version": Sample(
        {"version": 900, "name": "sample"}, {"version": 901, "name": "mine"}, {"name": "mine"}
    ),
    "model_metadata": Sample(model_row("m-1"), model_row("m-2"), {"artifact_path": "mine"}),
    "model_promotion_events": Sample(
        promotion_row(1, "m-1"), promotion_row(2, "m-1"), {"reason": "mine"}
    ),
    "model_scoring": Sample(
        {"model_name": "sample", **SCORING}, {"model_name": "mine", **SCORING}, {"trouble": "mine"}
    ),
    "model_retraining_requests": Sample(
        {"id": make_id(1), "requested_by": USER, "status": "pending"},
        {"reason": "mine"},
        {"status": "cancelled"},
    ),
    "model_retraining_runs": Sample(run_row(1), run_row(2, status="pending"), {"status": "failed"}),
    "prediction_accuracy_daily": Sample(
        {"day": "2026-03-01", "model_name": MODEL_NAME},
        {"day": "2026-03-02", "model_name": MODEL_NAME},
        {"log_loss": 9.0},
    ),
    "prediction_decay_events": Sample(
        {"id": make_id(1), "model_name": MODEL_NAME, "baseline": 0.8, "recent": 0.7},
        {"model_name": MODEL_NAME, "cause": "input_drift", "baseline": 0.1, "recent": 0.7},
        {"baseline": 0.1},
    ),
    "system_events": plain("message", "theirs", "mine"),
}


@pytest.fixture(scope="module", autouse=True)
def shared_callers(supabase: SupabaseProject) -> Iterator[Callers]:
    supabase.blank()
    migrate(supabase)
    with open_callers(supabase) as opened:
        yield opened


@pytest.fixture
def callers(project: SupabaseProject, shared_callers: Callers) -> Callers:
    assert project.gateway.requests == []
    return shared_callers


# ------------------------------------------------------------------------------------- tables


def test_every_table_and_view_has_a_decision(supabase: SupabaseProject) -> None:
    found = supabase.sql("""
        select relname, relkind::text, relrowsecurity from pg_class
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f')
    """)
    assert {row["relname"] for row in found} == set(WHO_MAY) == set(SAMPLES)
    assert {(row["relkind"], row["relrowsecurity"]) for row in found} == {("r", True)}


def tried(project: SupabaseProject, caller: Caller, table: str) -> dict[str, str | None]:
    """Return what came of everything one can try: done, refused with a code, or nothing found."""
    sample = SAMPLES[table]
    key, value = next(iter(sample.row.items()))
    there = {key: f"eq.{value}"}
    seen = caller.table("GET", table, **there)
    outcome = {"select": "done" if seen.is_success and seen.json() else code_of(seen)}
    before = rows(project, table)
    for deed, method, body, query in (
        ("insert", "POST", sample.new, {}),
        ("update", "PATCH", sample.change, there),
        ("delete", "DELETE", None, there),
    ):
        # Without the rows in the answer: whoever may write may not always read.
        answer = caller.send(method, f"/rest/v1/{table}", body, query=query)
        after = rows(project, table)
        assert answer.is_success or after == before
        outcome[deed] = code_of(answer) if after == before else "done"
        before = after
    return outcome


@pytest.mark.parametrize("table", WHO_MAY)
def test_everyone_does_with_a_table_what_is_decided_and_no_more(
    project: SupabaseProject, callers: Callers, table: str
) -> None:
    if table == "model_promotion_events":
        insert(project, "model_metadata", model_row("m-1"))
    insert(project, table, SAMPLES[table].row)
    count = callers["anon"].send("HEAD", f"/rest/v1/{table}", headers={"Prefer": "count=exact"})
    assert "Content-Range" not in count.headers
    # The service comes last: what it may delete, the others must have met.
    outcomes = {who: tried(project, callers[who], table) for who in CALLERS}
    expected: dict[str, dict[str, str | None]] = {}
    for who, done in WHO_MAY[table].items():
        nothing = FINDS_NOTHING.get((table, who), set())
        refused = {deed: None if deed in nothing else REFUSED for deed in ALL}
        expected[who] = {**refused, **dict.fromkeys(done, "done")}
    assert outcomes == expected


def test_the_rights_in_the_catalogue_are_exactly_these(supabase: SupabaseProject) -> None:
    found = supabase.sql("""
        select relname, attname, grantee::regrole::text as who, privilege_type as what
        from (
            select oid, relname, null as attname, relacl as acl from pg_class
            where relnamespace = 'public'::regnamespace
            union all
            select attrelid, relname, attname, attacl
            from pg_attribute join pg_class on pg_class.oid = attrelid
            where relnamespace = 'public'::regnamespace
        ) as things, aclexplode(acl)
        where grantee not in ('postgres'::regrole, 'service_role'::regrole)
    """)
    assert {tuple(row.values()) for row in found} == {
        (REQUESTS, None, "authenticated", "SELECT"),
        (REQUESTS, "status", "authenticated", "UPDATE"),
        *((REQUESTS, column, "authenticated", "INSERT") for column in MAY_SAY),
        *((RUNS, column, "authenticated", "SELECT") for column in RUN_COLUMNS),
    }


def test_no_policy_is_for_anonymous_callers_or_for_everyone(supabase: SupabaseProject) -> None:
    found = supabase.sql(
        "select schemaname || '.' || tablename as name, roles, cmd from pg_policies"
    )
    assert sorted((row["name"], row["cmd"]) for row in found) == [
        (f"public.{REQUESTS}", "INSERT"),
        (f"public.{REQUESTS}", "SELECT"),
        (f"public.{REQUESTS}", "UPDATE"),
        (f"public.{RUNS}", "SELECT"),
    ]
    assert all(row["roles"] == ["authenticated"] for row in found)


def test_signed_in_users_see_these_columns_and_no_others(
    project: SupabaseProject, callers: Callers
) -> None:
    insert(project, REQUESTS, SAMPLES[REQUESTS].row)
    (row,) = callers["user"].table("GET", REQUESTS).json()
    assert set(row) == set(REQUEST_COLUMNS.split())
    assert row["id"] == make_id(1)


def test_signed_in_users_see_what_a_run_came_to_in_figures(
    project: SupabaseProject, callers: Callers
) -> None:
    metrics = {"accuracy": 0.8, "precision": 0.7, "recall": 0.8, "f1_score": 0.75}
    done = {"status": "completed", "outcome": "promoted", "dataset_size": 12, "metrics": metrics}
    insert(project, RUNS, run_row(1, **done))
    for who in ("user", "other"):
        (row,) = seen_runs(callers[who], order="started_at.desc", limit="1").json()
        assert {name: row[name] for name in done} == done
        assert set(row) == set(RUN_COLUMNS)
        for column in ("details", "error_message", "outcome_reason", "triggered_by", "*"):
            assert code_of(callers[who].table("GET", RUNS, select=column)) == REFUSED
    assert code_of(seen_runs(callers["anon"])) == REFUSED


def test_the_description_of_the_api_names_to_each_only_what_is_theirs(callers: Callers) -> None:
    named = {who: set(callers[who].send("GET", "/rest/v1/").json()["paths"]) for who in CALLERS}
    calls = {f"/rpc/{name}" for name, who in WHO_CALLS.items() if "user" in who}
    assert named["anon"] == {"/"}
    assert named["user"] == named["other"] == {"/", f"/{RUNS}", f"/{REQUESTS}"} | calls
    assert {path for path in named["service"] if path.count("/") == 1} == {
        "/",
        *(f"/{table}" for table in WHO_MAY),
    }


# ---------------------------------------------------------------------------------- functions


def arguments_of(project: SupabaseProject, function: str) -> Row:
    """Every argument that a function takes in, as null."""
    (row,) = project.sql(
        "select proargnames[1:pronargs] as a from pg_proc where proname = %s", [function]
    )
    return dict.fromkeys(row["a"] or [])


def test_every_function_has_a_decision(supabase: SupabaseProject) -> None:
    found = supabase.sql("""
        select proname, prorettype = 'trigger'::regtype as trigger, prosecdef
        from pg_proc where pronamespace = 'public'::regnamespace
    """)
    assert sorted(row["proname"] for row in found) == sorted({*WHO_CALLS, *TRIGGERS})
    assert {row["proname"] for row in found if row["trigger"]} == TRIGGERS
    definers = {row["proname"] for row in found if row["prosecdef"]}
    assert definers == {
        *GRANTABLE,
        "ml_pipeline_admit_request",
        "ml_pipeline_note_change",
        "ml_pipeline_skip_erased",
    }


def test_execute_is_granted_exactly_as_decided(supabase: SupabaseProject) -> None:
    found = supabase.sql("""
        select proname, grantee::regrole::text as who
        from pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner)))
        where pronamespace = 'public'::regnamespace and grantee <> 'postgres'::regrole
    """)
    granted = {(row["proname"], row["who"]) for row in found}
    service = {(name, "service_role") for name in {*WHO_CALLS, *TRIGGERS}}
    users = {(name, "authenticated") for name, who in WHO_CALLS.items() if "user" in who}
    assert granted == service | users


@pytest.mark.parametrize("function", [*WHO_CALLS, *sorted(TRIGGERS)])
def test_a_function_is_called_by_whom_it_is_for(
    supabase: SupabaseProject, shared_callers: Callers, function: str
) -> None:
    arguments = {} if function in TRIGGERS else arguments_of(supabase, function)
    allowed = WHO_CALLS.get(function, NOBODY)
    before = everything(supabase)
    codes = {who: code_of(shared_callers[who].call(function, **arguments)) for who in CALLERS}
    # Nothing is asked for, so nothing is done; but a request needs no more than to be asked for.
    assert everything(supabase) == before or function.startswith("submit_retraining_request")
    closed = {REFUSED, "PGRST202"} if function in TRIGGERS else {REFUSED}
    assert {who for who, code in codes.items() if code not in closed} == allowed
    assert "PGRST202" not in codes.values() or function in TRIGGERS


LATER = (NOW + timedelta(hours=1)).isoformat()
HELD = {"p_request_id": make_id(11), "p_run_id": make_id(1)}
NEW_EVENT = {
    "event_id": make_id(22),
    "timestamp": NOW.isoformat(),
    "model_name": MODEL_NAME,
    "prediction": "H",
}
WRITES: dict[str, Row] = {
    "append_evaluation_events": {"p_events": [NEW_EVENT]},
    "record_evaluation_outcomes": {"p_outcomes": {make_id(21): "A"}, "p_evaluated_at": LATER},
    "start_retraining_run": {"p_run": run_row(2, model_name="another")},
    "heartbeat_retraining_run": {"p_run_id": make_id(1), "p_now": LATER},
    "finish_retraining_run": {
        "p_run": run_row(1, status="failed", outcome="failed", completed_at=LATER)
    },
    "fail_stale_retraining_runs": {
        "p_model_name": MODEL_NAME,
        "p_now": LATER,
        "p_heard_before": LATER,
    },
    "claim_retraining_request": {
        "p_model_name": MODEL_NAME,
        "p_run_id": make_id(1),
        "p_now": NOW.isoformat(),
        "p_lease_until": LATER,
    },
    "complete_retraining_request": {**HELD, "p_now": LATER},
    "fail_retraining_request": {**HELD, "p_now": LATER, "p_reason": "mine"},
    "release_retraining_request": HELD,
    "release_stale_retraining_requests": {
        "p_model_name": MODEL_NAME,
        "p_now": LATER,
        "p_max_attempts": 0,
    },
    "ml_pipeline_close_request": {
        **HELD,
        "p_now": LATER,
        "p_status": "completed",
        "p_reason": None,
    },
    "register_model": {"p_model": model_row("m-3")},
    "promote_model": {
        "p_event": promotion_row(32, "m-2", from_model_id="m-1", created_at=NOW.isoformat())
    },
    "keep_daily_accuracy": {
        "p_days": [
            {
                "model_name": MODEL_NAME,
                "day": "2026-03-01",
                "model_id": "m-1",
                "evaluated": 2,
                "correct": 1,
                "uncertain": 0,
                "details": {},
            }
        ],
        "p_now": LATER,
    },
    "open_decay_alert": {"p_alert": to_json(make_alert(41))},
    "change_decay_alert": {
        "p_alert": to_json(make_alert(40, message="mine", updated_at=NOW + timedelta(hours=1))),
        "p_seen": NOW.isoformat(),
    },
    "record_system_event": {
        "p_event": {
            "event_id": make_id(42),
            "event_type": "decay",
            "at": LATER,
            "model_name": MODEL_NAME,
            "message": "mine",
            "metadata": {},
        },
    },
    "take_lease": {"p_name": "mine", "p_holder": "me", "p_now": LATER, "p_until": LATER},
    "drop_lease": {"p_name": "sample", "p_holder": "a"},
    "prune_model": {"p_model_name": MODEL_NAME, "p_model_id": "m-2", "p_now": LATER},
    "prune_retraining_requests": {
        "p_model_name": MODEL_NAME,
        "p_now": LATER,
        "p_pending_before": "2100-01-01",
        "p_closed_before": LATER,
    },
    "ml_pipeline_expire_requests": {
        "p_model_name": MODEL_NAME,
        "p_now": LATER,
        "p_before": "2100-01-01",
    },
    "renew_retraining_leases": {
        "p_run_id": make_id(1),
        "p_lease_until": (NOW + timedelta(hours=2)).isoformat(),
    },
    "submit_retraining_request_within": {
        "p_request": {"id": make_id(13), "reason": "drift"},
        "p_per_user": 1,
        "p_total": 9,
    },
    "set_model_state": {"p_model_name": MODEL_NAME, "p_model_id": "m-2", "p_state": "retired"},
}


@pytest.mark.parametrize("function", WRITES)
def test_a_call_that_works_for_the_service_changes_nothing_for_others(
    project: SupabaseProject, callers: Callers, function: str
) -> None:
    insert(project, "model_metadata", model_row("m-1", state="champion"))
    insert(project, "model_metadata", model_row("m-2"))
    insert(project, RUNS, run_row(1))
    lease = {"status": "processing", "retraining_run_id": make_id(1), "lease_until": LATER}
    mine = {"requested_by": USER, "model_name": MODEL_NAME}
    insert(project, REQUESTS, {"id": make_id(11), **mine, **lease, "attempts": 1})
    insert(project, REQUESTS, {"id": make_id(12), **mine})
    insert(project, "evaluation_log", {**NEW_EVENT, "event_id": make_id(21)})
    insert(project, "ml_pipeline_leases", SAMPLES["ml_pipeline_leases"].row)
    if function == "change_decay_alert":
        insert(project, "prediction_decay_events", to_json(make_alert(40)))
    before = everything(project)
    for who in ("anon", "user", "other"):
        assert code_of(callers[who].call(function, **WRITES[function])) == REFUSED
    assert everything(project) == before
    assert code_of(callers["service"].call(function, **WRITES[function])) is None
    assert everything(project) != before
