"""A shop that changes: a feature is gone, renamed or something else than before, a class is new.

Each time the results wait for a base, each run says which and for what, and a base comes to serve
without force.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from ml_pipeline.commands import decay, doctor, models, train
from ml_pipeline.config.settings import load_settings
from ml_pipeline.runs import recording
from ml_pipeline.runs.recording import Order
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import EVENT_COLUMNS
from tests.support import league
from tests.support.places import EMBEDDED, SUPABASE, Place

START = datetime(2026, 3, 1, 20, tzinfo=UTC)
ROWS = 60
CLASSES = ("stays", "leaves")
KINDS = {"visits": "number", "plan": "category", "member": "boolean", "since": "datetime"}
Features = dict[str, Any]


def _without_plan(features: Features) -> Features:
    return {name: value for name, value in features.items() if name != "plan"}


def _with_tariff(features: Features) -> Features:
    return {("tariff" if name == "plan" else name): value for name, value in features.items()}


def _visits_as_levels(features: Features) -> Features:
    return features | {
        "visits": ["few", "some", "many"][int(np.clip(features["visits"] - 1.5, 0, 2))]
    }


def _plan_as_number(features: Features) -> Features:
    return features | {"plan": {"tin": 3.5, "silver": 12.0, "gold": 40.0}[features["plan"]]}


@dataclass(frozen=True, kw_only=True, slots=True)
class Shop:
    """Settings in a file, a log that grows by the day, and the commands of a person."""

    store: Store
    folder: Path
    capture: pytest.CaptureFixture[str]

    def configure(self, kinds: dict[str, str], classes: Sequence[str] = CLASSES) -> None:
        data = {"features": kinds, "classes": list(classes), "ordered": False}
        config = {"model_name": "shop", "run": {"trigger": "any"}, "data": data}
        (self.folder / "shop.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def log_days(
        self,
        first: int,
        count: int,
        change: Callable[[Features], Features],
        classes: Sequence[str] = CLASSES,
    ) -> None:
        for day in range(first, first + count):
            random, known = np.random.default_rng(day), START + timedelta(days=day)
            events = [
                _event(random, known, f"shop {day} {n}", change, classes) for n in range(ROWS)
            ]
            self.store.append_events(pd.DataFrame(events, columns=list(EVENT_COLUMNS)))

    def run(self, day: int) -> dict[str, Any]:
        now = START + timedelta(days=day, hours=6)
        settings = load_settings(self.folder / "shop.yaml", environment={})
        order = Order(settings=settings, work_dir=self.folder / "work", clock=lambda: now)
        return dict(recording.run(self.store, order).result)

    def ask(self, command: Any, *arguments: str) -> dict[str, Any]:  # noqa: ANN401 - a module
        code = command.main([*arguments, "--config", str(self.folder / "shop.yaml")])
        out, err = self.capture.readouterr()
        assert code == 0, err
        return dict(json.loads(out.splitlines()[-1]))


def _event(
    random: np.random.Generator,
    known: datetime,
    name: str,
    change: Callable[[Features], Features],
    classes: Sequence[str] = CLASSES,
) -> dict[str, Any]:
    features: Features = {
        "visits": round(float(random.normal(3, 1)), 2),
        "plan": str(random.choice(["gold", "silver", "tin"])),
        "member": bool(random.random() < 0.5),
        "since": (START - timedelta(hours=int(random.integers(1, 9000)))).isoformat(),
    }
    score = features["visits"] - 3 + {"tin": 2, "gold": -1}.get(features["plan"], 0)
    score += 0.3 * float(random.normal())
    # Of three classes the last is of those who were members for long, and stays.
    is_old = features["since"] < (START - timedelta(hours=4500)).isoformat()
    label = (
        classes[1] if score > 0.5 else classes[-1] if len(classes) > 2 and is_old else classes[0]
    )
    return {
        "timestamp": known - timedelta(hours=1), "event_id": league.event_id(name),
        "event_type": "prediction", "model_name": "shop", "model_id": "app", "match_id": None,
        "prediction": "stays", "confidence": 0.5, "features": json.dumps(change(features)),
        "actual_result": label, "evaluated_at": known, "accuracy": float(label == "stays"),
        "status": "evaluated", "metadata": "{}",
    }  # fmt: skip


@pytest.fixture
def shop(
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Shop]:
    for name in ("ML_PIPELINE_LOCAL", "SUPABASE_URL", "SUPABASE_SERVICE_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in place.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    with place.opened() as store:
        made = Shop(store=store, folder=tmp_path, capture=capsys)
        made.configure(KINDS)
        made.log_days(0, 4, dict)
        assert made.run(3)["outcome"] == "promoted"
        yield made


# What is logged from now on, what the settings name then, and what is said of the serving model.
CHANGES: dict[str, tuple[Callable[[Features], Features], dict[str, str], str, str]] = {
    "removed": (
        _without_plan, {n: k for n, k in KINDS.items() if n != "plan"},
        "feature plan is absent", "reads plan, which the settings no longer name",
    ),
    "renamed": (
        _with_tariff, {("tariff" if n == "plan" else n): k for n, k in KINDS.items()},
        "feature plan is absent",
        "does not read tariff and reads plan, which the settings no longer name",
    ),
    "levels": (
        _visits_as_levels, KINDS | {"visits": "category"},
        "feature visits is not a number", "reads visits as a number, not as a category",
    ),
    "numbers": (
        _plan_as_number, KINDS | {"plan": "number"},
        "", "reads plan as a category, not as a number",
    ),
}  # fmt: skip


@pytest.mark.parametrize("place", [EMBEDDED, SUPABASE], indirect=True)
@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.long
def test_a_changed_feature_comes_from_the_log_to_the_champion(shop: Shop, name: str) -> None:
    change, kinds, reason, difference = CHANGES[name]
    shop.log_days(4, 4, change)
    if reason:
        failed = shop.run(7)
        assert failed["outcome"] == "failed"
        assert reason in failed["error"]
        assert "data.features" in failed["error"]

    # The way out that it names.
    shop.configure(kinds)
    between = shop.run(7)
    assert between["status"] == "completed", between
    assert difference in between["outcome_reason"]
    assert "`ml-pipeline train --register`" in between["outcome_reason"]
    if reason:
        assert f"240 results wait for one ({reason} (240" in between["outcome_reason"]

    shop.log_days(8, 8, change)
    base = shop.ask(train, "--register")
    assert base["outcome"] in {"promoted", "awaiting_approval"}, base["outcome_reason"]
    if base["outcome"] == "awaiting_approval":
        assert "Approve it with `models promote ID`." in base["outcome_reason"]
        assert "cannot learn" in base["outcome_reason"]
        shop.ask(models, "promote", base["model_id"])

    shop.log_days(16, 1, change)
    after = shop.run(16)
    assert after["status"] == "completed", after
    assert " wait for one" not in after["outcome_reason"]
    assert after["training_rows"] >= ROWS / 2
    champion = shop.store.champion(model_name="shop")
    assert champion is not None
    assert champion.anchor_id == base["model_id"]


@pytest.mark.parametrize("place", [EMBEDDED, SUPABASE], indirect=True)
@pytest.mark.long
def test_a_new_class_comes_from_the_log_to_the_champion(shop: Shop) -> None:
    three = (*CLASSES, "pauses")
    shop.log_days(4, 4, dict, three)
    failed = shop.run(7)
    assert failed["outcome"] == "failed"
    assert "unknown outcome label (67)" in failed["error"]
    assert "name a new class in data.classes" in failed["error"]

    # The way out that it names: what the serving model can learn it learns, the rest waits.
    shop.configure(KINDS, three)
    between = shop.run(7)
    assert between["status"] == "completed", between
    assert "does not know the class pauses: 67 results wait for one" in between["outcome_reason"]
    assert "`ml-pipeline train --register`" in between["outcome_reason"]
    kept = shop.store.get_run(between["run_id"]).details["class_days"]
    assert kept["labels"] == list(three)
    pauses = [row for rows in kept["days"].values() for row in rows if row[0] == 2]
    assert [sum(column) for column in list(zip(*pauses, strict=True))[1:]] == [67, 67, 0, 0]

    # The champion gives a class that it does not know its smallest probability.
    shop.log_days(8, 8, dict, three)
    base = shop.ask(train, "--register")
    assert base["outcome"] == "promoted", base["outcome_reason"]
    assert base["classes"] == list(three)

    shop.log_days(16, 1, dict, three)
    after = shop.run(16)
    assert after["outcome"] == "promoted", after
    assert " wait for one" not in after["outcome_reason"]
    champion = shop.store.champion(model_name="shop")
    assert champion is not None
    assert champion.anchor_id == base["model_id"]


@pytest.mark.parametrize("place", [EMBEDDED], indirect=True)
@pytest.mark.long
def test_a_feature_that_is_still_logged_is_not_given_up_for_a_worse_model(shop: Shop) -> None:
    shop.configure({name: kind for name, kind in KINDS.items() if name != "plan"})
    shop.log_days(4, 12, dict)
    base = shop.ask(train, "--register")
    assert base["outcome"] == "rejected"
    assert "did worse than the model that serves" in base["outcome_reason"]


@pytest.mark.parametrize("place", [EMBEDDED, SUPABASE], indirect=True)
@pytest.mark.long
def test_levels_that_training_had_not_are_named_by_doctor_and_decay(shop: Shop) -> None:
    now = datetime.now(UTC).replace(hour=1) - timedelta(days=1)
    random = np.random.default_rng(0)
    events = [
        _event(random, now, f"new {n}", lambda f: f | {"plan": "platinum"} if f["member"] else f)
        for n in range(400)
    ]
    champion = shop.store.champion(model_name="shop")
    assert champion is not None
    own = pd.DataFrame(events, columns=list(EVENT_COLUMNS)).assign(model_id=champion.model_id)
    shop.store.append_events(own)
    findings = doctor_findings(shop)
    assert findings["log_levels"]["severity"] == "warning"
    for word in ("plan has levels", "'platinum'", "`ml-pipeline train --register --from-log`"):
        assert word in findings["log_levels"]["what"]
    checked = shop.ask(decay)
    assert ["'platinum'" in sentence for sentence in checked["new_levels"]] == [True]


@pytest.mark.parametrize("place", [EMBEDDED, SUPABASE], indirect=True)
@pytest.mark.long
def test_doctor_goes_on_where_no_result_can_be_learned(shop: Shop) -> None:
    now = datetime.now(UTC) - timedelta(days=1)
    random = np.random.default_rng(0)
    events = [_event(random, now, f"empty {n}", lambda _: {}) for n in range(5)]
    shop.store.append_events(pd.DataFrame(events, columns=list(EVENT_COLUMNS)))
    findings = doctor_findings(shop)
    assert findings["log_features"]["severity"] != "info"
    assert findings["log_levels"]["severity"] == "info"


def doctor_findings(shop: Shop) -> dict[str, Any]:
    """What `doctor` says of the log, by name."""
    doctor.main(["--config", str(shop.folder / "shop.yaml")])
    out, _ = shop.capture.readouterr()
    report = json.loads(out.splitlines()[-1])
    return {finding["name"]: finding for finding in report["findings"]}
