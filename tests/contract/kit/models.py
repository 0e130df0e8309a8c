"""The conformance kit: promises about models and promotions."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ml_pipeline.errors import AlreadyFinished, NotFound, PromotionRefused, StoreRefused
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import Lineage, ModelBrief, ModelState, PromotionKind
from tests.contract.kit.base import (
    AWKWARD,
    RACERS,
    Call,
    OpenStore,
    StoreFixtures,
    race,
)
from tests.support.factories import (
    MODEL_NAME,
    NOW,
    make_id,
    make_model,
    make_promotion,
    make_run,
)


class ModelRegistryContract(StoreFixtures):
    """Models and promotions."""

    @staticmethod
    def serve(store: Store, *model_ids: str) -> None:
        """Register the models and promote the first."""
        for model_id in model_ids:
            store.register(make_model(model_id))
        store.promote(make_promotion(model_ids[0], None, 1))

    @staticmethod
    def states(store: Store) -> dict[str, ModelState]:
        """The state of every model."""
        return {item.model_id: item.state for item in store.list_models(model_name=MODEL_NAME)}

    def test_o10_names_under_which_a_champion_serves_are_told(self, store: Store) -> None:
        assert store.served_names() == []
        for name in ("other", MODEL_NAME):
            store.register(make_model("m-1", model_name=name))
            assert name not in store.served_names()
            store.promote(make_promotion("m-1", None, len(name), model_name=name))
        assert store.served_names() == sorted(["other", MODEL_NAME])

    def test_a_registered_model_comes_back_as_it_was(self, store: Store) -> None:
        lineage = Lineage.from_json({"note": AWKWARD, "x": [0.1], "first_night": 739_000})
        model = make_model(parent_id="m-0", anchor_id="m-0", lineage=lineage)
        store.register(model)
        assert store.get_model(MODEL_NAME, "m-1") == model
        assert store.list_models(model_name=MODEL_NAME) == [model]

    def test_registering_the_same_model_again_changes_nothing(self, store: Store) -> None:
        self.serve(store, "m-1")
        store.register(make_model("m-1"))
        assert self.states(store) == {"m-1": ModelState.CHAMPION}

    def test_registering_a_known_id_with_other_content_is_refused(self, store: Store) -> None:
        store.register(make_model())
        with pytest.raises(StoreRefused):
            store.register(make_model(algorithm="RandomForest"))
        with pytest.raises(StoreRefused):
            store.register(make_model(artifact=replace(make_model().artifact, size=1)))
        assert store.list_models(model_name=MODEL_NAME) == [make_model()]

    def test_a_model_cannot_be_registered_as_champion(self, store: Store) -> None:
        with pytest.raises(StoreRefused):
            store.register(make_model(state=ModelState.CHAMPION))
        assert store.list_models(model_name=MODEL_NAME) == []

    def test_the_same_id_under_another_name_is_another_model(self, store: Store) -> None:
        store.register(make_model())
        store.register(make_model(model_name="tennis", algorithm="Ensemble"))
        assert store.get_model("tennis", "m-1").algorithm == "Ensemble"
        assert store.get_model(MODEL_NAME, "m-1") == make_model()

    def test_without_a_promotion_there_is_no_champion(self, store: Store) -> None:
        store.register(make_model())
        assert store.champion(model_name=MODEL_NAME) is None
        assert store.promotion_events(model_name=MODEL_NAME) == []

    def test_unknown_models_are_not_found(self, store: Store) -> None:
        calls: tuple[Call, ...] = (
            lambda: store.get_model(MODEL_NAME, "m-9"),
            lambda: store.promote(make_promotion("m-9", None)),
            lambda: store.set_model_state(MODEL_NAME, "m-9", ModelState.SHADOW),
        )
        for call in calls:
            with pytest.raises(NotFound):
                call()
        assert store.promotion_events(model_name=MODEL_NAME) == []

    def test_models_are_listed_newest_first_by_anchor(self, store: Store) -> None:
        born = {"a": 2, "b": 1, "c": 3, "d": 4}
        for model_id, hours in born.items():
            anchor = "d" if model_id == "d" else "a"
            at = NOW + timedelta(hours=hours)
            store.register(make_model(model_id, created_at=at, anchor_id=anchor))

        def listed(**more: Any) -> list[str]:  # noqa: ANN401 - passed on
            return [item.model_id for item in store.list_models(model_name=MODEL_NAME, **more)]

        assert listed() == ["d", "c", "a", "b"]
        assert listed(anchor_id="a") == ["c", "a", "b"]
        assert listed(anchor_id="a", limit=2) == ["c", "a"]
        assert listed(anchor_id="z") == []
        store.set_model_state(MODEL_NAME, "b", ModelState.AWAITING)
        store.set_model_state(MODEL_NAME, "d", ModelState.AWAITING)
        assert listed(state=ModelState.AWAITING) == ["d", "b"]
        assert listed(state=ModelState.AWAITING, anchor_id="a") == ["b"]
        assert listed(state=ModelState.CHAMPION) == []

    def test_models_come_in_brief_newest_first_with_what_a_look_over_all_needs(
        self, store: Store
    ) -> None:
        since = NOW.date() - timedelta(days=3)
        lineage = Lineage(shadow_since=since, settled_night=739_000, rebuilds=2)
        shadow = make_model(
            'b, ("c")', anchor_id="a", run_id=make_id(3), state=ModelState.SHADOW, lineage=lineage,
            created_at=NOW + timedelta(hours=1),
        )  # fmt: skip
        for model in (make_model("a"), shadow, make_model("d"), make_model("a", model_name="t")):
            store.register(model)
        briefs = [
            ModelBrief(model_id=shadow.model_id, anchor_id="a", created_at=shadow.created_at,
                       state=ModelState.SHADOW, run_id=make_id(3), shadow_since=since,
                       settled_night=739_000, rebuilds=2),
            *(ModelBrief(model_id=name, anchor_id=name, created_at=NOW, state=ModelState.CANDIDATE)
              for name in "da"),
        ]  # fmt: skip
        assert store.list_models_in_brief(model_name=MODEL_NAME) == briefs
        assert store.list_models_in_brief(model_name=MODEL_NAME, anchor_id="a") == [
            briefs[0],
            briefs[2],
        ]
        assert store.list_models_in_brief(model_name="none") == []

    def test_the_ids_of_a_lineage_come_without_its_rows(self, store: Store) -> None:
        for model_id, anchor in {"c": "a", "a": "a", "d": "d"}.items():
            store.register(make_model(model_id, anchor_id=anchor))
        store.register(make_model("e", anchor_id="a", model_name="tennis"))
        assert store.list_model_ids(model_name=MODEL_NAME, anchor_id="a") == ["a", "c"]
        assert store.list_model_ids(model_name=MODEL_NAME, anchor_id="z") == []

    def test_a_promotion_retires_the_champion_before(self, store: Store) -> None:
        self.serve(store, "m-1", "m-2")
        promoted = store.promote(make_promotion("m-2", "m-1", 2))
        assert promoted == make_model("m-2", state=ModelState.CHAMPION)
        assert store.champion(model_name=MODEL_NAME) == promoted
        assert store.champion_id(model_name=MODEL_NAME) == "m-2"
        assert store.champion_id(model_name="tennis") is None
        assert self.states(store) == {"m-1": ModelState.RETIRED, "m-2": ModelState.CHAMPION}

    def test_every_promotion_is_kept_newest_first(self, store: Store) -> None:
        self.serve(store, "m-1", "m-2")
        events = [
            make_promotion("m-1", None, 1),
            make_promotion("m-2", "m-1", 2, run_id=make_id(7), reason=AWKWARD),
            make_promotion("m-1", "m-2", 3, kind=PromotionKind.ROLLBACK, actor="Ána"),
        ]
        for event in events[1:]:
            store.promote(event)
        assert store.promotion_events(model_name=MODEL_NAME) == events[::-1]
        assert store.promotion_events(model_name=MODEL_NAME, limit=1) == events[2:]
        assert self.states(store) == {"m-1": ModelState.CHAMPION, "m-2": ModelState.RETIRED}

    def test_the_same_promotion_again_changes_nothing(self, store: Store) -> None:
        self.serve(store, "m-1", "m-2")
        event = make_promotion("m-2", "m-1", 2)
        assert store.promote(event) == store.promote(event)
        assert len(store.promotion_events(model_name=MODEL_NAME)) == 2
        store.promote(make_promotion("m-1", "m-2", 3))
        store.promote(event)
        assert self.states(store) == {"m-1": ModelState.CHAMPION, "m-2": ModelState.RETIRED}

    def test_a_known_promotion_with_other_content_is_refused(self, store: Store) -> None:
        self.serve(store, "m-1", "m-2")
        with pytest.raises(StoreRefused):
            store.promote(make_promotion("m-2", "m-1", 1))
        assert self.states(store) == {"m-1": ModelState.CHAMPION, "m-2": ModelState.CANDIDATE}

    @pytest.mark.parametrize("seen", [None, "m-2", "m-3", "m-9"])
    def test_a_promotion_over_another_champion_than_seen_is_refused(
        self, store: Store, seen: str | None
    ) -> None:
        self.serve(store, "m-1", "m-2", "m-3")
        with pytest.raises(PromotionRefused):
            store.promote(make_promotion("m-3", seen, 2))
        assert self.states(store)["m-1"] is ModelState.CHAMPION
        assert store.promotion_events(model_name=MODEL_NAME) == [make_promotion("m-1", None, 1)]

    def test_a_champion_is_not_promoted_over_itself(self, store: Store) -> None:
        self.serve(store, "m-1")
        with pytest.raises(PromotionRefused):
            store.promote(make_promotion("m-1", "m-1", 2))
        assert self.states(store) == {"m-1": ModelState.CHAMPION}

    def test_defect_17_of_racing_promotions_one_wins_and_the_history_is_complete(
        self, store: Store, open_store: OpenStore
    ) -> None:
        names = [f"c-{number}" for number in range(RACERS)]
        self.serve(store, "m-1", *names)
        got = race(
            open_store,
            lambda handle, number: handle.promote(
                make_promotion(names[number], "m-1", 10 + number)
            ),
        )
        winners = [number for number, item in enumerate(got) if not isinstance(item, Exception)]
        assert len(winners) == 1
        assert sum(isinstance(item, PromotionRefused) for item in got) == RACERS - 1
        states = self.states(store)
        assert [name for name in states if states[name] is ModelState.CHAMPION] == [
            names[winners[0]]
        ]
        assert states["m-1"] is ModelState.RETIRED
        history = [
            (event.from_model_id, event.to_model_id)
            for event in store.promotion_events(model_name=MODEL_NAME)
        ]
        assert history == [("m-1", names[winners[0]]), (None, "m-1")]

    def test_racing_promotions_that_retry_chain_without_a_gap(
        self, store: Store, open_store: OpenStore
    ) -> None:
        names = [f"c-{number}" for number in range(RACERS)]
        self.serve(store, "m-1", *names)

        def insist(handle: Store, number: int) -> None:
            for attempt in range(100):
                champion = handle.champion(model_name=MODEL_NAME)
                assert champion is not None
                event_number = 1000 * (number + 1) + attempt
                try:
                    handle.promote(make_promotion(names[number], champion.model_id, event_number))
                except PromotionRefused:
                    continue
                return
            pytest.fail("never promoted")

        assert race(open_store, insist) == [None] * RACERS
        events = store.promotion_events(model_name=MODEL_NAME)
        assert len(events) == RACERS + 1
        step = {event.from_model_id: event.to_model_id for event in events}
        chain = [step[None]]
        while chain[-1] in step:
            chain.append(step[chain[-1]])
        assert sorted(chain) == sorted(["m-1", *names])
        states = self.states(store)
        assert [name for name in states if states[name] is ModelState.CHAMPION] == [chain[-1]]

    def test_champions_of_other_models_stay(self, store: Store) -> None:
        self.serve(store, "m-1")
        store.register(make_model("t-1", model_name="tennis"))
        store.promote(make_promotion("t-1", None, 2, model_name="tennis"))
        champion = store.champion(model_name=MODEL_NAME)
        assert champion is not None
        assert champion.model_id == "m-1"
        assert len(store.promotion_events(model_name="tennis")) == 1

    def test_a_models_state_can_be_moved(self, store: Store) -> None:
        store.register(make_model())
        for state in (ModelState.SHADOW, ModelState.SHADOW, ModelState.AWAITING):
            store.set_model_state(MODEL_NAME, "m-1", state)
            assert store.get_model(MODEL_NAME, "m-1") == make_model(state=state)

    def test_moving_a_state_never_touches_the_champion(self, store: Store) -> None:
        self.serve(store, "m-1", "m-2")
        before = self.states(store)
        with pytest.raises(StoreRefused):
            store.set_model_state(MODEL_NAME, "m-1", ModelState.RETIRED)
        with pytest.raises(StoreRefused):
            store.set_model_state(MODEL_NAME, "m-2", ModelState.CHAMPION)
        assert self.states(store) == before

    def test_a_run_that_was_closed_meanwhile_promotes_nothing(self, store: Store) -> None:
        store.register(make_model("m-1"))
        store.register(make_model("m-2"))
        store.start_run(make_run(1))
        first = make_promotion("m-1", None, 1, run_id=make_id(1))
        store.promote(first)
        late = NOW + timedelta(hours=2)
        store.fail_stale_runs(model_name=MODEL_NAME, now=late, older_than=timedelta(hours=1))
        with pytest.raises(AlreadyFinished, match=make_id(1)):
            store.promote(make_promotion("m-2", "m-1", 2, run_id=make_id(1)))
        # The same promotion again is the answer that was lost, not a new one.
        assert store.promote(first).model_id == "m-1"
        champion = store.champion(model_name=MODEL_NAME)
        assert champion is not None
        assert champion.model_id == "m-1"

    def test_a_pruned_model_is_never_champion_again_and_a_champion_is_not_pruned(
        self, store: Store
    ) -> None:
        self.serve(store, "m-1", "m-2")
        with pytest.raises(StoreRefused, match="m-1"):
            store.prune_model(MODEL_NAME, "m-1", now=NOW)
        pruned = store.prune_model(MODEL_NAME, "m-2", now=NOW)
        assert pruned == make_model("m-2", pruned_at=NOW)
        assert store.prune_model(MODEL_NAME, "m-2", now=NOW + timedelta(days=1)) == pruned
        store.register(make_model("m-2"))
        assert store.get_model(MODEL_NAME, "m-2") == pruned
        with pytest.raises(PromotionRefused, match="m-2"):
            store.promote(make_promotion("m-2", "m-1", 5))
        assert self.states(store)["m-1"] is ModelState.CHAMPION
        with pytest.raises(NotFound):
            store.prune_model(MODEL_NAME, "m-9", now=NOW)
