"""From the log to promotion: a feature or a class that the serving model does not know.

Until a base takes over that does, the model goes on serving and learning by what it knows, and each
run says what waits for what.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from ml_pipeline.commands import train
from ml_pipeline.config.settings import load_settings
from ml_pipeline.runs import recording
from ml_pipeline.runs.recording import Order
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import EVENT_COLUMNS
from tests.support import league
from tests.support.places import FAR_IS_LONG, Place

START = datetime(2026, 3, 1, 20, tzinfo=UTC)
ROWS = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Team:
    """Somebody's project: settings in a file, a log that grows by the day, and two commands."""

    store: Store
    folder: Path
    capture: pytest.CaptureFixture[str]
    config: dict[str, Any]

    def configured(self, **data: Any) -> Team:  # noqa: ANN401 - settings
        config = {**self.config, "data": {**self.config["data"], **data}}
        (self.folder / "team.yaml").write_text(yaml.safe_dump(config))
        return replace(self, config=config)

    def log_days(self, first: int, count: int, *, classes: list[str], names: list[str]) -> None:
        """Outcomes of some days: which class it is follows from `c` mostly, from `a` a little."""
        for day in range(first, first + count):
            random = np.random.default_rng(day)
            known = START + timedelta(days=day)
            values = random.normal(size=(ROWS, 3))
            score = 0.4 * values[:, 0] + 1.5 * values[:, 2] + 0.4 * random.normal(size=ROWS)
            bins = np.quantile(score, np.linspace(0, 1, len(classes) + 1)[1:-1])
            labels = np.asarray(classes)[np.searchsorted(bins, score)]
            rows = [
                {
                    "timestamp": known - timedelta(hours=1),
                    "event_id": league.event_id(f"team {day} {number}"),
                    "event_type": "prediction",
                    "model_name": "team",
                    "model_id": "app",
                    "match_id": None,
                    "prediction": classes[0],
                    "confidence": 0.5,
                    "features": json.dumps(
                        {n: v for n, v in zip("abc", row, strict=True) if n in names}
                    ),
                    "actual_result": str(label),
                    "evaluated_at": known,
                    "accuracy": float(label == classes[0]),
                    "status": "evaluated",
                    "metadata": "{}",
                }
                for number, (row, label) in enumerate(zip(values.tolist(), labels, strict=True))
            ]
            self.store.append_events(pd.DataFrame(rows, columns=list(EVENT_COLUMNS)))

    def run(self, day: int) -> dict[str, Any]:
        now = START + timedelta(days=day, hours=6)
        settings = load_settings(self.folder / "team.yaml", environment={})
        order = Order(settings=settings, work_dir=self.folder / "work", clock=lambda: now)
        return dict(recording.run(self.store, order).result)

    def train(self, *arguments: str) -> dict[str, Any]:
        code, out, err = self.asked(*arguments)
        assert code == 0, err
        return dict(json.loads(out.splitlines()[-1]))

    def asked(self, *arguments: str) -> tuple[int, str, str]:
        """The exit code of `train --register`, and what it wrote."""
        code = train.main([*arguments, "--register", "--config", str(self.folder / "team.yaml")])
        out, err = self.capture.readouterr()
        return code, out, err


@pytest.fixture
def team(
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Team]:
    for name in ("ML_PIPELINE_LOCAL", "SUPABASE_URL", "SUPABASE_SERVICE_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in place.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    config = {
        "model_name": "team",
        "run": {"trigger": "any"},
        "data": {"features": ["a", "b"], "classes": ["lo", "hi"], "ordered": False},
    }
    with place.opened() as store:
        made = Team(store=store, folder=tmp_path, capture=capsys, config=config)
        yield made.configured()


@FAR_IS_LONG
def test_a_new_feature_and_a_class_come_from_the_log_to_the_champion(team: Team) -> None:
    team.log_days(0, 4, classes=["lo", "hi"], names=["a", "b"])
    first = team.run(3)
    assert first["outcome"] == "promoted", first

    team = team.configured(features=["a", "b", "c"], classes=["lo", "mid", "hi"])
    team.log_days(4, 16, classes=["lo", "mid", "hi"], names=["a", "b", "c"])
    between = team.run(19)
    assert between["status"] == "completed", between
    assert between["champion"] in {first["champion"], between["challenger"]}
    assert between["training_rows"] >= 16 * ROWS * 0.6
    for word in ("does not read c", "does not know the class mid", "wait for one", "320 results"):
        assert word in between["outcome_reason"]
    assert "`ml-pipeline train --register`" in between["outcome_reason"]
    assert "report_error" not in between

    # Both are judged on results that neither has learned.
    team.log_days(20, 4, classes=["lo", "mid", "hi"], names=["a", "b", "c"])
    base = team.train()
    assert base["outcome"] == "promoted", base["outcome_reason"]
    assert base["classes"] == ["lo", "mid", "hi"]

    team.log_days(24, 1, classes=["lo", "mid", "hi"], names=["a", "b", "c"])
    after = team.run(24)
    assert after["outcome"] == "promoted", after
    assert "wait" not in after["outcome_reason"]
    champion = team.store.champion(model_name="team")
    assert champion is not None
    assert champion.anchor_id == base["model_id"]


@pytest.mark.parametrize("place", ["embedded"], indirect=True)
def test_a_feature_that_is_gone_is_read_by_the_old_model_and_not_by_the_new_base(
    team: Team,
) -> None:
    team = team.configured(features=["a", "b", "c"])
    team.log_days(0, 4, classes=["lo", "hi"], names=["a", "b", "c"])
    assert team.run(3)["outcome"] == "promoted"
    team = team.configured(features=["a", "c"])
    team.log_days(4, 2, classes=["lo", "hi"], names=["a", "c"])
    between = team.run(5)
    assert between["status"] == "completed", between
    assert "reads b, which the settings no longer name" in between["outcome_reason"]
    assert "120 results wait for one (feature b is absent" in between["outcome_reason"]
    base = team.train("--from_log")
    assert base["outcome"] in {"promoted", "rejected", "awaiting_approval"}
    assert base["training_rows"] + base["holdout_rows"] == 6 * ROWS


@pytest.mark.parametrize("place", ["embedded"], indirect=True)
def test_a_base_that_comes_right_after_a_run_names_ways_out_that_work(team: Team) -> None:
    team.log_days(0, 4, classes=["lo", "hi"], names=["a", "b"])
    team.run(3)
    team.log_days(4, 2, classes=["lo", "hi"], names=["a", "b"])
    team.run(5)
    code, _, said = team.asked("--from_log")
    assert code == 1
    assert "The champion has learned every row" in said
    assert "Train again when newer rows have come" in said
    assert "Or set training.refit_every_days" in said

    # One way: newer results.
    team.log_days(6, 2, classes=["lo", "hi"], names=["a", "b"])
    base = team.train("--from_log")
    assert base["outcome"] in {"promoted", "rejected", "awaiting_approval"}
    assert base["holdout_rows"] <= 2 * ROWS

    # The other: a base in the shadow, which is judged on results to come.
    training = {"refit_every_days": 1}
    (team.folder / "team.yaml").write_text(yaml.safe_dump({**team.config, "training": training}))
    shadows = team.run(9)["shadows"]
    assert {note["outcome"] for note in shadows} == {"born"}
