"""The figures that the page begins with: counted once, compared with as many days before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ml_pipeline.reports.key_figures import KeyFigure, of_run, of_store
from ml_pipeline.reports.overview import Overview, read_overview
from ml_pipeline.store.alerts import AlertStatus, Cause, DailyAccuracy, Severity
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import ModelState, Outcome, RunStatus
from ml_pipeline.web.attention import notices
from tests.support import league
from tests.support.factories import (
    NOW,
    make_alert,
    make_day,
    make_finished_run,
    make_model,
    make_promotion,
    make_run,
)

NAME = {"model_name": "default"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    opened = LocalStore.open(tmp_path / "store")
    yield opened
    opened.close()


def looked_at(store: LocalStore, *, later: timedelta = timedelta(0)) -> Overview:
    return read_overview(store, league.settings_for(), now=NOW + later)


def figures(store: LocalStore) -> dict[str, KeyFigure]:
    return {figure.name: figure for figure in of_store(looked_at(store))}


def days(first: int, last: int, **changes: Any) -> Sequence[DailyAccuracy]:  # noqa: ANN401
    """From `first` days ago to `last` days ago, a hundred outcomes a day."""
    return [make_day(n, **NAME | changes) for n in range(last, first + 1)]


def test_right_answers_are_compared_with_as_many_days_before(store: LocalStore) -> None:
    # Today counts among the seven days: six whole ones and it.
    store.keep_days([*days(6, 0, correct=50), *days(13, 7, correct=80)], now=NOW)
    found = figures(store)["Right, last 7 days"]
    assert (found.value, found.tone) == ("52.6 %", "bad")
    assert found.note == "of 665 outcomes; −31.6 points on the 7 days before"


def test_a_change_that_chance_explains_is_neither_good_nor_bad(store: LocalStore) -> None:
    store.keep_days([*days(6, 0, correct=71), *days(13, 7, correct=70)], now=NOW)
    found = figures(store)["Right, last 7 days"]
    assert (found.value, found.tone) == ("74.7 %", "")
    assert found.note == "of 665 outcomes; +1.1 points (within noise) on the 7 days before"


def test_uncertain_answers_count_neither_as_right_nor_as_wrong(store: LocalStore) -> None:
    store.keep_days(days(3, 0), now=NOW)
    found = figures(store)
    assert found["UNCERTAIN, 30 days"].value == "5.0 %"
    assert found["UNCERTAIN, 30 days"].note.startswith("of 400 outcomes")
    assert found["Right, last 30 days"].note == "of 380 outcomes; none to compare with before"


def test_what_is_not_known_says_who_finds_it_out(store: LocalStore) -> None:
    found = figures(store)
    assert found["Answering model"].value == "None yet"
    assert "`ml-pipeline decay`" in found["Right, last 7 days"].note
    assert "`ml-pipeline run`" in found["Next run expected by"].note
    assert found["Waiting for outcome"].value == "–"


def test_the_latest_run_says_how_many_answers_wait_and_when_the_next_is_due(
    store: LocalStore,
) -> None:
    store.start_run(make_run(1, **NAME))
    loaded = {"rows": 1_234, "pending": 56}
    store.finish_run(make_finished_run(1, **NAME, details={"load_report": loaded}))
    store.register(make_model("m-1", **NAME))
    store.promote(make_promotion("m-1", None, 1, **NAME))
    found = figures(store)
    assert (found["Waiting for outcome"].value, "of 1,234 rows" in found[
        "Waiting for outcome"
    ].note) == ("56", True)  # fmt: skip
    assert found["Next run expected by"].value == NOW + timedelta(hours=26)
    assert found["Answering model"].note == "since 2026-03-14, LogisticRegression"
    late = {it.name: it for it in of_store(looked_at(store, later=timedelta(hours=27)))}
    assert late["Late: expected by"].tone == "bad"


def test_a_run_begins_with_what_it_found() -> None:
    run = make_finished_run(
        metrics={"accuracy": 0.75}, details={"champion_metrics": {"accuracy": 0.5}}
    )
    assert [(it.name, it.value) for it in of_run(run)][:2] == [
        ("Challenger right", "75.0 %"), ("Confident errors", "12"),
    ]  # fmt: skip
    assert of_run(make_run())[-1].note == "still under way"


# ------------------------------------------------------------------- what needs somebody


def headlines(store: LocalStore, **when: timedelta) -> list[tuple[str, str]]:
    return [(it.tone, it.headline) for it in notices(looked_at(store, **when))]


def test_the_most_urgent_stands_first_and_calm_is_said(store: LocalStore) -> None:
    assert headlines(store) == []
    store.start_run(make_run(1, **NAME))
    assert headlines(store) == [
        ("wait", "No model answers yet."), ("info", "A run is under way."),
    ]  # fmt: skip
    store.finish_run(make_finished_run(1, **NAME))
    store.register(make_model("m-1", **NAME))
    store.promote(make_promotion("m-1", None, 1, **NAME))
    assert headlines(store) == [("good", "Nothing needs you.")]
    late = headlines(store, later=timedelta(hours=27))
    assert late == [("bad", "No run has started for too long.")]

    store.register(make_model("m-2", **NAME, state=ModelState.AWAITING))
    store.open_alert(make_alert(2, **NAME, severity=Severity.CRITICAL))
    store.open_alert(make_alert(3, **NAME, cause=Cause.INPUT_DRIFT))
    store.start_run(make_run(4, **NAME, started_at=NOW + timedelta(minutes=1)))
    failed = {"status": RunStatus.FAILED, "outcome": Outcome.FAILED, "error_message": "no\nmore"}
    store.finish_run(make_finished_run(4, **NAME, **failed, started_at=NOW + timedelta(minutes=1)))
    assert headlines(store) == [
        ("bad", "The answers have become worse. (critical)"),
        ("bad", "The latest run failed."),
        ("wait", "The inputs have shifted. (warning)"),
        ("wait", "A model waits for approval."),
    ]


def test_an_alert_that_is_over_or_taken_care_of_is_told_so(store: LocalStore) -> None:
    store.open_alert(make_alert(1, **NAME, status=AlertStatus.ACKNOWLEDGED))
    (notice,) = notices(looked_at(store))
    assert notice.text == "accuracy fell Somebody takes care of it."
