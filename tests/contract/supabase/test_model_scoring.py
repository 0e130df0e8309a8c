"""What the database answers with changes in the transaction that changes the champion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from ml_pipeline import config
from ml_pipeline.commands.checks.champion import database_answers
from ml_pipeline.commands.checks.examined import Examined
from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import PromotionRefused
from ml_pipeline.registry.champion import Decision, roll_back
from ml_pipeline.registry.in_database.publishing import publish, refresh, scoring_of
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.supabase.store import SupabaseStore
from tests.support.factories import MODEL_NAME, NOW, make_id, make_promotion
from tests.support.scored import Registry
from tests.support.supabase.project import SupabaseProject
from tests.unit.registry.test_scoring import train

SQL = Path(config.__file__).parents[1] / "sql" / "supabase"
SETTINGS = Settings().changed({"model_name": MODEL_NAME})
pytestmark = pytest.mark.usefixtures("our_schema")


@pytest.fixture
def registry(project: SupabaseProject) -> Iterator[Registry]:
    store = SupabaseStore.open(project.url, SecretStr(project.service_key))
    yield Registry(store=store, settings=SETTINGS)
    store.close()


def small(seed: int) -> Any:  # noqa: ANN401 - AdaptiveClassifier
    return train("LogisticRegression", seed, classes=2, features=2, nights=0)


def row(project: SupabaseProject) -> dict[str, Any] | None:
    found = project.sql("select * from model_scoring")
    return found[0] if found else None


def test_a_promotion_and_a_rollback_write_the_row_of_who_serves_then(
    registry: Registry, project: SupabaseProject
) -> None:
    first, second = registry.register("m-1", small(1)), registry.register("m-2", small(2))
    registry.promote(first, 1)
    registry.promote(second, 2)
    written = row(project)
    assert written is not None
    assert (written["model_name"], written["model_id"]) == (MODEL_NAME, "m-2")
    assert written["trouble"] is None
    assert len(written["numbers"]) > 100
    decision = Decision(settings=registry.settings, reason="odd", now=NOW, event_id=make_id(3))
    roll_back(registry.store, None, decision)
    back = row(project)
    assert back is not None
    assert back["model_id"] == "m-1"
    assert back["numbers"] != written["numbers"]


def test_the_schema_applied_again_drops_a_program_of_another_format_alone(
    registry: Registry, project: SupabaseProject
) -> None:
    def apply_again() -> None:
        with psycopg.connect(project.dsn) as database:
            database.execute((SQL / "0043_model_scoring.sql").read_bytes())

    registry.promote(registry.register("m-1", small(1)), 1)
    before = row(project)
    apply_again()
    assert row(project) == before
    project.sql("update model_scoring set format = 1")
    apply_again()
    assert row(project) is None
    refresh(registry.store, registry.settings)
    found = registry.store.published(MODEL_NAME)
    assert found is not None
    assert (found.model_id, found.trouble) == ("m-1", None)


def test_a_promotion_that_fails_leaves_the_row_that_stands(
    registry: Registry, project: SupabaseProject
) -> None:
    first, second = registry.register("m-1", small(1)), registry.register("m-2", small(2))
    registry.promote(first, 1)
    before = row(project)
    with pytest.raises(PromotionRefused):
        registry.store.promote(
            make_promotion("m-2", "m-9", 2), scoring_of(registry.store, second, registry.settings)
        )
    assert row(project) == before


def test_a_promotion_that_brings_no_row_takes_the_old_one_away_until_it_is_published(
    registry: Registry, project: SupabaseProject
) -> None:
    registry.promote(registry.register("m-1", small(1)), 1)
    registry.register("m-2", small(2))
    registry.store.promote(make_promotion("m-2", "m-1", 2))  # as an earlier version does
    assert row(project) is None
    assert registry.store.published(MODEL_NAME) is None
    refresh(registry.store, registry.settings)
    found = registry.store.published(MODEL_NAME)
    assert found is not None
    assert (found.model_id, found.trouble) == ("m-2", None)


def test_a_client_that_knows_less_columns_leaves_them_at_their_defaults(
    registry: Registry, project: SupabaseProject
) -> None:
    registry.promote(registry.register("m-1", small(1)), 1)
    project.sql("alter table model_scoring add column later text not null default 'x'")
    try:
        write = "select ml_pipeline_write_scoring(%(name)s, 'm-1', to_jsonb(s) {less}) as trouble"
        for less in ("- 'later' - 'shares_labels'", """ || '{"later": null}'"""):
            query = f"{write} from model_scoring s".format(less=less)
            (written,) = project.sql(query, {"name": MODEL_NAME})
            found = row(project)
            assert found is not None
            assert (found["later"], found["shares_labels"]) == ("x", False)
            assert "a row of it" in written["trouble"], "no client sent a probe"
    finally:
        project.sql("alter table model_scoring drop column later")


def test_publishing_is_done_again_for_other_settings_alone(
    registry: Registry, project: SupabaseProject
) -> None:
    registry.promote(registry.register("m-1", small(1)), 1)
    written = row(project)
    refresh(registry.store, registry.settings)
    assert row(project) == written
    refresh(registry.store, registry.settings.changed({"prediction.missing": "refuse"}))
    changed = row(project)
    assert changed is not None
    assert changed["imputes"] is False


def test_a_model_that_serves_no_more_is_not_published(registry: Registry) -> None:
    first, second = registry.register("m-1", small(1)), registry.register("m-2", small(2))
    registry.promote(first, 1)
    registry.promote(second, 2)
    made = scoring_of(registry.store, first, registry.settings)
    assert made is not None
    with pytest.raises(PromotionRefused, match="m-2 serves football by now, not m-1"):
        registry.store.publish(made)


def test_a_model_without_a_scoring_file_is_promoted_and_its_row_says_why(
    registry: Registry, project: SupabaseProject
) -> None:
    registry.promote(registry.register("m-1", small(1), has_scoring=False), 1)
    found = row(project)
    assert found is not None
    assert found["numbers"] == []
    assert found["trouble"].startswith("it has no scoring file")


def test_a_scoring_file_that_was_lost_since_is_said(
    registry: Registry, project: SupabaseProject
) -> None:
    version = registry.register("m-1", small(1))
    ref = version.lineage.scoring
    assert ref is not None
    registry.store.remove(ref.bucket, ref.path)
    registry.promote(version, 1)
    found = row(project)
    assert found is not None
    assert found["trouble"].startswith("its scoring file cannot be read")


@pytest.mark.parametrize("answer", ["0.4, 0.6", "0.5", "null, null", "'NaN', 0"])
def test_a_program_that_answers_otherwise_in_the_database_is_not_kept(
    registry: Registry, project: SupabaseProject, answer: str
) -> None:
    registry.promote(registry.register("m-1", small(1)), 1)
    project.sql(
        "alter function ml_pipeline_score rename to kept_score;"
        "create function ml_pipeline_score(integer[], float8[], float8[]) returns "
        f"float8[] language sql immutable as $$select array[{answer}]::float8[]$$"
    )
    try:
        published = publish(registry.store, registry.settings)
    finally:
        project.sql(
            "drop function ml_pipeline_score; alter function kept_score rename to ml_pipeline_score"
        )
    assert published is not None
    assert published.trouble is not None
    assert "a row of it came out as" in published.trouble
    found = row(project)
    assert found is not None
    assert (found["numbers"], found["model_id"]) == ([], "m-1")


def test_the_embedded_store_answers_nothing_itself(tmp_path: Path) -> None:
    store = LocalStore.open(tmp_path / "store")
    local = Registry(store=store, settings=SETTINGS)
    version = local.register("m-1", small(1))
    local.promote(version, 1)
    assert scoring_of(store, version, local.settings) is None
    assert store.published(MODEL_NAME) is None
    published = publish(store, local.settings)
    assert published is not None
    assert published.trouble == "the embedded store is a file, which answers nothing itself"
    store.close()


def test_doctor_says_with_what_the_database_answers(
    registry: Registry, project: SupabaseProject
) -> None:
    registry.promote(registry.register("m-1", small(1)), 1)
    examined = Examined(store=registry.store, settings=registry.settings, now=NOW)
    (found,) = database_answers(examined)
    assert (found.ok, found.what) == (
        True,
        "The database answers rpc('predict') with the champion.",
    )
    changed = registry.settings.changed({"prediction.missing": "refuse"})
    (found,) = database_answers(Examined(store=registry.store, settings=changed, now=NOW))
    assert (found.severity, "by other settings" in found.what) == ("warning", True)
    publish(registry.store, changed)
    (found,) = database_answers(Examined(store=registry.store, settings=changed, now=NOW))
    assert found.ok
    publish(registry.store, registry.settings)
    project.sql("update model_metadata set algorithm = 'Incumbent'")
    (found,) = database_answers(examined)
    assert found.what == "The database answers rpc('correct') with the champion."
    project.sql("update model_scoring set model_id = 'm-0'")
    (found,) = database_answers(examined)
    assert (found.severity, found.do) == ("warning", "Run `ml-pipeline models publish`.")
    project.sql("delete from model_scoring")
    (found,) = database_answers(examined)
    assert found.ok
    assert "models publish" in found.do
