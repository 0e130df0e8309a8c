"""The SQL functions read branch by branch, also those that no call of ours goes through."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.supabase.callers import migrate
from tests.support.supabase.binaries import Missing
from tests.support.supabase.checker import make_checker
from tests.support.supabase.project import SupabaseProject


@pytest.fixture(scope="module")
def schema(supabase: SupabaseProject) -> Iterator[SupabaseProject]:
    supabase.blank()
    migrate(supabase)
    yield supabase
    supabase.blank()


@pytest.fixture
def checked(schema: SupabaseProject) -> SupabaseProject:
    try:
        make_checker(schema)
    except Missing as reason:
        # A package of Debian's for the PostgreSQL at hand: not every machine can have one.
        pytest.skip(str(reason))
    return schema


def test_o14_plpgsql_check_has_nothing_to_say_about_any_function(checked: SupabaseProject) -> None:
    found = checked.sql("""
        select checked.oid::regprocedure::text as name, lineno, statement, message, query
        from (
            select distinct pg_proc.oid, coalesce(tgrelid, 0) as relation
            from pg_proc
            join pg_language on pg_language.oid = prolang and lanname = 'plpgsql'
            left join pg_trigger on tgfoid = pg_proc.oid and not tgisinternal
            where pronamespace = 'public'::regnamespace
        ) as checked
        cross join lateral plpgsql_check.plpgsql_check_function_tb(
            checked.oid, checked.relation, fatal_errors => false
        )
    """)
    assert [list(row.values()) for row in found] == []


def test_o14_every_foreign_key_has_an_index_that_begins_with_its_columns(
    schema: SupabaseProject,
) -> None:
    found = schema.sql("""
        select conrelid::regclass::text as table, conname from pg_constraint
        where contype = 'f' and connamespace = 'public'::regnamespace and not exists (
            select from pg_index
            where indrelid = conrelid
              and (indkey::int2[])[0:cardinality(conkey) - 1] @> conkey
              and (indkey::int2[])[0:cardinality(conkey) - 1] <@ conkey
        )
    """)
    assert found == []
