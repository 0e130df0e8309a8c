"""A base that answers as somebody's own classifier did, and heads that learn to correct it."""

from __future__ import annotations

import csv
import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_pipeline.commands.backtest import main
from ml_pipeline.config.kind import Kind
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.features import Inputs, joined, parted
from ml_pipeline.datasets.labelled_file import read_labelled
from ml_pipeline.errors import ConfigError
from ml_pipeline.registry import archive, scoring
from ml_pipeline.registry.scoring_writer import scoring_bytes
from ml_pipeline.store.inputs import cells
from ml_pipeline.store.inputs.incumbent_columns import LOGGED_ANSWER, own_features, share_columns
from ml_pipeline.training.adaptive import AdaptiveClassifier
from ml_pipeline.training.brought.incumbent import fitted_base
from ml_pipeline.training.learned_rows import Champion
from ml_pipeline.training.online_training import adapt
from ml_pipeline.training.strategies import new_model
from tests.benchmarks.learning import streams
from tests.support.incumbents import Told, corrected, frozen_answers, told

CLASSES = ["no", "perhaps", "yes"]
EQUAL = 1e-9


def settings_for(features: Any, text: str | None = None) -> Settings:  # noqa: ANN401 - YAML
    """Settings as a model's rows are read: the features, then the incumbent's answer."""
    settings = Settings().changed(
        {
            "data.features": features,
            "data.text_column": text,
            "data.classes": CLASSES,
            "data.labels": None,
            "training.algorithm": "Incumbent",
        }
    )
    kinds = {name: settings.data.kind(name) for name in settings.data.features}
    return settings.reading(kinds | dict.fromkeys(share_columns(CLASSES), Kind.NUMBER))


def learned(settings: Settings, own: Inputs, nights: int = 3) -> tuple[AdaptiveClassifier, Inputs]:
    """A model whose heads have learned some nights, and its rows."""
    random = np.random.default_rng(7)
    numbers, texts = parted(own)
    shares = random.dirichlet(np.ones(len(CLASSES)), size=len(own))
    rows = joined(np.hstack([numbers, shares]), texts)
    labels = random.choice(CLASSES, size=len(own))
    base = fitted_base("Incumbent", rows, labels, settings)
    model = new_model(base, rows, CLASSES, settings)
    assert model.predict_proba(rows) == pytest.approx(shares, abs=1e-12)
    for _ in range(nights):
        model.partial_fit(rows[:60], labels[:60])
    assert model.base_proba(rows) == pytest.approx(shares, abs=1e-12)
    assert np.abs(model.predict_proba(rows) - shares).max() > 0.01
    return model, rows


def numbers(count: int, width: int) -> Inputs:
    found = np.random.default_rng(3).normal(size=(count, width))
    found[::11, 0] = np.nan
    return found


def kinds_of_every_sort(count: int) -> Inputs:
    random = np.random.default_rng(4)
    levels = [cells.level_code(name) for name in ("red", "green", "blue")]
    return np.column_stack(
        [
            random.normal(size=count), random.choice(levels, size=count),
            random.integers(2, size=count), 1.7e9 + 1e5 * random.random(count),
        ]
    )  # fmt: skip


SEVERAL = {"size": "number", "colour": "category", "old": "boolean", "at": "datetime"}


@pytest.mark.parametrize(
    ("settings", "own"),
    [
        (settings_for(["a", "b"]), numbers(80, 2)),
        (settings_for(SEVERAL), kinds_of_every_sort(80)),
        (settings_for([], "query"), joined(np.empty((80, 0)), ["how much?", "how?"] * 40)),
        (settings_for(["a"], "query"), joined(numbers(80, 1), ["how much?", "how?"] * 40)),
    ],
    ids=["numbers", "kinds", "text", "text and number"],
)
def test_archive_and_scoring_file_answer_as_the_model_does(
    tmp_path: Path, settings: Settings, own: Inputs
) -> None:
    model, rows = learned(settings, own)
    archive.save_model(model, tmp_path / "model.skops")
    digest = archive.digest_file(tmp_path / "model.skops")
    again: Any = archive.load_model(tmp_path / "model.skops", expected_digest=digest)
    assert again.predict_proba(rows) == pytest.approx(model.predict_proba(rows), abs=1e-12)
    scorer = scoring.parse(scoring_bytes(model))
    assert scorer.corrects
    assert scorer.own_features == own_features(settings.data.features)
    values, texts = parted(rows)
    found = [
        scorer.probabilities(row, None if texts is None else text)
        for row, text in zip(values.tolist(), texts or [""] * len(values), strict=True)
    ]
    assert np.asarray(found) == pytest.approx(model.predict_proba(rows), abs=EQUAL)


def test_the_summary_to_tell_drift_by_is_of_what_people_log() -> None:
    model, _ = learned(settings_for(["a", "b"]), numbers(80, 2))
    assert model.reference_ is not None
    assert model.reference_["features"] == ["a", "b"]
    assert set(model.reference_["columns"]) == {"a", "b"}
    assert model.feature_names_ == ["a", "b", "incumbent:no", "incumbent:perhaps", "incumbent:yes"]


@pytest.mark.parametrize(
    "changes",
    [
        {"training.strategy": "refit"},
        {"training.strategy": "sgd"},
        {"training.strategy": "errors_only"},
        {"training.refit_every_days": 30},
        {"training.ensemble": ["Incumbent"]},
        {"training.experts": [{"algorithm": "Incumbent"}]},
    ],
)
def test_what_has_nothing_to_fit_is_fitted_by_nobody(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="Incumbent"):
        Settings().changed({"training.algorithm": "Incumbent"} | changes)


def test_heads_learn_the_same_night_by_night_and_all_at_once(tmp_path: Path) -> None:
    """The long sibling has the whole loop, with late rows: `test_incumbent_corrected`."""
    settings, nights, count = settings_for(["a"]), 4, 35
    random = np.random.default_rng(6)
    path = tmp_path / "labelled.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["event_id", "known_at", "a", LOGGED_ANSWER, "result"])
        for night, number in np.ndindex(nights, count):
            shares = dict(zip(CLASSES, random.dirichlet(np.ones(3)).tolist(), strict=True))
            alone = {"prediction": "yes", "confidence": 0.7}
            answer = json.dumps(shares if number % 2 else alone)
            known = f"2026-03-{night + 1:02d}T12:00:00Z"
            writer.writerow(
                [f"{night}-{number:02d}", known, random.normal(), answer, random.choice(CLASSES)]
            )
    data = read_labelled(str(path), settings)
    base = fitted_base("Incumbent", data.features, data.labels, settings)
    fresh = new_model(base, data.features, CLASSES, settings)

    def after(model: AdaptiveClassifier, nights: int) -> AdaptiveClassifier:
        today, known = date(2026, 3, nights + 1), np.arange(nights * count)
        champion = Champion(model_id="first", model=fresh)
        return adapt(model, champion, [data.take(known)], today, settings).model

    nightly = fresh
    for night in range(1, nights + 1):
        nightly = after(nightly, night)
    late = after(fresh, nights)
    assert np.abs(nightly.predict_proba(data.features) - fresh.base_proba(data.features)).max() > 0
    assert nightly.predict_proba(data.features) == pytest.approx(
        late.predict_proba(data.features), abs=1e-12
    )


# ------------------------------------------------------------------------------------ backtest


def stream(nights: int | None) -> tuple[Any, Any]:
    history = streams.read("weather", None, 0)
    if nights is not None:
        history = streams.shortened(history, nights)
    return history, frozen_answers(history)


def test_the_corrected_answers_of_a_frozen_classifier_beat_its_own() -> None:
    history, shares = stream(50)
    replays = corrected(history, told(shares, "label"))
    incumbent, ours = (replays[n].figures(replays["frozen"]) for n in ("frozen", "adaptive"))
    assert ours["accuracy"] >= incumbent["accuracy"]
    assert ours["log_loss"] < incumbent["log_loss"] - 0.01


@pytest.mark.long
@pytest.mark.parametrize(
    ("what", "accuracy", "log_loss"),
    [
        ("probabilities", 0.8117, 0.4053),
        ("label", 0.8117, 0.4053),
        ("overconfident", 0.8133, 0.4078),
    ],
)
def test_a_frozen_classifier_is_corrected_as_well_as_was_measured(
    what: Told, accuracy: float, log_loss: float
) -> None:
    history, shares = stream(None)
    replays = corrected(history, told(shares, what))
    ours = replays["adaptive"].figures(replays["frozen"])
    assert ours["accuracy"] >= accuracy - 0.003
    assert ours["log_loss"] <= log_loss + 0.004
    assert ours["worst_block_points"] <= 1.5


def written(path: Path, how: str) -> Path:
    """A short stream as a CSV, with the incumbent's answers in one of the ways that are read."""
    random = np.random.default_rng(5)
    nights, rows = 8, 40
    x = random.normal(size=(nights * rows, 2))
    right = np.where(x[:, 0] + random.normal(size=len(x)) > 0, "yes", "no")
    chance = 1 / (1 + np.exp(3 * x[:, 0]))  # wrong way round, and too sure
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = {
            "columns": ["incumbent:no", "incumbent:yes"],
            "json": ["incumbent"],
            "label": ["incumbent", "incumbent_confidence"],
        }[how]
        writer.writerow(["night", "a", "b", *names, "y"])
        for place, p in enumerate(chance.tolist()):
            answer = {"no": 1 - p, "yes": p}
            label = max(answer, key=lambda name: answer[name])
            cells_of = {
                "columns": [1 - p, p],
                "json": [json.dumps(answer)],
                "label": [label, answer[label]],
            }[how]
            writer.writerow([place // rows, *x[place].tolist(), *cells_of, right[place]])
    return path


def backtest_of(capsys: pytest.CaptureFixture[str], path: Path) -> tuple[int, dict[str, Any]]:
    flags = ["--csv", str(path), "--target", "y", "--night", "night", "--base", "Incumbent"]
    code = main([*flags, "--init", "80", "--policies", "frozen,adaptive"])
    printed = capsys.readouterr()
    assert printed.out, printed.err
    return code, json.loads(printed.out.splitlines()[-1])


def test_backtest_reads_the_answers_in_each_way_that_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = {}
    for how in ("columns", "json", "label"):
        code, result = backtest_of(capsys, written(tmp_path / f"{how}.csv", how))
        assert code == 0
        assert result["features"] == ["a", "b", "incumbent:no", "incumbent:yes"]
        found[how] = {
            name: (figures["accuracy"], pytest.approx(figures["log_loss"], abs=1e-9))
            for name, figures in result["policies"].items()
        }
    assert found["columns"] == found["json"] == found["label"]
    frozen, adaptive = (found["columns"][name] for name in ("frozen", "adaptive"))
    assert frozen[0] < 0.4 < adaptive[0]


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [
        ("", "nothing says what the incumbent answered"),
        ("yes", "no confidence"),
        ("maybe", "no label"),
        ('{"no": 0.5, "yes": 0.6}', "sum to 1.1"),
        ('{"no": 0.5}', "do not name yes"),
        ('{"no": 40, "yes": 60}', "percent"),
        ('{"no": 0.5, "other": 0.5}', "'other', which is no label"),
        ('{"no": NaN, "yes": 1.0}', "number from 0 to 1"),
        ('{"no": -0.5, "yes": 1.5}', "number from 0 to 1"),
        ("{no: 1}", "row 5"),
    ],
)
def test_backtest_names_the_row_whose_answer_is_none(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    cell: str,
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path / "history.csv", "json")
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    rows[5][3] = cell
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    (tmp_path / "model_config.yaml").write_text(
        "data: {target: y, classes: ['no', 'yes'], labels: {'no': 'no', 'yes': 'yes'}}\n"
    )
    code, result = backtest_of(capsys, path)
    assert (code, result["error_type"]) == (1, "DataError")
    assert complaint in result["error"]
    assert "row 5" in result["error"]
    assert "incumbent:no" in result["error"]
