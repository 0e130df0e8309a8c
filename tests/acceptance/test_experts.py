"""A nightly run with experts in the vote: fitted when due, carried on, served and built again."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_pipeline.registry.models import load_model_version
from ml_pipeline.runs import recording
from ml_pipeline.runs.recording import Trained
from ml_pipeline.store.contract import Store
from tests.conftest import FirstModel
from tests.support import crashing, league, warm
from tests.support.crashing import NOW
from tests.support.places import EMBEDDED, FAR_IS_LONG, Place

DAY = timedelta(days=1)
FADING, TREE = "DecisionTree, half-life 3 days", "DecisionTree"
SETTINGS: dict[str, Any] = {
    "training__experts": [
        {"algorithm": "DecisionTree", "half_life_days": 3},
        {"algorithm": "DecisionTree"},
    ],
    "training__experts_every_days": 2,
    "run__trigger": "labels",
}


def run_night(store: Store, model: Any, folder: Path, number: int, **changes: Any) -> Trained:  # noqa: ANN401
    """The matches of the day before, then the nightly run."""
    now = NOW + number * DAY
    if number:
        for night in league.nights_before(now, 1, matches=60):
            store.append_events(league.events_of(model, night))
    settings = league.settings_for(**(SETTINGS | changes))
    order = crashing.order(folder / "w", now, f"night {number}", settings=settings)
    outcome = recording.run(store, order)
    assert isinstance(outcome, Trained), outcome.result
    return outcome


def embedded(folder: Path) -> Place:
    return Place(kind=EMBEDDED, variables={"ML_PIPELINE_LOCAL": str(folder / "store")})


@FAR_IS_LONG
def test_experts_come_when_due_serve_and_are_built_again(
    place: Place, first_model: FirstModel, tmp_path: Path
) -> None:
    place.fill(first_model, league.nights_before(NOW, 3, matches=60))
    yesterday = NOW.date().toordinal() - 1
    with place.opened() as store:
        runs = [run_night(store, first_model.model, tmp_path, number) for number in range(3)]
        lines = [store.get_model("default", str(run.run.challenger_id)) for run in runs]
        # Two of the first three days brought experts; so does every second one after them.
        assert [line.lineage.experts for line in lines] == [
            {FADING: night, TREE: night} for night in (yesterday, yesterday, yesterday + 2)
        ]
        manifests = [store.get_run(run.run.run_id).details["capsule"] for run in runs]
        assert [manifest["known"] is not None for manifest in manifests] == [True, False, True]
        assert [len(manifest["days"]) for manifest in manifests] == [3, 1, 1]
        assert len(manifests[2]["known"]) == 5
        champion = store.champion(model_name="default")
        assert champion is not None
        assert champion.model_id == lines[2].model_id
        assert runs[2].run.outcome == "promoted"
        model = load_model_version(store, champion)
    assert [expert.name for expert in model.memory().experts] == [FADING, TREE]
    assert (model.memory().vote > 0).all()

    for run in runs:
        done = warm.ml_pipeline("replay", run.run.run_id, cwd=tmp_path, **place.variables)
        assert (done.code, done.json["result"]) == (0, "identical"), done.json["first_difference"]

    row = league.play(5, 1).features[0]
    answered = warm.ml_pipeline(
        "predict", "--predict", *map(str, row), "--no-log", cwd=tmp_path, **place.variables
    )
    assert answered.code == 0, answered.stderr
    (expected,) = model.predict_proba(row[None])
    named = answered.json["probabilities"]
    assert [named[label] for label in league.CLASSES] == pytest.approx(expected, abs=1e-6)

    page = warm.ml_pipeline("report", runs[2].run.run_id, cwd=tmp_path, **place.variables)
    assert page.code == 0, page.stderr
    assert FADING in Path(tmp_path, page.json["html"]).read_text(encoding="utf-8")


def test_experts_that_are_no_longer_wished_for_go_and_rows_that_came_late_bring_them_anew(
    first_model: FirstModel, tmp_path: Path
) -> None:
    place = embedded(tmp_path)
    place.fill(first_model, league.nights_before(NOW, 3, matches=60))
    with place.opened() as store:
        run_night(store, first_model.model, tmp_path, 0)
        late = league.nights_before(NOW, 1, matches=5)[0]
        store.append_events(league.events_of(first_model.model, late, tag="late"))
        rebuilt = run_night(store, first_model.model, tmp_path, 1)
        # The night before is kept with its own experts.
        assert "rebuilt" not in rebuilt.run.details
        assert rebuilt.run.details["learned_again_since"] == str(NOW.date() - DAY)
        line = store.get_model("default", str(rebuilt.run.challenger_id))
        assert set(line.lineage.experts or {}) == {FADING, TREE}

        plain = run_night(store, first_model.model, tmp_path, 2, training__experts=[])
        line = store.get_model("default", str(plain.run.challenger_id))
        assert line.lineage.experts == {}
        assert plain.run.details["rebuilt_for"] == ["training.experts"]
        vote = load_model_version(store, line).memory().vote
    assert len(vote) == 13
    assert np.isclose(vote.sum(), 1)


def test_a_window_brings_the_rows_of_its_days_alone_also_after_late_ones(
    first_model: FirstModel, tmp_path: Path
) -> None:
    place = embedded(tmp_path)
    place.fill(first_model, league.nights_before(NOW, 4, matches=60))
    nightly = [{"algorithm": "DecisionTree", "window_nights": 2, "every_nights": 1}]
    with place.opened() as store:
        runs = [
            run_night(store, first_model.model, tmp_path, number, training__experts=nightly)
            for number in range(2)
        ]
        late = league.nights_before(NOW + DAY, 1, matches=5)[0]
        store.append_events(league.events_of(first_model.model, late, tag="late"))
        runs.append(run_night(store, first_model.model, tmp_path, 2, training__experts=nightly))
        manifests = [store.get_run(run.run.run_id).details["capsule"] for run in runs]
    assert [len(manifest["known"]) for manifest in manifests] == [4, 2, 3]
    assert runs[2].run.details["learned_again_since"] == str(NOW.date())


def test_bases_in_the_shadow_take_the_experts_along(
    first_model: FirstModel, tmp_path: Path
) -> None:
    place = embedded(tmp_path)
    place.fill(first_model, league.nights_before(NOW, 3, matches=60))
    changes = {"training__refit_every_days": 30, "training__experts_every_days": 1}
    with place.opened() as store:
        nights = [
            run_night(store, first_model.model, tmp_path, number, **changes) for number in range(2)
        ]
        born, after = (night.result["shadows"] for night in nights)
        assert [note["outcome"] for note in born] == ["born", "born"]
        assert [note["outcome"] for note in after] == ["undecided", "undecided"]
        for notes, night in ((born, -1), (after, 0)):
            fitted = dict.fromkeys([FADING, TREE], NOW.date().toordinal() + night)
            for note in notes:
                shadow = store.get_model("default", note["model_id"])
                assert shadow.lineage.experts == fitted
