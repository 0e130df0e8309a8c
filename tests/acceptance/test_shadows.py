"""New bases in the nightly run: born when due, learning unseen, then promoted or given up."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_pipeline.config.settings import Settings
from ml_pipeline.registry.models import load_model_version
from ml_pipeline.registry.serving_state import shadow_state_of
from ml_pipeline.runs import recording
from ml_pipeline.runs.recording import Order, Trained
from ml_pipeline.runs.waiting.giving_up import give_up_waiting
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import Lineage, ModelState, ModelVersion
from tests.conftest import FirstModel
from tests.support import league
from tests.support.factories import MODEL_NAME, make_model
from tests.support.in_process import train_here
from tests.support.places import Place

NOW = datetime(2026, 3, 14, 2, 0, tzinfo=UTC)
# The champion was made 30 days before the league's first night.
SETTINGS: dict[str, Any] = {"training__refit_every_days": 30, "run__trigger": "labels"}


@pytest.fixture
def store(tmp_path: Path, first_model: FirstModel) -> LocalStore:
    nights = league.nights_before(NOW, 2, matches=150)
    return league.open_league(tmp_path / "store", first_model.path, first_model.model, nights)


def play_night(
    store: LocalStore,
    model: Any,  # noqa: ANN401 - AdaptiveClassifier
    folder: Path,
    number: int,
    **changes: Any,  # noqa: ANN401 - settings
) -> dict[str, Any]:
    """The matches of the day before, then the nightly run; what it prints."""
    now = NOW + timedelta(days=number)
    if number:
        for night in league.nights_before(now, 1, matches=150):
            store.append_events(league.events_of(model, night))
    count = iter(range(1000))
    outcome = recording.run(
        store,
        Order(
            settings=league.settings_for(**(SETTINGS | changes)),
            work_dir=folder / "work",
            clock=lambda: now,
            new_id=lambda: league.event_id(f"{now} {next(count)}"),
        ),
    )
    assert isinstance(outcome, Trained), outcome.result
    return dict(outcome.result)


def bases(store: LocalStore) -> list[ModelVersion]:
    models = store.list_models(model_name="default")
    return [model for model in models if model.anchor_id == model.model_id != league.FIRST_MODEL]


@pytest.mark.long
def test_a_new_base_is_born_when_due_and_learns_unseen_until_it_is_given_up(
    store: LocalStore, first_model: FirstModel, tmp_path: Path
) -> None:
    limits: dict[str, Any] = {"promotion__max_shadow_nights": 2, "promotion__horizon_rows": 10**6}
    born = play_night(store, first_model.model, tmp_path, 0, **limits)
    assert [note["outcome"] for note in born["shadows"]] == ["born", "born"]
    assert [note["heads"] for note in born["shadows"]] == ["fresh", "carried"]
    fresh, carried = sorted(bases(store), key=lambda model: str(model.lineage.shadow_heads))[::-1]
    assert {model.state for model in (fresh, carried)} == {ModelState.SHADOW}
    assert fresh.lineage.settled_night == (NOW - timedelta(days=1)).toordinal()
    one, two = (load_model_version(store, model) for model in (fresh, carried))
    rows = league.play(99, 50).features
    assert np.allclose(one.base_proba(rows), two.base_proba(rows))
    assert np.allclose(one.predict_proba(rows), one.base_proba(rows), atol=1e-3)
    assert not np.allclose(two.predict_proba(rows), two.base_proba(rows), atol=1e-2)

    undecided = play_night(store, first_model.model, tmp_path, 1, **limits)
    assert [note["outcome"] for note in undecided["shadows"]] == ["undecided", "undecided"]
    assert "150 unseen results on 1 day are too few" in undecided["shadows"][0]["reason"]
    assert undecided["champion"] == undecided["challenger"]

    ended = play_night(store, first_model.model, tmp_path, 2, **limits)
    assert [note["outcome"] for note in ended["shadows"]] == ["rejected", "rejected"]
    assert ended["outcome"] == "promoted"
    assert ended["champion"] == ended["challenger"]
    assert len(bases(store)) == 2
    newest = {m.anchor_id: m for m in reversed(store.list_models(model_name="default"))}
    assert {newest[base.model_id].state for base in (fresh, carried)} == {ModelState.RETIRED}


def test_a_base_that_proves_better_replaces_the_champion_and_its_line_goes_on(
    tmp_path: Path,
) -> None:
    # A champion whose heads never get a say is left behind when the truth turns.
    quick: dict[str, Any] = {
        "training__adaptive__initial_head_weight": 1e-9,
        "training__adaptive__vote_rate": 1e-9,
        "training__adaptive__vote_share": 0.0,
        "promotion__min_nights": 1,
    }
    path = tmp_path / "model.skops"
    model = league.train_first(path, league.settings_for(**quick))
    nights = league.nights_before(NOW, 2, matches=150)
    store = league.open_league(tmp_path / "store", path, model, nights)
    born = play_night(store, model, tmp_path, 0, **quick)
    ids = {note["heads"]: note["model_id"] for note in born["shadows"]}
    result = play_night(store, model, tmp_path, 1, **quick)
    # Both bases proved better than the old one, and neither than the other.
    other, better = sorted(result["shadows"], key=lambda note: note["outcome"] == "promoted")
    assert (other["outcome"], better["outcome"]) == ("undecided", "promoted")
    assert other["yields_to"] == better["model_id"] == result["champion"]
    assert "better than the model that served, but less surely" in other["reason"]
    assert f"{other['model_id']}, too, did better" in result["outcome_reason"]
    said = result["outcome_reason"].partition(f" Then {result['champion']}, a new base from the ")[
        2
    ]
    assert said.startswith("shadow, was promoted: on 150 unseen results the new model did better")
    champion = store.champion(model_name="default")
    assert champion is not None
    assert champion.model_id == result["champion"]
    assert champion.anchor_id in ids.values()
    event = store.promotion_events(model_name="default", limit=1)[0]
    assert "did better than the model that serves" in event.reason

    after = play_night(store, model, tmp_path, 2, **quick)
    (left,) = after["shadows"]
    assert left["base"] == other["base"]
    # Not those of the night before, which were compared with another base.
    assert "150 unseen results" in left["reason"]
    assert after["outcome"] == "promoted"
    follower = store.champion(model_name="default")
    assert follower is not None
    assert follower.anchor_id in ids.values()
    turned = league.play(7, 1000, turned=True)
    assert (
        load_model_version(store, follower).predict(turned.features) == turned.labels
    ).mean() > 0.6


@pytest.mark.parametrize("place", ["embedded", "supabase"], indirect=True)
def test_challengers_that_wait_in_vain_are_given_up_with_the_reason(
    place: Place, first_model: FirstModel
) -> None:
    place.fill(first_model, [])
    long_ago, lately = NOW - timedelta(days=60), NOW - timedelta(days=59)
    last = long_ago.date() - timedelta(days=1)
    shadow = Lineage(shadow_since=last, settled_night=last.toordinal() - 9)
    with place.opened() as store:
        base = store.get_model("default", league.FIRST_MODEL)
        for model_id, at, state, lineage in (
            ("forgotten", long_ago, ModelState.AWAITING, base.lineage),
            ("asked lately", lately, ModelState.AWAITING, base.lineage),
            ("idle", long_ago, ModelState.SHADOW, shadow),
            ("compared lately", long_ago, ModelState.SHADOW,
             replace(shadow, settled_night=last.toordinal() + 1)),
        ):  # fmt: skip
            store.register(
                replace(
                    base, model_id=model_id, anchor_id=model_id, created_at=at, state=state,
                    lineage=lineage,
                )
            )  # fmt: skip
        notes = give_up_waiting(store, league.settings_for(), NOW)
        assert give_up_waiting(store, league.settings_for(), NOW) == []
        states = {m.model_id: m.state for m in store.list_models(model_name="default")}
        assert notes == [
            {"model_id": "forgotten", "reason": "Given up: nobody approved or rejected it since "
             "2026-01-13, and promotion.max_shadow_nights is 60 days."},
            {"model_id": "idle", "reason": "Given up: no new result to compare it on since "
             "2026-01-13, and promotion.max_shadow_nights is 60 days."},
        ]  # fmt: skip
    assert [name for name, state in states.items() if state is ModelState.RETIRED] == [
        "idle", "forgotten",
    ]  # fmt: skip
    assert states[league.FIRST_MODEL] is ModelState.CHAMPION


@pytest.mark.parametrize("place", ["embedded", "supabase"], indirect=True)
@pytest.mark.parametrize("serves", [True, False])
def test_beside_a_classifier_of_their_own_the_newest_that_is_given_up_learns_on(
    place: Place,
    serves: bool,  # noqa: FBT001 - a column of the table above
) -> None:
    settings = Settings().changed({"model_name": MODEL_NAME, "incumbent.serves": serves})
    with place.opened() as store:
        for model_id, days in (("first", 61), ("second", 60)):
            at, last = NOW - timedelta(days=days), NOW.toordinal() - days
            store.register(
                make_model(
                    model_id, anchor_id="first", created_at=at, state=ModelState.AWAITING,
                    lineage=Lineage(settled_night=last),
                )
            )  # fmt: skip
        newest, oldest = give_up_waiting(store, settings, NOW)
        assert give_up_waiting(store, settings, NOW + timedelta(days=90)) == []
        assert ("learns on in the shadow" in newest["reason"]) is serves
        assert "learns on" not in oldest["reason"]
        head = shadow_state_of(store, MODEL_NAME).head
        assert (None if head is None else head.model_id) == ("second" if serves else None)
        assert store.get_model(MODEL_NAME, "first").state is ModelState.RETIRED


def test_a_run_says_what_it_gave_up(store: LocalStore, tmp_path: Path) -> None:
    base = store.get_model("default", league.FIRST_MODEL)
    store.register(
        replace(base, model_id="forgotten", state=ModelState.AWAITING, anchor_id="forgotten")
    )
    order = Order(
        settings=league.settings_for(promotion__max_shadow_nights=1, run__min_error_samples=10**6),
        work_dir=tmp_path / "work", clock=lambda: NOW,
    )  # fmt: skip
    (note,) = recording.run(store, order).result["given_up"]
    assert note["model_id"] == "forgotten"
    assert store.get_model("default", "forgotten").state is ModelState.RETIRED


def test_a_shadow_without_a_new_result_waits_and_has_not_failed(
    first_model: FirstModel, tmp_path: Path
) -> None:
    # Results of the days before it was there came late: its base was trained without them.
    late = [league.Night(day=NOW.date() - timedelta(days=9))]
    store = league.open_league(tmp_path / "store", first_model.path, first_model.model, late)
    base, born = store.get_model("default", league.FIRST_MODEL), NOW.date() - timedelta(days=1)
    shadow = Lineage(shadow_since=born, shadow_heads="fresh", settled_night=born.toordinal())
    store.register(
        replace(
            base, model_id="new", anchor_id="new", state=ModelState.SHADOW, lineage=shadow,
            created_at=NOW - timedelta(days=1),
        )
    )  # fmt: skip
    settings = league.settings_for(run__trigger="any")
    order = Order(
        settings=settings, work_dir=tmp_path / "work", clock=lambda: NOW, train=train_here
    )
    assert recording.run(store, order).result["shadows"] == [
        {
            "model_id": "new", "base": "new", "heads": "fresh", "outcome": "undecided",
            "reason": "Not decided yet: no new result has come in to compare it on.",
        }
    ]  # fmt: skip
    assert store.get_model("default", "new").state is ModelState.SHADOW
    store.close()
