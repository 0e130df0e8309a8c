"""A run on labels that are no fair sample: nothing is promoted unasked, and it says why."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ml_pipeline.commands.checks.examined import Examined
from ml_pipeline.commands.checks.log import evaluation_log
from ml_pipeline.runs import recording
from ml_pipeline.runs.recording import Order, RunOutcome
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import LookbackWindow
from tests.conftest import FirstModel
from tests.support import league

NOW = datetime(2026, 3, 14, 2, 0, tzinfo=UTC)


def labelled_store(folder: Path, first: FirstModel, *, share_of_right: float) -> LocalStore:
    """Five nights of which every error has its outcome, and such a share of the right answers."""
    store = league.open_league(folder / "store", first.path, first.model, [])
    rng = np.random.default_rng(4)
    for night in league.nights_before(NOW, 5, matches=120, turned=False):
        events = league.events_of(first.model, night)
        is_right = events["prediction"] == events["actual_result"]
        unknown = is_right & (rng.random(len(events)) >= share_of_right)
        events["actual_result"] = events["actual_result"].mask(unknown, None)
        events["evaluated_at"] = events["evaluated_at"].mask(unknown, pd.NaT)
        events["accuracy"] = events["accuracy"].mask(unknown, np.nan)
        events["status"] = events["status"].mask(unknown, "pending")
        store.append_events(events)
    return store


def run(store: LocalStore, folder: Path, **changes: Any) -> RunOutcome:  # noqa: ANN401
    count = iter(range(1000))
    return recording.run(
        store,
        Order(
            settings=league.settings_for(run__trigger="labels", **changes),
            work_dir=folder / "work",
            clock=lambda: NOW,
            new_id=lambda: league.event_id(f"{NOW} {next(count)}"),
        ),
    )


def champion_id(store: LocalStore) -> str:
    champion = store.champion(model_name="default")
    assert champion is not None
    return champion.model_id


def doctor_says(store: LocalStore, **changes: Any) -> tuple[bool, str]:  # noqa: ANN401
    """The doctor's finding on the labels: whether it is well, and its words."""
    examined = Examined(store=store, settings=league.settings_for(**changes), now=NOW)
    (found,) = (f for f in evaluation_log(examined) if f.name == "log_sample")
    return found.ok, f"{found.what} {found.do}"


def test_on_errors_alone_nothing_is_promoted_unasked(
    tmp_path: Path, first_model: FirstModel
) -> None:
    store = labelled_store(tmp_path, first_model, share_of_right=0)
    result = run(store, tmp_path).result
    assert result["outcome"] == "awaiting_approval"
    assert champion_id(store) == league.FIRST_MODEL
    assert (
        "nearly all results that a model could be judged on are errors"
        in (result["outcome_reason"])
    )
    assert "Label a random part of all answers" in result["outcome_reason"]
    assert result["label_sample"]["right"] == 0
    assert result["label_sample"]["answers"] == 600
    # Fewer than are sampled: each one counts.
    (frame,) = store.read_events(
        LookbackWindow.ending(NOW, days=30), model_name="default", labelled_only=False
    )
    whole = frame[frame["prediction"] != "UNCERTAIN"]
    for share in result["label_sample"]["by_confidence"]:
        inside = whole["confidence"].between(share["low"], share["high"], inclusive="left")
        assert share["answers"] == inside.sum()
        known = whole["actual_result"].notna()[inside]
        assert share["labelled"] == pytest.approx(known.mean())
    assert "Labelled by confidence: " in result["label_sample"]["said"]
    page = Path(result["report_path"]).read_text(encoding="utf-8")
    assert "answers get labels less often than" in page


def test_a_log_of_errors_alone_is_no_better(tmp_path: Path, first_model: FirstModel) -> None:
    """Nobody has logged the answers that were right: a CSV of errors."""
    whole = labelled_store(tmp_path, first_model, share_of_right=0)
    path = tmp_path / "errors.csv"
    frames = [league.events_of(first_model.model, night) for night in league.nights_before(NOW, 5)]
    events = pd.concat(frames)
    events[events["prediction"] != events["actual_result"]].to_csv(path, index=False)
    result = run(whole, tmp_path, log__source=str(path)).result
    assert result["outcome"] == "awaiting_approval"
    assert champion_id(whole) == league.FIRST_MODEL


def test_few_right_answers_are_said_with_the_setting_that_mends_it(
    tmp_path: Path, first_model: FirstModel
) -> None:
    store = labelled_store(tmp_path, first_model, share_of_right=0.2)
    is_well, words = doctor_says(store)
    assert not is_well
    assert "label_probability_right to 0.18" in (words)
    result = run(store, tmp_path).result
    assert (
        "Wrong answers seem to get labels more often than right ones." in (result["outcome_reason"])
    )
    page = Path(result["report_path"]).read_text(encoding="utf-8")
    assert "label_probability_right to 0.18" in page.partition("<dt>Labels</dt>")[2]
    assert "Labelled by answer: " in page
    mended = {"training__adaptive__label_probability_right": 0.2}
    assert doctor_says(store, **mended)[0]


def test_a_fair_sample_is_not_talked_about(tmp_path: Path, first_model: FirstModel) -> None:
    store = labelled_store(tmp_path, first_model, share_of_right=1)
    result = run(store, tmp_path).result
    assert result["outcome"] == "promoted"
    assert "labels" not in result["outcome_reason"]
    assert doctor_says(store)[0]
