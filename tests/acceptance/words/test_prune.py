"""Old bytes are given up on both stores; what serves, or may be needed, never is."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ml_pipeline.errors import NotFound, StoreRefused
from ml_pipeline.registry import retention
from ml_pipeline.registry.retention import Retention
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import ModelState, PromotionKind, RequestStatus
from tests.support import warm
from tests.support.factories import (
    NOW,
    make_finished_run,
    make_id,
    make_model,
    make_promotion,
    make_request,
)
from tests.support.factories import make_run as make_started
from tests.support.places import Place
from tests.support.shell import Finished

DAY = timedelta(days=1)
NAME = "default"


def add(store: Store, folder: Path, number: int, **changes: object) -> None:
    """A model and its run, `number` days old; its bytes, its run's log and report."""
    model_id, at = f"m-{number}", NOW - number * DAY
    times = {"started_at": at, "heartbeat_at": at, "model_name": NAME}
    store.start_run(make_started(number, **times))
    store.finish_run(make_finished_run(number, **times, completed_at=at))
    path = folder / model_id
    path.write_bytes(model_id.encode())
    ref = store.put("ml-models", f"{NAME}/{model_id}/model.skops", path)
    store.put("model-artifacts", f"training-logs/{make_id(number)}.txt", path)
    store.put("model-artifacts", f"reports/{make_id(number)}.html", path)
    values = {"model_name": NAME, "artifact": ref, "created_at": at, "run_id": make_id(number)}
    store.register(make_model(model_id, **(values | changes)))


@pytest.fixture
def filled(place: Place, tmp_path: Path) -> Place:
    """Nine models: an anchor, two champions, one in the shadow, one that waits, and four others."""
    with place.opened() as store:
        add(store, tmp_path, 90)
        add(store, tmp_path, 80)
        add(store, tmp_path, 70, anchor_id="m-90")
        add(store, tmp_path, 65, anchor_id="m-90")
        add(store, tmp_path, 60, state=ModelState.SHADOW)
        add(store, tmp_path, 55, state=ModelState.AWAITING)
        add(store, tmp_path, 50)
        add(store, tmp_path, 40)
        add(store, tmp_path, 10)
        for number, (to, before) in enumerate(
            [("m-80", None), ("m-50", "m-80"), ("m-65", "m-50"), ("m-70", "m-65")], start=1
        ):
            kind = PromotionKind.ROLLBACK if number == 4 else PromotionKind.PROMOTION
            store.promote(make_promotion(to, before, number, model_name=NAME, kind=kind))
    return place


def everything(store: Store) -> tuple[list[str], ...]:
    files = [store.names("model-artifacts", folder) for folder in ("training-logs", "reports")]
    return store.names("ml-models", NAME), *files


def test_a_plan_changes_nothing_and_says_why_each_model_stays(filled: Place) -> None:
    with filled.opened() as store:
        before = everything(store)
        found = retention.plan(store, NAME, Retention(models=1, window=30 * DAY), now=NOW)
        assert everything(store) == before
    assert [model.model_id for model in found.models] == ["m-40", "m-50", "m-80"]
    assert found.kept == {
        "m-70": "champion",
        "m-65": "previous champion",
        "m-60": "newest of a lineage in the shadow",
        "m-55": "awaits approval",
        "m-90": "anchor of m-65",
        "m-10": "among the newest 1",
    }
    assert found.logs == tuple(
        path
        for n in (40, 50, 80)
        for path in (f"training-logs/{make_id(n)}.txt", f"reports/{make_id(n)}.html")
    )
    assert found.as_json()["bytes"] == 12


def test_the_base_of_a_model_that_is_kept_for_its_age_stays(filled: Place, tmp_path: Path) -> None:
    with filled.opened() as store:
        add(store, tmp_path, 5, anchor_id="m-40")
        kept = retention.plan(store, NAME, Retention(models=1, window=30 * DAY), now=NOW).kept
    assert (kept["m-5"], kept["m-40"]) == ("among the newest 1", "anchor of m-5")


def test_what_the_plan_names_is_given_up_and_nothing_else(filled: Place, tmp_path: Path) -> None:
    rule = Retention(models=1, window=30 * DAY)
    with filled.opened() as store:
        found = retention.plan(store, NAME, rule, now=NOW)
        retention.carry_out(store, found, now=NOW)
        assert everything(store) == (
            ["m-10", "m-55", "m-60", "m-65", "m-70", "m-90"],
            [f"{make_id(number)}.txt" for number in (10, 55, 60, 65, 70, 90)],
            [f"{make_id(number)}.html" for number in (10, 55, 60, 65, 70, 90)],
        )
        assert len(store.list_models(model_name=NAME)) == 9
        assert len(store.promotion_events(model_name=NAME)) == 4
        given_up = store.get_model(NAME, "m-50")
        assert given_up.pruned_at == NOW
        with pytest.raises(NotFound):
            store.fetch(given_up.artifact, tmp_path / "copy")
        again = retention.plan(store, NAME, rule, now=NOW)
        assert (again.models, again.logs) == ((), ())


def test_a_model_that_became_champion_since_the_plan_keeps_its_bytes(filled: Place) -> None:
    with filled.opened() as store:
        found = retention.plan(store, NAME, Retention(models=1, window=30 * DAY), now=NOW)
        store.promote(make_promotion("m-40", "m-70", 9, model_name=NAME))
        refusal = r"^m-40 (serves and is not|is the champion, which is never) pruned"
        with pytest.raises(StoreRefused, match=refusal):
            retention.carry_out(store, found, now=NOW)
        assert store.names("ml-models", f"{NAME}/m-40") == ["model.skops"]


def test_bytes_that_a_crash_left_are_found_the_next_time(filled: Place) -> None:
    with filled.opened() as store:
        store.prune_model(NAME, "m-40", now=NOW)
        found = retention.plan(store, NAME, Retention(models=1, window=30 * DAY), now=NOW)
        assert "m-40" in [model.model_id for model in found.models]


def test_the_command_only_says_what_it_would_do_unless_it_is_told_to(
    filled: Place, tmp_path: Path
) -> None:
    def prune(*more: str) -> Finished:
        return warm.ml_pipeline("models", "prune", *more, cwd=tmp_path, **filled.variables)

    # The clock of the machine is ahead of these models by more than any window.
    shown = prune("--keep", "2")
    assert (shown.code, shown.json["dry_run"]) == (0, True), shown.stderr
    assert shown.json["models"] == ["m-50", "m-80"]
    with filled.opened() as store:
        assert len(store.names("ml-models", NAME)) == 9
        for number in (1, 2):
            store.submit(make_request(number, model_name=NAME))
        store.cancel(make_id(2), now=NOW)
    prune("--keep", "2")
    with filled.opened() as store:
        assert len(store.list_requests(model_name=NAME)) == 2
    done = prune("--keep", "2", "--apply")
    assert (done.json["dry_run"], done.json["models"]) == (False, ["m-50", "m-80"])
    with filled.opened() as store:
        assert len(store.names("ml-models", NAME)) == 7
        # One has waited for too long, the other was closed long ago.
        assert store.get_request(make_id(1)).status is RequestStatus.FAILED
        assert len(store.list_requests(model_name=NAME)) == 1
    assert prune("--keep", "0").code == 2
    assert prune().code == 2
