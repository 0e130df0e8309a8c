"""A rejected update leaves the approved base serving, wherever the run is broken off."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation.gate import PromotionDecision
from ml_pipeline.evaluation.judging import Verdict
from ml_pipeline.evaluation.metrics import encode, evaluate
from ml_pipeline.registry import archive
from ml_pipeline.registry.registration import (
    Registration,
    register_judged,
    step_back_left_undone,
)
from ml_pipeline.registry.serving_state import ServingState, serving_state_of
from ml_pipeline.registry.trained import TrainerAnswer
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import (
    Lineage,
    ModelState,
    ModelVersion,
    Outcome,
    PromotionEvent,
    PromotionKind,
    RetrainingRun,
    RunStatus,
    Source,
)
from tests.conftest import FirstModel
from tests.support import crashing, league
from tests.support.crashing import NOW
from tests.support.places import Place

SETTLED = NOW.date().toordinal() - 2
RUN = league.event_id("the run that rejects")


class Died(BaseException):
    """The process is gone."""


def promoted_update(store: Store, **changes: object) -> ModelVersion:
    """An update of the first model that serves."""
    base = store.get_model("default", league.FIRST_MODEL)
    lineage = Lineage(first_night=SETTLED, settled_night=SETTLED, log_rows=0)
    values = {
        "model_name": "default",
        "model_id": "updated",
        "algorithm": base.algorithm,
        "artifact": base.artifact,
        "created_at": NOW - timedelta(days=1),
        "state": ModelState.CANDIDATE,
        "anchor_id": base.model_id,
        "lineage": lineage,
        "library_versions": base.library_versions,
    }
    version = ModelVersion(**(values | changes))  # type: ignore[arg-type]
    store.register(version)
    return version


def serve_update(place: Place, model: FirstModel) -> None:
    """The first model's update serves, and a run is at work."""
    place.fill(model, [])
    with place.opened() as store:
        store.promote(
            PromotionEvent(
                event_id=league.event_id("promotion of the update"),
                model_name="default",
                kind=PromotionKind.PROMOTION,
                to_model_id=promoted_update(store).model_id,
                from_model_id=league.FIRST_MODEL,
                reason="it was better",
                actor="gate",
                created_at=NOW - timedelta(days=1),
            )
        )
        store.start_run(
            RetrainingRun(
                run_id=RUN,
                model_name="default",
                source=Source.AUTO_DAILY,
                status=RunStatus.RUNNING,
                started_at=NOW,
                heartbeat_at=NOW,
            )
        )


def registration_of(
    store: Store, model: FirstModel, folder: Path, model_id: str, *, parent: ModelVersion | None
) -> Registration:
    """Of what a run made of the parent on the second day."""
    return Registration(
        store=store,
        settings=league.settings_for(),
        answer=TrainerAnswer(
            result={
                "model_id": model_id,
                "algorithm": "LogisticRegression",
                "library_versions": archive.library_versions(),
                "settled_night": SETTLED + 1,
                "first_night": SETTLED,
                "line": {},
            },
            model_path=model.path,
            evidence_path=folder / "evidence.npz",
            sample_path=folder / "sample.npz",
        ),
        parent=parent,
        clock=lambda: NOW,
    )


def reject(store: Store, model: FirstModel, folder: Path) -> str | None:
    """Register what a run has learned since, which the gate rejects."""
    state = serving_state_of(store, "default")
    played = league.play(3, 40)
    probabilities = model.model.predict_proba(played.features)
    labels = tuple(league.CLASSES)
    Evidence(
        labels=labels,
        event_ids=tuple(map(str, range(40))),
        nights=np.full(40, SETTLED + 1),
        actual=encode(played.labels, np.asarray(labels)),
        challenger=probabilities,
        champion=probabilities,
    ).save(folder / "evidence.npz")
    report = evaluate(played.labels, probabilities, labels, ordered=True)
    decision = PromotionDecision(
        outcome=Outcome.REJECTED, sentence="Rejected: worse.", checks=(), policy="guarded"
    )
    registration = replace(
        registration_of(store, model, folder, "rejected", parent=state.head), run_id=RUN
    )
    verdict = Verdict(decision=decision, challenger=report, champion=report, holdout_digest="")
    count = iter(range(10))
    return register_judged(
        registration, verdict, state, new_id=lambda: league.event_id(f"step {next(count)}")
    )


@pytest.mark.parametrize("fatal", ["promote", "register", None])
def test_a_rejected_update_never_serves_on(
    place: Place, first_model: FirstModel, tmp_path: Path, fatal: str | None
) -> None:
    def before(name: str, _number: int) -> None:
        if name == fatal:
            raise Died

    serve_update(place, first_model)
    with place.opened() as store:
        try:
            assert reject(crashing.through(store, before), first_model, tmp_path) == "first"
        except Died:
            assert fatal is not None
        state = serving_state_of(store, "default")
        is_registered = len(store.list_models(model_name="default")) == 3
    # The head says up to which day everything is learned: nothing is, as long as it serves on.
    assert state.head is not None
    assert (state.champion_id, state.head.model_id, is_registered) == {
        "promote": ("updated", "updated", False),
        "register": ("first", "updated", False),
        None: ("first", "rejected", True),
    }[fatal]


def left_by_an_older_version(store: Store, run_id: str) -> ServingState:
    """The rejected update is registered, and what it came from still serves."""
    later = Lineage(first_night=SETTLED, settled_night=SETTLED + 1)
    promoted_update(
        store, model_id="rejected", state=ModelState.SHADOW, lineage=later, run_id=run_id
    )
    return serving_state_of(store, "default")


def test_the_next_run_lets_the_approved_model_serve_again(
    place: Place, first_model: FirstModel
) -> None:
    serve_update(place, first_model)
    with place.opened() as store:
        state = left_by_an_older_version(store, RUN)
        assert (state.champion_id, state.head and state.head.model_id) == ("updated", "rejected")
        after = step_back_left_undone(
            store, league.settings_for(), state, now=NOW, event_id=league.event_id("done now")
        )
        assert (after.champion_id, after.head and after.head.model_id) == ("first", "rejected")
        assert serving_state_of(store, "default") == after
        event = store.promotion_events(model_name="default", limit=1)[0]
    assert (event.kind, event.run_id) == (PromotionKind.DEMOTION, RUN)
    assert f"Run {RUN} rejected rejected and ended before" in event.reason


@pytest.mark.parametrize("policy", ["guarded", "evidence"])
def test_what_was_left_on_purpose_stays(place: Place, first_model: FirstModel, policy: str) -> None:
    """Where the run was completed, or the policy lets the update serve on."""
    serve_update(place, first_model)
    with place.opened() as store:
        if policy == "guarded":
            store.finish_run(
                RetrainingRun(
                    run_id=RUN,
                    model_name="default",
                    source=Source.AUTO_DAILY,
                    status=RunStatus.COMPLETED,
                    outcome=Outcome.REJECTED,
                    outcome_reason="Rejected: worse.",
                    started_at=NOW,
                    completed_at=NOW,
                    heartbeat_at=NOW,
                )
            )
        state = left_by_an_older_version(store, RUN)
        settings = league.settings_for(promotion__policy=policy)
        after = step_back_left_undone(
            store, settings, state, now=NOW, event_id=league.event_id("not done")
        )
    assert after == state


def change(store: Store, to: str, before: str, kind: PromotionKind) -> None:
    """One model takes the place of another."""
    store.promote(
        PromotionEvent(
            event_id=league.event_id(f"{before} to {to}"),
            model_name="default",
            kind=kind,
            to_model_id=to,
            from_model_id=before,
            reason="odd answers",
            actor="person",
            created_at=NOW,
        )
    )


def test_what_a_person_rolled_back_is_not_gone_on_from_when_what_came_instead_is_approved(
    place: Place, first_model: FirstModel, tmp_path: Path
) -> None:
    """Also where it had been learned again from the base, or of more days."""
    serve_update(place, first_model)
    again = Lineage(first_night=SETTLED, settled_night=SETTLED + 9, log_rows=0, rebuilds=1)
    with place.opened() as store:
        promoted_update(store, model_id="odd", lineage=again)
        change(store, "odd", "updated", PromotionKind.PROMOTION)
        change(store, "updated", "odd", PromotionKind.ROLLBACK)
        assert reject(store, first_model, tmp_path) == "updated"
        change(store, "rejected", "updated", PromotionKind.PROMOTION)
        head = serving_state_of(store, "default").head
        assert head is not None
        assert head.model_id == "rejected"


def test_a_log_that_has_forgotten_the_first_day_is_not_taken_for_a_whole_one_later(
    place: Place, first_model: FirstModel, tmp_path: Path
) -> None:
    """A late row would else have everything learned again from what the log still holds."""
    serve_update(place, first_model)
    held = Lineage(first_night=SETTLED, settled_night=SETTLED, log_rows=40, first_night_rows=40)
    with place.opened() as store:
        parent = promoted_update(store, model_id="of-the-whole-log", lineage=held)
        base = store.get_model("default", league.FIRST_MODEL)
        reject(store, first_model, tmp_path)
        counts = {
            name: registered(store, first_model, tmp_path, head).lineage.first_night_rows
            for name, head in (("goes on", parent), ("learned again", base))
        }
    assert counts == {"goes on": 40, "learned again": 0}


def registered(store: Store, model: FirstModel, folder: Path, parent: ModelVersion) -> ModelVersion:
    """What goes on from the parent, of a log that holds the second day alone."""
    registration = replace(
        registration_of(store, model, folder, f"after-{parent.model_id}", parent=parent),
        labelled_by_day={date.fromordinal(SETTLED + 1): 40},
        counted_from=date.fromordinal(SETTLED),
    )
    return registration.stored(state=ModelState.SHADOW, metrics={})
