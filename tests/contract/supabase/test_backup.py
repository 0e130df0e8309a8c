"""What a backup of a project keeps of odd values, and what a restore leaves alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from ml_pipeline.errors import StoreCorrupt
from ml_pipeline.store.backup.folder import finish
from ml_pipeline.store.supabase.backup import back_up, restore
from ml_pipeline.store.supabase.store import SupabaseStore
from tests.contract.supabase.callers import migrate, rows
from tests.support.supabase.project import SupabaseProject

NOW = datetime(2026, 11, 5, tzinfo=UTC)
ODD = ["", None, "\\.", "a\n\\.\nb", "\\N", 'a "quoted", text\r\n', "  ", "ß 🎲 \u2028", "NULL"]
# What a database may set for everybody who connects to it.
OWN_WAYS = """
    alter database postgres set datestyle = 'SQL, DMY';
    alter database postgres set timezone = 'America/St_Johns';
    alter database postgres set extra_float_digits = -3;
"""
TIMES = ["2026-05-11 10:11:12.123456+00", "2026-11-01 05:30:00+00", "infinity"]


@pytest.fixture
def schema(supabase: SupabaseProject) -> Iterator[SupabaseProject]:
    supabase.blank()
    migrate(supabase)
    yield supabase
    supabase.blank()


@pytest.fixture
def store(schema: SupabaseProject) -> Iterator[SupabaseStore]:
    with closing(SupabaseStore.open(schema.url, SecretStr(schema.service_key))) as opened:
        yield opened


@pytest.mark.long
def test_o5_odd_values_come_back_as_they_were(
    schema: SupabaseProject,
    store: SupabaseStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    schema.sql(OWN_WAYS)
    for text in ODD:
        schema.sql(
            "insert into ml_data (query, features) values (%s, %s::jsonb)",
            [text or "", json.dumps({"text": text, "number": 0.1 + 0.2, "null": None})],
        )
    for place, time in enumerate(TIMES):
        schema.sql(
            "insert into evaluation_log (event_id, timestamp, event_type, model_id, match_id,"
            " actual_result, confidence) values (%s, %s, 'outcome', null, 'm', 'A', null)",
            [f"00000000-0000-0000-0000-00000000000{place}", time],
        )
    before = {table: rows(schema, table) for table in ("ml_data", "evaluation_log")}
    monkeypatch.setenv("PGCLIENTENCODING", "SQL_ASCII")
    back_up(store, schema.dsn, tmp_path / "saved", now=NOW)
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    schema.blank()
    migrate(schema)
    restore(store, schema.dsn, tmp_path / "saved")
    monkeypatch.undo()
    schema.sql(OWN_WAYS)
    assert {table: rows(schema, table) for table in before} == before


@pytest.mark.long
def test_o5_numbers_go_on_and_triggers_of_others_are_as_they_were(
    schema: SupabaseProject, store: SupabaseStore, tmp_path: Path
) -> None:
    schema.sql(
        "insert into evaluation_log_changes (model_name, day, kind) "
        "select 'default', '2026-01-01', 'erased' from generate_series(1, 7)"
    )
    back_up(store, schema.dsn, tmp_path / "saved", now=NOW)
    schema.blank()
    migrate(schema)
    schema.sql("""
        create table customers (name text);
        insert into customers values ('theirs');
        create function theirs() returns trigger language plpgsql as $$
            begin raise exception 'theirs has fired'; end $$;
        create trigger asleep before insert on ml_data for each row execute function theirs();
        create trigger always before insert on ml_data for each row execute function theirs();
        create trigger awake before insert on ml_data for each row execute function theirs();
        alter table ml_data disable trigger asleep;
        alter table ml_data enable always trigger always;
    """)
    restore(store, schema.dsn, tmp_path / "saved")
    modes = schema.sql("select tgname, tgenabled::text as mode from pg_trigger "
                       "where tgname in ('asleep', 'always', 'awake')")  # fmt: skip
    assert {row["tgname"]: row["mode"] for row in modes} == {
        "asleep": "D", "always": "A", "awake": "O"
    }  # fmt: skip
    assert rows(schema, "customers") == [{"name": "theirs"}]
    (after,) = schema.sql(
        "insert into evaluation_log_changes (model_name, day, kind) "
        "values ('default', '2026-01-01', 'erased') returning change_id"
    )
    assert after["change_id"] == 8


# Refused before anything is asked of the project, which there is none of here.
NOWHERE = "postgresql://postgres@nowhere.invalid/postgres"
ABSENT = SupabaseStore.open("http://nowhere.invalid", SecretStr("sb_secret_key"))


@pytest.mark.parametrize(
    ("place", "content"),
    [
        ("tables/customers.csv", "name\nours\n"),
        ("tables/ml_pipeline_leases.csv", "name,holder\nworker:default,me\n"),
        ("tables/deeper/ml_data.csv", "query\nours\n"),
        ("artifacts/avatars/face.png", "ours"),
        ("artifacts/face.png", "ours"),
    ],
)
def test_o5_a_backup_fills_nothing_that_is_not_ours(
    tmp_path: Path, place: str, content: str
) -> None:
    file = tmp_path / "made" / place
    file.parent.mkdir(parents=True)
    file.write_text(content)
    finish(tmp_path / "made", kind="supabase", now=NOW, schema_version=1, rows={})
    with pytest.raises(StoreCorrupt, match="not ours"):
        restore(ABSENT, NOWHERE, tmp_path / "made")


def test_o5_rows_of_a_table_that_is_no_more_in_the_backup_are_missed(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    finish(tmp_path / "made", kind="supabase", now=NOW, schema_version=1, rows={"ml_data": 1})
    with pytest.raises(StoreCorrupt, match="'ml_data'"):
        restore(ABSENT, NOWHERE, tmp_path / "made")
