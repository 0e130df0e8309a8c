"""A row of every kind is one row, whichever door it comes in by: the same answer, the same inputs.

With gaps as programs write them, levels that nobody has seen, and a truth and a time in several
spellings.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from ml_pipeline.commands import backtest, labels, predict, replay, run, train
from ml_pipeline.config.environment import StoreSettings
from ml_pipeline.config.kind import Kind
from ml_pipeline.config.settings import Settings, load_settings
from ml_pipeline.datasets import ground_truth
from ml_pipeline.datasets.features import matrix
from ml_pipeline.datasets.inspection.inspecting import Wishes, inspect
from ml_pipeline.datasets.inspection.table import read_table
from ml_pipeline.evaluation_log.loading import read_labelled
from ml_pipeline.evaluation_log.opening import open_logger
from ml_pipeline.registry.models import load_model_version
from ml_pipeline.serving.engine import PredictionEngine
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.inputs.cells import read_cell
from ml_pipeline.store.records import EVENT_COLUMNS
from tests.support import hosting, mixed
from tests.support.factories import make_id

# Names that a file, JSON, SQL and a settings file each write in another way; two differ in case.
SPEND, CITY, SHOP, MEMBER, AT = (
    "he said \"x\", 'y'",
    "a.b/c~d",
    "A.B/C~D",
    "n" * 300,
    "\N{GRINNING FACE} at",
)
KINDS = {
    SPEND: "number", CITY: "category", SHOP: "category", MEMBER: "boolean", AT: "datetime",
}  # fmt: skip
GAPS = ("", "NA", "n/a", "null", "?", "-", "None", "nan", " ")
CITIES = ("Atlantis", "NA", "", "nan", "Tro\u0308ndelag")
NEW = ("Atlantis", "NA", "Tr\u00f6ndelag")
ROWS = 60


def made(rows: int, seed: int = 0) -> pd.DataFrame:
    """What the shop has, under those names."""
    names = dict(zip(mixed.FEATURES, KINDS, strict=True))
    return mixed.frame(rows, seed=seed, shops=12).rename(columns=names)


def odd_frame(rows: int = ROWS) -> pd.DataFrame:
    """Rows of texts, of which most have something odd."""
    frame = made(rows, seed=5)
    for place in range(rows):
        gap = GAPS[place % len(GAPS)]
        if place % 4 == 0:
            frame.loc[place, [SPEND, MEMBER, AT][place % 3]] = gap
        if place % 5 == 0:
            frame.loc[place, CITY] = CITIES[place % 25 // 5]
        if place % 7 == 0:
            frame.loc[place, MEMBER] = ["TRUE", "f", "1", "0.0", "on"][place % 35 // 7]
        if place % 11 == 0:
            frame.loc[place, AT] = "2026-03-14 16:00+01:00"
    return frame


def plain(row: dict[str, str]) -> dict[str, object]:
    """The same features as a program has them."""
    found: dict[str, object] = {
        name: read_cell(Kind(kind), row[name], name)[1]
        for name, kind in KINDS.items()
        if kind != "number"
    }
    number = pd.to_numeric(row[SPEND], errors="coerce")
    return found | {SPEND: None if np.isnan(number) else float(number)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Shop:
    """A store with a champion of every kind."""

    folder: Path
    store: LocalStore
    settings: Settings
    model: Any

    def call(self, command: Any, *arguments: str) -> int:  # noqa: ANN401 - a module
        where = ["--local", str(self.folder / "store")]
        config = ["--config", str(self.folder / "model_config.yaml")]
        return int(command.main([*arguments, *where, *config]))

    def inputs(self, frame: pd.DataFrame) -> Any:  # noqa: ANN401 - an array
        return matrix(frame, list(KINDS), self.settings.data.kinds)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    made(400).to_csv(folder / "rows.csv", index=False)
    data = {
        "features": KINDS, "target": "y", "classes": mixed.CLASSES, "ordered": False,
        "time_column": "known", "group_column": None, "training_dataset": str(folder / "rows.csv"),
    }  # fmt: skip
    config = {"model_name": "shop", "run": {"trigger": "any"}, "data": data}
    (folder / "model_config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    arguments = ["--register", "--local", str(folder / "store"), "--output_dir", str(folder)]
    assert train.main([*arguments, "--config", str(folder / "model_config.yaml")]) == 0
    store = LocalStore.open(folder / "store")
    champion = store.champion(model_name="shop")
    assert champion is not None
    settings = load_settings(folder / "model_config.yaml", environment={})
    model = load_model_version(store, champion)
    yield Shop(folder=folder, store=store, settings=settings, model=model)
    store.close()


def log_with_outcomes(shop: Shop, frame: pd.DataFrame, answered: list[str]) -> list[str]:
    """Log the rows by Python, give those and the `answered` ones outcomes; return their ids."""
    chosen = StoreSettings(local_dir=str(shop.folder / "store"))
    with open_logger(shop.settings, chosen) as logger:
        own = logger.log_predictions(
            {"model_id": "app", "prediction": "no", "confidence": 0.6, "features": row}
            for row in frame.to_dict("records")
        )
        for number, event_id in enumerate([*answered, *own]):
            logger.log_evaluation(event_id, mixed.CLASSES[number % 2])
    return own


def file_answers(
    shop: Shop, folder: Path, capsys: pytest.CaptureFixture[str]
) -> list[dict[str, float]]:
    """What `predict --batch` answers to `in.csv`; it counts and names the new levels."""
    given = ["--batch", str(folder / "in.csv"), "--output", str(folder / "out.csv"), "--no-log"]
    capsys.readouterr()
    assert shop.call(predict, *given) == 0
    out, err = capsys.readouterr()
    (counted,) = json.loads(out.splitlines()[-1])["new_levels"]
    assert (counted["feature"], counted["rows"], counted["of"]) == (CITY, 8, ROWS)
    assert set(counted["levels"]) == set(NEW)
    assert counted["said"] in err
    with (folder / "out.csv").open(newline="") as file:
        return [json.loads(row["probabilities"]) for row in csv.DictReader(file)]


@pytest.mark.long
def test_a_row_is_answered_and_learned_alike_by_every_door(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    frame = odd_frame()[list(KINDS)]
    inputs = shop.inputs(frame)
    wanted = shop.model.predict_proba(inputs)
    config = str(shop.folder / "model_config.yaml")

    # Python: many rows and one, as texts; logged in the store and in the CSV.
    with PredictionEngine(config_file=config, local_dir=str(shop.folder / "store")) as engine:
        answers = engine.batch_predict(frame.to_dict("records"))
    store = str(shop.folder / "store")
    with PredictionEngine(config_file=config, local_dir=store, log=False) as engine:
        alone = [engine.predict(row) for row in frame.to_dict("records")[:10]]
    asked = np.asarray([[a["probabilities"][c] for c in mixed.CLASSES] for a in answers])
    assert np.abs(asked - wanted).max() < 1e-9
    assert [a["probabilities"] for a in alone] == [a["probabilities"] for a in answers[:10]]
    new = [name for a in answers for name in NEW if f"{CITY} = {name!r} is a level" in str(a)]
    assert {name: new.count(name) for name in NEW} == {"Atlantis": 3, "NA": 3, "Tr\u00f6ndelag": 2}

    # A file.
    frame.to_csv(tmp_path / "in.csv", index=False)
    assert file_answers(shop, tmp_path, capsys) == [a["probabilities"] for a in answers]

    # HTTP: the cells as texts, and as JSON has them.
    rows = frame.to_dict("records")
    with hosting.hosting(shop.settings, local_dir=store, config_file=config) as hosted:
        for sent in (rows, [plain({str(k): v for k, v in row.items()}) for row in rows]):
            body = {"rows": [{"features": row} for row in sent], "log": False}
            found = hosted.post("/v1/predict/batch", body).json["predictions"]
            assert [a["probabilities"] for a in found] == [a["probabilities"] for a in answers]

    # The log, by the table and by the CSV: what is learned is what was answered for, and what a
    # program logged of answers of its own.
    ids = [a["event_id"] for a in answers]
    own = log_with_outcomes(shop, frame, ids)
    now = datetime.now(UTC)
    for source in ("table", str(shop.folder / "store" / "logs" / "evaluation_log.csv")):
        settings = shop.settings.changed({"log.source": source})
        learned = read_labelled(shop.store, settings, tmp_path / "work", now=now)
        for events in (ids, own):
            by_event = learned.set_index("event_id").loc[events]
            assert np.array_equal(shop.inputs(by_event), inputs, equal_nan=True), source

    # Labels that people give.
    labelled = frame.assign(label=np.resize(mixed.CLASSES, ROWS), id=[f"i{n}" for n in range(ROWS)])
    labelled.to_csv(tmp_path / "labels.csv", index=False)
    assert shop.call(labels, "add", "--csv", str(tmp_path / "labels.csv")) == 0
    truth, _ = ground_truth.read_truth(shop.store, shop.settings)
    names = [json.loads(text)["id"] for text in truth.frame["metadata"]]
    place = {name: number for number, name in enumerate(names)}
    order = [place[name] for name in labelled["id"]]
    assert np.array_equal(np.asarray(truth.features)[order], inputs, equal_nan=True)

    # A night, and the same night again.
    capsys.readouterr()
    assert shop.call(run) == 0
    night = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert night["training_rows"] == 2 * ROWS
    (counted,) = night["new_levels"]
    assert (counted["feature"], counted["rows"], counted["of"]) == (CITY, 16, 2 * ROWS)
    page = Path(night["report_path"]).read_text(encoding="utf-8")
    assert "in 16 new results of 120: each is answered as a rare one" in page
    assert shop.call(replay, night["run_id"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["result"] == "identical"


@pytest.mark.long
def test_a_backtest_of_a_file_and_of_the_log_are_one(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    frame = odd_frame(240)
    frame.to_csv("rows.csv", index=False)
    with closing(LocalStore.open(tmp_path / "log")) as store:
        rows = enumerate(frame.to_dict("records"))
        events = [event(number, {str(k): v for k, v in row.items()}) for number, row in rows]
        store.append_events(pd.DataFrame(events, columns=list(EVENT_COLUMNS)))
    asked = ["--policies", "frozen,adaptive", "--config", str(shop.folder / "model_config.yaml")]
    found = []
    for given in (["--csv", "rows.csv", "--time", "known"], ["--local", "log"]):
        capsys.readouterr()
        assert backtest.main([*asked, *given]) == 0
        result = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert result["kinds"] == KINDS
        for figures in result["policies"].values():
            del figures["train_cpu_s"]
        found.append(result)
    assert found[0] == found[1]
    assert found[0]["policies"]["adaptive"]["rows"] == 168


def event(number: int, row: dict[str, str]) -> dict[str, object]:
    """A row of the file as the log has it when its outcome is known at once."""
    known = pd.Timestamp(row["known"])
    return {
        "timestamp": known, "event_id": make_id(number), "event_type": "prediction",
        "model_name": "shop", "model_id": "app", "match_id": None, "prediction": "no",
        "confidence": 0.5, "features": json.dumps(plain(row)), "actual_result": row["y"],
        "evaluated_at": known, "accuracy": float(row["y"] == "no"), "status": "evaluated",
        "metadata": "{}",
    }  # fmt: skip


def test_init_counts_as_missing_what_the_loop_reads_as_missing(tmp_path: Path) -> None:
    frame = made(900).drop(columns="known")
    for place, name in enumerate(KINDS):
        count = len(GAPS) * (place + 1)
        frame[name] = [*np.resize(GAPS, count), *frame[name].tolist()[count:]]
    frame.to_csv(tmp_path / "rows.csv", index=False)
    found = inspect(
        read_table(tmp_path / "rows.csv"), Wishes(target="y"), lambda asked: asked.default,
        least_rows=50,
    )  # fmt: skip
    assert {f.name: f.kind.value for f in found.features} == KINDS
    kinds = {feature.name: feature.kind for feature in found.features}
    read = matrix(found.frame, found.names, kinds)
    said = [feature.missing for feature in found.features]
    assert said == pytest.approx(np.isnan(read).mean(axis=0).tolist())
