"""`init --grant` lets signed-in users call what was named, and says what that means."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from ml_pipeline.commands import init
from ml_pipeline.commands.checks import project as checks
from ml_pipeline.store import schema
from ml_pipeline.store.scoring.grants import GRANTABLE
from tests.contract.supabase.test_predictions import Door, opened, small
from tests.contract.supabase.test_told_outcomes import KNOWN
from tests.support.factories import MODEL_NAME
from tests.support.supabase.project import SupabaseProject


@pytest.fixture
def door(supabase: SupabaseProject) -> Iterator[Door]:
    supabase.blank()
    schema.apply(supabase.dsn)
    supabase.keep()
    yield from opened(supabase, KNOWN)
    supabase.blank()


def callers_of(project: SupabaseProject) -> dict[str, list[str]]:
    rows = project.sql("""
        select proname, rolname from pg_proc, pg_roles
        where pronamespace = 'public'::regnamespace
          and proname in ('predict', 'predict_batch', 'correct', 'record_outcome', 'add_label')
          and rolname in ('anon', 'authenticated', 'service_role')
          and has_function_privilege(pg_roles.oid, pg_proc.oid, 'execute')
        order by 1, 2
    """)
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["proname"], []).append(row["rolname"])
    return found


def test_what_was_granted_is_said_may_be_called_and_stays_when_init_is_repeated(
    door: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    project = door.project
    assert callers_of(project) == {name: ["service_role"] for name in GRANTABLE}
    flags = ["--database_url", project.dsn, "--grant", "predict,record_outcome"]
    assert init.main([*flags, "--to", "authenticated"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out.splitlines()[-1])["granted"] == ["predict", "record_outcome"]
    assert "anonymous sign-ins included" in told.err
    assert "teaches the model wrong results" in told.err
    schema.apply(project.dsn)
    expected = {
        "add_label": ["service_role"],
        "correct": ["service_role"],
        "predict": ["authenticated", "service_role"],
        "predict_batch": ["service_role"],
        "record_outcome": ["authenticated", "service_role"],
    }
    assert callers_of(project) == expected

    door.let_serve(small(1))
    project.keep()
    answer = door.callers["user"].call("predict", model_name=MODEL_NAME, features=[0.1, 3])
    event_id = answer.json()["event_id"]
    told_outcome = door.callers["user"].call(
        "record_outcome", model_name=MODEL_NAME, actual="c0", event_id=event_id
    )
    assert told_outcome.json()["recorded"] == 1
    refused = door.callers["user"].call("add_label", model_name=MODEL_NAME, label="c0", id="x")
    assert refused.json()["code"] == "42501"
    assert door.callers["anon"].call("predict", model_name=MODEL_NAME, features=[1, 2]).json()[
        "code"
    ] == "42501"  # fmt: skip
    found = checks.function_access(project.sql("select ml_pipeline_doctor() as facts")[0]["facts"])
    assert (found.ok, "predict, record_outcome" in found.what) == (True, True)


def test_a_function_that_is_made_anew_is_nobodys_but_the_service_keys(door: Door) -> None:
    project = door.project
    for name, function in GRANTABLE.items():
        project.sql(f"drop function {function.signature}")
        schema.apply(project.dsn)
        assert callers_of(project)[name] == ["service_role"]


def test_the_statement_that_is_named_takes_back_what_was_granted(
    door: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--database-url", door.project.dsn, "--grant", ",".join(GRANTABLE)]
    assert init.main(flags) == 0
    named = re.search("`(revoke [^`]+)`", capsys.readouterr().err)
    assert named is not None
    assert all("authenticated" in who for who in callers_of(door.project).values())
    door.project.sql(named[1])
    assert callers_of(door.project) == {name: ["service_role"] for name in GRANTABLE}


@pytest.mark.parametrize(
    "flags",
    [
        ["--print_sql", "--grant", "promote_model"],
        ["--print_sql", "--grant", ""],
        ["--print_sql", "--grant", "predict", "--to", "anon"],
        ["--local", "x", "--grant", "predict"],
    ],
)
def test_nothing_else_can_be_granted_and_to_nobody_else(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = init.main(flags)
    except SystemExit as ended:
        code = int(str(ended.code))
    assert code in {1, 2}
    assert "grant" in capsys.readouterr().err.lower() or "--to" in capsys.readouterr().err


def test_the_printed_sql_grants_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert init.main(["--print_sql", "--grant", "predict"]) == 0
    printed = capsys.readouterr().out
    grant = "grant execute on function public.predict(text, jsonb, text, boolean) to authenticated;"
    assert grant in printed
    assert printed.index(grant) < printed.index("\ncommit;")


def test_nothing_of_ours_is_published_to_those_who_follow_tables(door: Door) -> None:
    door.project.sql("create publication supabase_realtime")
    try:
        schema.apply(door.project.dsn)
        assert door.project.sql("select tablename from pg_publication_tables") == []
    finally:
        door.project.sql("drop publication supabase_realtime")
