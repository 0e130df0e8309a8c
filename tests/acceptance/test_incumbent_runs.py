"""A classifier of the person's own answers: what runs train learns beside it and never replaces it.

Two cases of people whose model was replaced, or forgotten, by ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from ml_pipeline.commands import models, status, train
from ml_pipeline.config.settings import Settings
from ml_pipeline.decay.context import CheckContext
from ml_pipeline.decay.watchdog import DecayCheck, check_decay
from ml_pipeline.registry.champion import Decision, approve
from ml_pipeline.reports import terminal
from ml_pipeline.reports.overview import read_overview
from ml_pipeline.runs import recording
from ml_pipeline.runs.recording import Order
from ml_pipeline.runs.replay import replay
from ml_pipeline.store.alerts import Severity
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import EVENT_COLUMNS, ModelState
from ml_pipeline.web.app import create_app
from ml_pipeline.web.guard import Guard
from tests.support import league
from tests.support.factories import make_model
from tests.support.in_process import train_here
from tests.support.places import FAR_IS_LONG, Place

pytestmark = FAR_IS_LONG

NOW = datetime(2026, 3, 14, 2, 0, tzinfo=UTC)
FEATURES = ["income", "debt", "age"]
DAYS, ROWS = 20, 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Loans:
    """Applications (n, 3), who paid back, and what the bank's own model said of each."""

    features: NDArray[np.float64]
    paid: NDArray[np.bool_]
    theirs: NDArray[np.float64]


def loans(seed: int, count: int, *, right: float = 0.918) -> Loans:
    """A truth that is no line; their model gives the truth's chance but for some noise."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, 3))
    paid = features[:, 0] + 1.5 * features[:, 1] * features[:, 2] > 0
    turns = np.floor(right * np.arange(count + 1))
    wrong = turns[1:] == turns[:-1]
    theirs = np.where(paid != wrong, 0.9, 0.1)
    return Loans(features=features, paid=paid, theirs=theirs)


def settings(**changes: Any) -> Settings:  # noqa: ANN401 - setting values
    given = {
        "model_name": "loans", "data.features": FEATURES, "data.classes": ["paid", "lost"],
        "run.trigger": "labels", "training.experts": [], "incumbent.serves": True,
    }  # fmt: skip
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    return Settings().changed(given | dotted)


def events(  # noqa: PLR0913 - answers, when, whose, and what is logged of them
    found: Loans, until: datetime, *, days: int = DAYS, model_id: str | None = "loan-v3",
    probable: float = 1.0, tag: str = "",
) -> pd.DataFrame:  # fmt: skip
    """Their answers on the `days` until then; `probable` of them with their probabilities."""
    rows: list[dict[str, Any]] = []
    each = len(found.paid) // days
    for number, (features, paid, chance) in enumerate(
        zip(found.features, found.paid, found.theirs, strict=True)
    ):
        known = until - timedelta(days=days - 1 - number // each, hours=3)
        shares = {"paid": float(chance), "lost": 1 - float(chance)}
        rows.append(
            {
                "timestamp": known - timedelta(hours=3), "event_type": "prediction",
                "event_id": league.event_id(f"loan {tag}{number}"), "model_name": "loans",
                "model_id": model_id, "match_id": f"loan-{tag}{number}",
                "prediction": max(shares, key=lambda name: shares[name]),
                "confidence": max(shares.values()),
                "features": json.dumps(dict(zip(FEATURES, features.tolist(), strict=True))),
                "probabilities": json.dumps(shares) if number % 100 < 100 * probable else None,
                "actual_result": "paid" if paid else "lost", "evaluated_at": known,
                "status": "evaluated", "metadata": "{}",
            }
        )  # fmt: skip
    return pd.DataFrame(rows, columns=list(EVENT_COLUMNS))


def run(store: Store, work: Path, wanted: Settings, now: datetime = NOW) -> Mapping[str, Any]:
    """What a run of that time comes to, trained in this process."""
    numbers = iter(range(1_000_000))
    order = Order(
        settings=wanted, work_dir=work, clock=lambda: now, train=train_here,
        new_id=lambda: league.event_id(f"{now} {next(numbers)}"),
    )  # fmt: skip
    result = recording.run(store, order).result
    assert result["status"] == "completed", result
    return result


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    with place.opened() as store:
        yield store


def states(store: Store) -> list[ModelState]:
    """Of the registered models, the newest first."""
    return [model.state for model in store.list_models(model_name="loans")]


def visible(store: Store, wanted: Settings, path: str = "/") -> str:
    """The text of a page."""
    guard = Guard.for_host("::1", None)
    app = create_app(store, wanted, guard, clock=lambda: NOW, new_id=league.ids())
    found = app.test_client().get(path, base_url="http://localhost")
    assert found.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", found.text).split())


def test_a_loan_model_that_is_right_more_often_is_kept(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.append_events(events(loans(1, DAYS * ROWS), NOW))
    result = run(store, tmp_path, settings())
    yours, mine = result["incumbent"]["yours"], result["incumbent"]["mine"]
    assert yours > mine + 0.05
    assert result["outcome"] == "rejected"
    figures = f"Yours {100 * yours:.1f} %, mine {100 * mine:.1f} % on 240 results."
    assert figures in result["outcome_reason"]
    assert result["outcome_reason"].startswith("Rejected: your classifier was right more often")
    assert result["champion_metrics"]["accuracy"] == pytest.approx(yours)
    assert store.champion(model_name="loans") is None
    assert store.promotion_events(model_name="loans") == []
    assert states(store) == [ModelState.SHADOW]
    # And everybody who looks is told who answers.
    found = read_overview(store, settings(), now=NOW)
    assert found.as_json()["answering"] == "Answering: loan-v3 (yours)."
    terminal.show(*status.view(found))
    assert "Answering: loan-v3 (yours)." in capsys.readouterr().err
    page = visible(store, settings())
    assert "Answering: loan-v3 (yours)." in page
    assert "Champion here: none yet" in page
    assert "Yours Challenger" in page
    assert "No model answers yet" not in page
    report = visible(store, settings(), f"/runs/{result['run_id']}/report.html")
    assert "Answering: loan-v3 (yours)." in report
    assert "Yours against challenger" in report
    assert "Where your classifier was confidently wrong" in report


def assert_replayed(store: Store, folder: Path, run_id: str) -> None:
    """The run is built again from its manifest, with the same challenger."""
    found = replay(store, store.get_run(run_id), folder / f"again {run_id}")
    assert found["result"] == "identical", found


@pytest.mark.long
def test_it_learns_on_every_night_and_every_result_counts_once(
    store: Store, tmp_path: Path
) -> None:
    store.append_events(events(loans(1, DAYS * ROWS), NOW))
    run(store, tmp_path, settings())
    # The next night it goes on from there, on the day's rows and those it was first judged on.
    tomorrow = NOW + timedelta(days=1)
    store.append_events(events(loans(2, ROWS), tomorrow, days=1, tag="next "))
    again = run(store, tmp_path, settings(), tomorrow)
    assert (again["outcome"], again["incumbent"]["rows"]) == ("rejected", 240 + ROWS)
    learned = store.get_model("loans", again["challenger"]).lineage
    assert learned.first_night is not None
    assert learned.settled_night == tomorrow.date().toordinal() - 1
    third = tomorrow + timedelta(days=1)
    store.append_events(events(loans(3, ROWS), third, days=1, tag="third "))
    last = run(store, tmp_path, settings(), third)
    assert last["incumbent"]["rows"] == 240 + 2 * ROWS
    assert_replayed(store, tmp_path, last["run_id"])
    assert run(store, tmp_path, settings(), third + timedelta(hours=1))["challenger"] is None
    # Rows of a night that was learned already are learned with it again: none counts twice.
    late = events(loans(4, 40), third, days=1, tag="late ")
    store.append_events(late)
    again = run(store, tmp_path, settings(), third + timedelta(hours=2))
    assert again["training_rows"] > 0
    assert again["incumbent"]["rows"] == 240 + 2 * ROWS
    assert_replayed(store, tmp_path, again["run_id"])
    assert store.champion(model_name="loans") is None


@pytest.mark.long
def test_a_better_model_waits_for_a_person_with_both_figures(store: Store, tmp_path: Path) -> None:
    store.append_events(events(loans(1, DAYS * ROWS, right=0.6), NOW))
    result = run(store, tmp_path, settings(promotion__policy="nightly"))
    yours, mine = result["incumbent"]["yours"], result["incumbent"]["mine"]
    assert mine > yours
    assert result["outcome"] == "awaiting_approval"
    figures = f"Yours {100 * yours:.1f} %, mine {100 * mine:.1f} % on 240 results."
    assert figures in result["outcome_reason"]
    assert "models promote" in result["outcome_reason"]
    assert "your application asks" in result["outcome_reason"]
    assert store.champion(model_name="loans") is None
    assert states(store) == [ModelState.AWAITING]
    decision = Decision(
        settings=settings(), reason="tried", now=NOW, event_id=league.event_id("ok")
    )
    approve(store, result["challenger"], decision)
    # The setting still says that theirs answers: learning goes on beside it.
    tomorrow = NOW + timedelta(days=1)
    store.append_events(events(loans(2, ROWS, right=0.6), tomorrow, days=1, tag="next "))
    again = run(store, tmp_path, settings(), tomorrow)
    assert (again["outcome"], again["champion"]) == ("awaiting_approval", None)
    champion = store.champion(model_name="loans")
    assert champion is not None
    assert champion.model_id == result["challenger"]


def test_without_the_setting_a_worse_first_model_does_not_serve_and_the_run_proposes_it(
    store: Store, tmp_path: Path
) -> None:
    store.append_events(events(loans(1, DAYS * ROWS), NOW))
    result = run(store, tmp_path, settings(incumbent__serves=False))
    assert result["outcome"] == "rejected"
    assert "Yours 9" in result["outcome_reason"]
    assert "1,200 results of the log were answered by loan-v3" in result["outcome_reason"]
    assert "`incumbent: {serves: true}`" in result["outcome_reason"]
    assert result["answering"]["theirs"] == ["loan-v3"]
    assert store.champion(model_name="loans") is None
    without = settings(incumbent__serves=False)
    assert "say so in the settings: incumbent: {serves: true}" in visible(store, without)
    # The page says so until the settings do.
    assert "Answering: loan-v3 (yours)." in visible(store, settings())


@pytest.mark.long
def test_without_the_setting_a_first_model_that_is_surely_better_serves(
    store: Store, tmp_path: Path
) -> None:
    store.append_events(events(loans(1, DAYS * ROWS, right=0.6), NOW))
    result = run(store, tmp_path, settings(incumbent__serves=False))
    assert result["outcome"] == "promoted"
    assert "It was compared with loan-v3, which answered them: Yours" in result["outcome_reason"]
    assert store.champion(model_name="loans") is not None


@pytest.mark.long
@pytest.mark.parametrize(
    ("probable", "right", "expected"),
    [
        (0.0, 0.918, ("rejected", "labels")),
        (0.5, 0.6, ("awaiting_approval", "labels")),
        (0.95, 0.918, ("rejected", "probabilities")),
    ],
)
def test_labels_are_compared_where_too_few_probabilities_are_logged(
    store: Store, tmp_path: Path, probable: float, right: float, expected: tuple[str, str]
) -> None:
    answered = events(loans(1, DAYS * ROWS, right=right), NOW, probable=probable)
    store.append_events(answered)
    result = run(store, tmp_path, settings())
    assert (result["outcome"], result["incumbent"]["judged_by"]) == expected


@pytest.mark.long
def test_what_corrects_their_answers_learns_beside_them_too(store: Store, tmp_path: Path) -> None:
    wanted = settings(training__algorithm="Incumbent")
    store.append_events(events(loans(1, DAYS * ROWS, right=0.7), NOW))
    first = run(store, tmp_path, wanted)
    assert first["outcome"] == "rejected"
    assert "has not shown that it is better than yours" in first["outcome_reason"]
    assert first["incumbent"]["yours"] == first["incumbent"]["mine"]
    tomorrow = NOW + timedelta(days=1)
    store.append_events(events(loans(2, ROWS, right=0.7), tomorrow, days=1, tag="next "))
    again = run(store, tmp_path, wanted, tomorrow)
    assert again["incumbent"]["mine"] > again["incumbent"]["yours"]
    assert again["outcome"] == "awaiting_approval", again["outcome_reason"]
    assert store.champion(model_name="loans") is None


@pytest.mark.long
@pytest.mark.parametrize("source", ["table", "file"])
def test_answers_without_a_confidence_are_compared_by_their_labels(
    store: Store, tmp_path: Path, source: str
) -> None:
    answered = events(loans(1, DAYS * ROWS), NOW, probable=0).assign(confidence=None)
    if source == "table":
        store.append_events(answered)
    else:
        answered.to_csv(tmp_path / "log.csv", index=False)
        source = str(tmp_path / "log.csv")
    result = run(store, tmp_path, settings(log__source=source))
    assert (result["outcome"], result["incumbent"]["judged_by"]) == ("rejected", "labels")
    assert result["load_report"]["bad"] == 0
    assert result["dataset_size"] == 0
    # Without the setting an answer has to say how sure it was, as ever.
    strict = recording.run(
        store,
        Order(
            settings=settings(log__source=source, incumbent__serves=False), work_dir=tmp_path,
            clock=lambda: NOW, train=train_here,
        ),
    )  # fmt: skip
    assert "confidence is empty" in str(strict.result["error"])


@pytest.mark.long
def test_confident_errors_are_theirs(store: Store, tmp_path: Path) -> None:
    """Those of a registered model that answered beside it do not count."""
    found = loans(1, DAYS * ROWS)
    theirs = events(found, NOW)
    wrong = int((theirs["prediction"] != theirs["actual_result"]).tail(6 * ROWS).sum())
    ours = events(loans(9, DAYS * ROWS, right=0.2), NOW, model_id="m-1", tag="ours ")
    store.register(make_model("m-1", model_name="loans"))
    store.append_events(pd.concat([theirs, ours], ignore_index=True))
    wanted = settings(run__trigger="errors", run__lookback_days=6.0, run__min_error_samples=1)
    result = run(store, tmp_path, wanted)
    assert result["dataset_size"] == pytest.approx(wrong, abs=ROWS / 2)
    errors = pd.read_csv(result["dataset_path"])
    assert set(errors["model_id"]) == {"loan-v3"}
    none = run(
        store, tmp_path, settings(run__trigger="errors", incumbent__model_ids=["somebody"]),
        NOW + timedelta(hours=1),
    )  # fmt: skip
    assert none["dataset_size"] == 0


@pytest.mark.long
@pytest.mark.parametrize("serves", [True, False])
def test_no_door_lets_a_first_model_serve_past_them_unasked(
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    serves: bool,
) -> None:
    for name, value in place.variables.items():
        monkeypatch.setenv(name, value)
    config = tmp_path / "loans.yaml"
    config.write_text(settings(incumbent__serves=serves).as_yaml())
    with place.opened() as store:
        now = datetime.now(UTC)
        store.append_events(events(loans(1, DAYS * ROWS, right=0.6), now))
    monkeypatch.chdir(tmp_path)

    def asked(command: Callable[[list[str]], int], *arguments: str) -> Mapping[str, Any]:
        assert command([*arguments, "--config", str(config)]) == 0
        found: Mapping[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return found

    trained = asked(train.main, "--register", "--from_log")
    assert trained["outcome"] == "awaiting_approval", trained
    assert "loan-v3" in trained["outcome_reason"]
    assert trained["champion"] is None
    path = tmp_path / trained["model_path"]
    again = asked(
        train.main, "--register", "--from_log", "--fine_tune", "true", "--model_path", str(path)
    )
    assert again["outcome"] == "awaiting_approval", again
    promoted = asked(models.main, "promote", trained["model_id"], "--force", "--reason", "tried")
    assert serves is ("Nothing changes for people" in promoted.get("next", ""))
    with place.opened() as store:
        assert store.champion_id(model_name="loans") == trained["model_id"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tickets:
    """36 days of tickets that a language model answered, 60 a day, of late badly."""

    until: datetime = NOW

    def frame(self) -> pd.DataFrame:
        before = loans(1, 33 * ROWS, right=0.93)
        lately = loans(2, 3 * ROWS, right=0.6)
        return pd.concat(
            [
                events(before, self.until - timedelta(days=3), days=33, model_id="llm", probable=0),
                events(lately, self.until, days=3, model_id="llm", probable=0, tag="late "),
            ],
            ignore_index=True,
        )


def check(store: Store, wanted: Settings, now: datetime) -> DecayCheck:
    numbers = iter(range(1_000_000))
    context = CheckContext(
        settings=wanted, now=now, new_id=lambda: league.event_id(f"check {now} {next(numbers)}")
    )
    return check_decay(store, context)


@pytest.mark.parametrize("serves", [True, pytest.param(False, marks=pytest.mark.long)])
def test_the_alert_about_a_language_model_outlives_a_run_of_ours(
    store: Store, tmp_path: Path, *, serves: bool
) -> None:
    store.append_events(Tickets().frame())
    wanted = settings(incumbent__serves=serves)
    assert check(store, wanted, NOW).verdict.severity is Severity.CRITICAL
    result = run(store, tmp_path, wanted, NOW + timedelta(hours=1))
    assert result["outcome"] == ("rejected" if serves else "awaiting_approval")
    assert "has not shown that it is better than yours" in result["outcome_reason"]
    assert store.champion(model_name="loans") is None
    found = check(store, wanted, NOW + timedelta(hours=2))
    assert found.verdict.severity is Severity.CRITICAL
    assert [alert.status.is_open for alert in found.alerts] == [True]
    # A new version that answers well ends it.
    later = NOW + timedelta(days=3)
    better = events(loans(5, 3 * ROWS, right=0.93), later, days=3, model_id="llm-2", tag="new ")
    store.append_events(better)
    assert check(store, wanted, later).alerts == ()
