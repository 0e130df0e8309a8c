"""Which rows a base is trained on: the training data, or the log where only it has what is new."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ml_pipeline.commands import erase, train
from ml_pipeline.commands.train_from_log import rows_of_log
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.dataset import BUILTIN
from ml_pipeline.errors import DataError
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import EVENT_COLUMNS, Lineage
from ml_pipeline.training.request import TrainingRequest
from tests.support.factories import MODEL_NAME, NOW, frame_of, make_id, make_model, make_promotion

KINDS = {"visits": "number", "plan": "category"}
ROWS = 60


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A champion that reads KINDS, a file that it was trained on, and a log with more."""
    rows = "\n".join(f"{n},{'gold' if n % 2 else 'tin'},{'yes' if n % 3 else 'no'}"
                     for n in range(ROWS))  # fmt: skip
    (tmp_path / "file.csv").write_text(f"visits,plan,left\n{rows}\n", encoding="utf-8")
    store = LocalStore.open(tmp_path / "store")
    inputs = {"features": list(KINDS), "kinds": {"plan": "category"}, "text_column": None}
    lineage = Lineage.from_json({"classes": ["no", "yes"], "inputs": inputs})
    store.register(make_model(lineage=lineage))
    store.promote(make_promotion("m-1", None))
    events = [
        {
            "event_id": make_id(n), "timestamp": NOW, "event_type": "prediction",
            "model_name": MODEL_NAME, "model_id": "m-1", "prediction": "no", "confidence": 0.8,
            "features": json.dumps({"visits": n, "plan": "gold", "colour": "red"}),
            "actual_result": "maybe" if n % 2 else "no", "evaluated_at": NOW,
            "accuracy": float(n % 2 == 0), "status": "evaluated",
        }
        for n in range(ROWS)
    ]  # fmt: skip
    store.append_events(frame_of([dict.fromkeys(EVENT_COLUMNS) | event for event in events]))
    store.close()
    return tmp_path


def request(folder: Path, **data: object) -> TrainingRequest:
    changes: dict[str, Any] = {
        "features": KINDS, "target": "left", "classes": ["no", "yes", "maybe"], "ordered": False,
        "training_dataset": str(folder / "file.csv"),
    }  # fmt: skip
    changes |= data
    settings = Settings().changed(
        {"model_name": MODEL_NAME} | {f"data.{name}": value for name, value in changes.items()}
    )
    later = NOW + timedelta(hours=1)
    return TrainingRequest(
        dataset=settings.data.training_dataset, settings=settings, output_dir=folder / "out",
        model_id="new", now=later, today=later.date(), local=str(folder / "store"),
    )  # fmt: skip


# What the settings name, and what is said of the training data that lacks it.
LACKS: dict[str, tuple[dict[str, object], str]] = {
    "a feature": (
        {"features": KINDS | {"colour": "category"}}, "file.csv has no column colour"
    ),
    "a class": ({}, "file.csv has no row of the class maybe"),
    "a kind": (
        {"features": KINDS | {"visits": "category"}}, "file.csv has visits as a number"
    ),
    "anything": (
        {"training_dataset": BUILTIN}, "the bundled sample has nothing of what the settings name"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LACKS)
def test_where_only_the_log_has_what_is_new_its_results_are_taken_and_that_is_said(
    shop: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    data, why = LACKS[name]
    with caplog.at_level(logging.INFO):
        found = rows_of_log(request(shop, **data), wanted=False)
    assert Path(found.dataset).parent.parent == shop / "store" / "work"
    assert f"Training on {ROWS} results of the log: " in caplog.text
    assert why in caplog.text


def test_erase_takes_a_row_out_of_what_was_trained_on(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = Path(rows_of_log(request(shop), wanted=True).dataset)
    (shop / "settings.yaml").write_text(f"model_name: {MODEL_NAME}\n", encoding="utf-8")
    assert make_id(1) in rows.read_text(encoding="utf-8")
    words = ("--config", str(shop / "settings.yaml"), "--local", str(shop / "store"))
    assert erase.main([*words, "--event-id", make_id(1)]) == 0
    assert json.loads(capsys.readouterr().out)["erased"]["work_rows"] > 0
    kept = [path for path in shop.rglob("*.csv") if make_id(1) in path.read_text(encoding="utf-8")]
    assert kept == []


@pytest.mark.parametrize("flags", [(), ("--register",)])
def test_train_leaves_the_model_and_nothing_of_single_rows(
    shop: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]
) -> None:
    config = shop / "settings.yaml"
    settings = request(shop, training_dataset=str(shop / "file.csv")).settings
    config.write_text(settings.as_yaml(), encoding="utf-8")
    where = ("--config", str(config), "--local", str(shop / "store"), "--output-dir", str(shop))
    assert train.main(["--from-log", "--model-id", "new", *where, *flags]) == 0
    done = json.loads(capsys.readouterr().out)
    assert "evidence_path" not in done
    assert Path(done["model_path"]).is_file()
    left = {path.name for path in (shop / "new").iterdir()}
    assert left == {"model.skops", "model.scoring", "result.json"}


def test_the_bundled_sample_is_not_taken_for_columns_that_it_has_not(shop: Path) -> None:
    agreeing = {"no": "no", "yes": "yes", "maybe": "no"}
    known = request(shop, classes=["no", "yes"], labels=agreeing, training_dataset=BUILTIN)
    assert rows_of_log(known, wanted=False).dataset != BUILTIN


def test_where_settings_and_champion_agree_the_file_is_taken_and_the_log_named(
    shop: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = request(shop, classes=["no", "yes"])
    with caplog.at_level(logging.INFO):
        assert rows_of_log(asked, wanted=False) == asked
    assert f"The log has {ROWS} results of the last 90 days" in caplog.text
    assert "`ml-pipeline train --register --from-log` trains on those" in caplog.text


def test_a_file_that_was_made_anew_with_what_is_new_is_taken(shop: Path) -> None:
    text = (shop / "file.csv").read_text(encoding="utf-8")
    (shop / "file.csv").write_text(f"{text}3,tin,maybe\n", encoding="utf-8")
    asked = request(shop)
    assert rows_of_log(asked, wanted=False) == asked


def test_too_few_results_are_no_training_data(shop: Path, caplog: pytest.LogCaptureFixture) -> None:
    few = request(shop, features=KINDS | {"shape": "category"})
    assert rows_of_log(few, wanted=False) == few
    assert "the log has only 0 results to train on (50 are needed)" in caplog.text
    with pytest.raises(DataError, match="0 results of the log have every feature"):
        rows_of_log(few, wanted=True)


def test_a_result_is_one_however_many_lines_its_text_has(shop: Path) -> None:
    store = LocalStore.open(shop / "store")
    event = {
        "event_id": make_id(ROWS), "timestamp": NOW, "event_type": "prediction",
        "model_name": MODEL_NAME, "model_id": "m-1", "prediction": "no", "confidence": 0.8,
        "features": json.dumps({"visits": 1, "plan": "tin", "note": "a line\n" * ROWS}),
        "actual_result": "no", "evaluated_at": NOW, "accuracy": 1.0, "status": "evaluated",
    }  # fmt: skip
    store.append_events(frame_of([dict.fromkeys(EVENT_COLUMNS) | event]))
    store.close()
    with pytest.raises(DataError, match=r"^1 results? of the log"):
        rows_of_log(request(shop, text_column="note"), wanted=True)
