"""`rpc('record_outcome')` and `rpc('add_label')` do what `outcome` and `labels add` do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import httpx
import pytest

from ml_pipeline.datasets.label_file import LabelEntry, add_labels
from ml_pipeline.registry.in_database.publishing import publish
from ml_pipeline.store.scoring.grants import meaning
from tests.contract.supabase.test_predictions import SETTINGS, Door, opened, small
from tests.support.factories import MODEL_NAME
from tests.support.supabase.project import SupabaseProject

pytestmark = pytest.mark.usefixtures("our_schema")
KNOWN = SETTINGS.changed({"data.classes": ["c0", "c1"], "data.labels": {"lost": "c0", "0": "c0"}})
GRANT = """
    grant execute on function predict(text, jsonb, text, boolean),
        record_outcome(text, text, uuid, text, boolean, timestamptz),
        add_label(text, text, text, jsonb, text) to authenticated
"""


@pytest.fixture
def door(project: SupabaseProject) -> Iterator[Door]:
    for made in opened(project, KNOWN):
        made.let_serve(small(1))
        yield made


def ask(door: Door, function: str, who: str = "service", **arguments: object) -> httpx.Response:
    return door.callers[who].call(function, model_name=MODEL_NAME, **arguments)


def predicted(door: Door, entity_id: str | None = None, who: str = "service") -> str:
    answer = ask(door, "predict", who, features=[0.1, 3], entity_id=entity_id)
    return str(answer.json()["event_id"])


def outcome(door: Door, actual: str, who: str = "service", **arguments: object) -> httpx.Response:
    return ask(door, "record_outcome", who, actual=actual, **arguments)


def events(door: Door) -> list[dict[str, Any]]:
    return door.project.sql('select * from evaluation_log order by "timestamp"')


@pytest.mark.parametrize("spelling", ["c0", " C0 ", "lost", "LOST", "0", "0.0"])
def test_an_outcome_is_the_label_that_its_spelling_means(door: Door, spelling: str) -> None:
    event_id = predicted(door)
    told = outcome(door, spelling, event_id=event_id)
    assert told.json() == {
        "status": "completed", "recorded": 1, "corrected": 0, "already_known": 0,
    }  # fmt: skip
    (event,) = events(door)
    assert (event["actual_result"], event["status"]) == ("c0", "evaluated")
    assert event["accuracy"] == (event["prediction"] == "c0")
    assert outcome(door, "c0", event_id=event_id).json()["already_known"] == 1


def test_what_is_no_label_is_refused_and_the_known_ones_are_named(door: Door) -> None:
    event_id = predicted(door)
    for text in ("c9", "", "nan", "UNCERTAIN"):
        refused = outcome(door, text, event_id=event_id).json()
        assert refused["code"] == "MLP08"
        assert refused["hint"] == "Known labels: c0, c1."
    assert events(door)[0]["actual_result"] is None


def test_another_outcome_stands_until_it_is_corrected_and_is_kept(door: Door) -> None:
    event_id = predicted(door)
    outcome(door, "c0", event_id=event_id)
    before = events(door)[0]
    refused = outcome(door, "c1", event_id=event_id).json()
    assert refused["code"] == "MLP04"
    assert "correct := true" in refused["hint"]
    assert events(door)[0] == before
    told = outcome(door, "c1", event_id=event_id, correct=True).json()
    assert (told["corrected"], told["recorded"]) == (1, 0)
    (event,) = events(door)
    assert event["actual_result"] == "c1"
    assert event["evaluated_at"] == before["evaluated_at"]
    (former,) = event["metadata"]["outcome_corrections"]
    assert former["actual_result"] == "c0"
    changes = door.project.sql("select kind from evaluation_log_changes")
    assert changes == [{"kind": "corrected"}]


def test_by_its_id_every_earlier_prediction_gets_the_outcome(door: Door) -> None:
    predicted(door, "x"), predicted(door, "x"), predicted(door, "y")
    assert outcome(door, "c1", entity_id="x").json()["recorded"] == 2
    later = predicted(door, "x")
    # Predicted again, it has an outcome again; the earlier ones keep theirs.
    assert outcome(door, "c0", entity_id="x").json()["recorded"] == 1
    assert [event["actual_result"] for event in events(door)] == ["c1", "c1", None, "c0"]
    assert outcome(door, "c1", event_id=later, correct=True).json()["corrected"] == 1
    refused = outcome(door, "c0", entity_id="x", correct=True).json()
    assert "has several" in refused["message"]


def test_times_that_cannot_be_are_refused(door: Door) -> None:
    event_id, now = predicted(door), datetime.now(UTC)
    ahead = outcome(
        door, "c0", event_id=event_id, known_at=(now + timedelta(days=2)).isoformat()
    ).json()
    assert (ahead["code"], "is in the future" in ahead["message"]) == ("MLP08", True)
    before = outcome(
        door, "c0", event_id=event_id, known_at=(now - timedelta(days=2)).isoformat()
    ).json()
    assert (before["code"], "it is not its outcome" in before["message"]) == ("MLP04", True)
    for arguments in ({}, {"event_id": event_id, "entity_id": "x"}):
        assert outcome(door, "c0", **arguments).json()["code"] == "MLP08"
    assert events(door)[0]["actual_result"] is None


def test_an_erased_or_unknown_prediction_is_not_there(door: Door) -> None:
    event_id = predicted(door, "x")
    door.registry.store.erase_events(model_name=MODEL_NAME, event_ids=[event_id], match_ids=[])
    assert outcome(door, "c0", event_id=event_id).json()["code"] == "MLP03"
    assert outcome(door, "c0", entity_id="x").json()["code"] == "MLP03"
    assert door.callers["service"].call(
        "record_outcome", model_name="other", actual="c0", event_id=event_id
    ).json()["code"] == "MLP07"  # fmt: skip


def test_a_signed_in_user_with_the_grant_settles_what_they_asked_and_nothing_else(
    door: Door,
) -> None:
    theirs, mine = predicted(door, "x"), ""
    assert outcome(door, "c0", "user", event_id=theirs).json()["code"] == "42501"
    door.project.sql(GRANT)
    try:
        mine = predicted(door, "x", "user")
        others = predicted(door, "x", "other")
        for event_id in (theirs, others):
            refused = outcome(door, "c0", "user", event_id=event_id).json()
            unknown = outcome(door, "c0", "user", event_id=mine.replace("-7", "-6")).json()
            assert refused["code"] == unknown["code"] == "MLP03"
        assert outcome(door, "c0", "user", entity_id="x").json()["recorded"] == 1
        labelled = ask(door, "add_label", "user", label="c0", id=theirs).json()
        assert labelled["code"] == "MLP03"
        assert ask(door, "add_label", "user", label="c0", id=mine).json()["status"] == "added"
        assert ask(door, "add_label", "other", label="c1", id=mine).json()["code"] == "MLP03"
        for who in ("anon", "user"):
            assert door.callers[who].table("GET", "model_scoring").status_code in {401, 403}
    finally:
        door.project.sql(GRANT.replace("grant execute", "revoke all").replace(" to ", " from "))
    settled = {str(event["event_id"]): event["actual_result"] for event in events(door)}
    assert settled == {theirs: None, mine: "c0", others: None}
    callers = {
        str(event["event_id"]): (event["metadata"] or {}).get("caller") for event in events(door)
    }
    assert callers[theirs] is None
    assert callers[mine] != callers[others]


def test_whoever_has_no_id_has_nothing_to_do_with_rows_of_the_service_key(door: Door) -> None:
    event_id = predicted(door, "x")
    (waiting,) = door.project.sql(
        "insert into ml_data (model_name, features) values (%s, '{\"form\": 1}') returning id",
        [MODEL_NAME],
    )
    door.project.sql(GRANT)
    try:
        door.callers["nobody"] = replace(
            door.callers["user"], token=door.project.keys.user_token("")
        )
        for given in (str(waiting["id"]), event_id):
            labelled = ask(door, "add_label", "nobody", label="c0", id=given).json()
            assert labelled["code"] == "MLP03"
        assert outcome(door, "c0", "nobody", event_id=event_id).json()["code"] == "MLP03"
    finally:
        door.project.sql(GRANT.replace("grant execute", "revoke all").replace(" to ", " from "))
    assert door.project.sql("select label from ml_data") == [{"label": None}]


def test_by_event_id_alone_an_outcome_is_not_that_of_what_users_sent_under_the_id(
    door: Door,
) -> None:
    door.project.sql(GRANT)
    try:
        mine, theirs = predicted(door, "x"), predicted(door, "x", "user")
        assert outcome(door, "c0", event_id=mine).json()["recorded"] == 1
        (settled,) = [event for event in events(door) if event["actual_result"]]
        assert str(settled["event_id"]) == mine
        told = outcome(door, "c0", entity_id="x").json()
        assert (told["recorded"], told["already_known"]) == (1, 1)
        assert {str(event["event_id"]) for event in events(door)} == {mine, theirs}
    finally:
        door.project.sql(GRANT.replace("grant execute", "revoke all").replace(" to ", " from "))
    assert "tell by entity_id" in meaning(["predict"])


def test_a_label_of_a_signed_in_user_stands_in_nobodys_way(door: Door) -> None:
    event_id, features = predicted(door, "match 7"), {"form": 0.5, "strength": 1}
    names = ({"id": "match 7"}, {"id": event_id}, {"features": features})
    door.project.sql(GRANT)
    try:
        for who, label in (("user", "c1"), ("other", "c0"), ("service", "c0")):
            for name in names:
                for status in ("added", "already_known"):
                    told = ask(door, "add_label", who, label=label, **{"features": features} | name)
                    assert told.json()["status"] == status
    finally:
        door.project.sql(GRANT.replace("grant execute", "revoke all").replace(" to ", " from "))
    rows = door.project.sql("select label, metadata ->> 'caller' as caller from ml_data")
    assert len(rows) == 9
    assert {row["label"] for row in rows if row["caller"] is None} == {"c0"}


def test_models_that_share_the_table_have_each_a_label_of_the_same_id(door: Door) -> None:
    event_id, store = predicted(door), door.registry.store
    door.project.sql(
        "insert into ml_data (id, model_name, label) values (%s, 'other', 'c0')", [event_id]
    )
    assert ask(door, "add_label", label="c0", id=event_id).json()["status"] == "already_known"
    settings = door.registry.settings.changed({"ground_truth.model_column": "model_name"})
    assert publish(store, settings) is not None
    added = ask(door, "add_label", label="c1", id=event_id).json()
    assert added["status"] == "added"
    entry = LabelEntry(id=event_id, label="c1", created_at=datetime.now(UTC), source="x")
    assert add_labels(store, [entry], settings, dry_run=False).already_known == 1
    assert store.known_labels([event_id, added["id"]]) == {event_id: "c0", added["id"]: "c1"}


def test_a_label_is_added_once_under_the_id_that_the_command_gives_it(door: Door) -> None:
    event_id = predicted(door, "match 7")
    added = ask(door, "add_label", label="lost", id="match 7", source="form").json()
    assert added["status"] == "added"
    assert added["id"] == str(uuid5(NAMESPACE_URL, f"ml_pipeline:{MODEL_NAME}:match 7"))
    (row,) = door.project.sql("select * from ml_data")
    assert (row["label"], row["source"], row["features"]) == (
        "c0",
        "form",
        {"form": 0.1, "strength": 3},
    )
    assert row["metadata"] == {"id": "match 7"}
    assert ask(door, "add_label", label="c0", id="match 7").json()["status"] == "already_known"
    assert ask(door, "add_label", label="c1", id="match 7").json()["code"] == "MLP04"
    by_event = ask(door, "add_label", label="c1", id=event_id).json()
    assert (by_event["status"], by_event["id"]) == ("added", event_id)
    known = door.registry.store.known_labels({added["id"], event_id})
    assert known == {added["id"]: "c0", event_id: "c1"}


UUID_OR_NOT = (
    "0190ABCD-0000-7000-8000-0000000000aB",
    "0190abcd000070008000000000000000",
    "0190abcd-0000700080000000-00000000",
    "{0190abcd-0000-7000-8000-000000000000}",
    "urn:uuid:0190abcd-0000-7000-8000-000000000000",
    "0190abcd_0000_7000_8000_0000000000",
    "0-1-9-0abcd000070008000000000000000",
    "0190abcd-0000-7000-8000-000000000000-",
    "+190abcd000070008000000000000000",
    "0190abcd-0000-7000-8000-00000000000\uff10",
)


def test_by_both_doors_an_id_has_one_row_however_it_is_written(project: SupabaseProject) -> None:
    for written in UUID_OR_NOT:
        entry = LabelEntry(id=written, label="c1", created_at=datetime.now(UTC), source="x")
        (row,) = project.sql(f"select ml_pipeline_label_id('{MODEL_NAME}', '{written}') as id")
        assert entry.key(MODEL_NAME) == str(row["id"]), written


def test_a_label_of_features_is_read_as_a_prediction_is(door: Door) -> None:
    features = {"form": True, "strength": "n/a", "more": "x"}
    added = ask(door, "add_label", label="c1", features=features).json()
    assert added["status"] == "added"
    (row,) = door.project.sql("select * from ml_data")
    assert row["features"] == {"form": 1, "more": "x"}
    refused = ask(door, "add_label", label="c1", features={"form": "x"}).json()
    assert refused["message"] == 'form = "x" is not a number.'
    assert ask(door, "add_label", label="c9", id="x").json()["code"] == "MLP08"
    assert ask(door, "add_label", label="c1", id="nobody").json()["code"] == "MLP03"
    assert ask(door, "add_label", label="c1").json()["message"] == "Give id or features."


def test_a_row_that_waits_for_its_label_gets_it(door: Door) -> None:
    (waiting,) = door.project.sql(
        "insert into ml_data (model_name, features) values (%s, '{\"form\": 1}') returning id",
        [MODEL_NAME],
    )
    filled = ask(door, "add_label", label="c1", id=str(waiting["id"])).json()
    assert filled["status"] == "filled"
    (row,) = door.project.sql("select label, features from ml_data")
    assert row == {"label": "c1", "features": {"form": 1}}
