"""The packaged examples `churn` and `fraud`: from a file to a champion, and through a night."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from ml_pipeline.config.settings import load_settings
from tests.acceptance.words.test_init_from import day_of_answers
from tests.support import build_examples, warm
from tests.support.places import Place

FILES = {"churn": "churn_customers.csv", "fraud": "fraud_payments.csv.gz"}
MOST_BYTES = 150_000


def test_their_data_are_made_by_the_script_and_small() -> None:
    churn, fraud = (build_examples.FOLDER / name for name in FILES.values())
    assert churn.read_bytes() == build_examples.churn_csv()
    assert gzip.decompress(fraud.read_bytes()) == build_examples.fraud_csv()
    assert max(path.stat().st_size for path in (churn, fraud)) < MOST_BYTES
    for name in FILES:
        text = (build_examples.FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
        assert "made up by tests/support/build_examples.py" in text.replace("\n# ", " ")


def unseen(name: str, number: int) -> dict[str, Any]:
    """A row with levels that nobody has seen, and gaps."""
    if name == "churn":
        return {
            "plan": "startup", "country": None, "payment": "crypto", "signed_up": None,
            "autopay": None, "monthly_price": 12.5, "support_calls": number % 5,
            "satisfaction": None, "discount": "black friday",
        }  # fmt: skip
    return {
        "amount": 10.0 * number, "country": "US", "channel": None, "new_device": number % 3 == 0,
        "attempts": 1 + number % 4, "account_days": None,
    }  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("name", FILES)
def test_an_example_comes_from_its_file_through_a_night(
    place: Place, tmp_path: Path, name: str
) -> None:
    def run(*arguments: str) -> dict[str, Any]:
        done = warm.ml_pipeline(*arguments, cwd=tmp_path, **place.variables)
        assert done.code == 0, done.stderr
        return done.json

    begun = run("init", "--example", name)
    assert begun["files"] == ["model_config.yaml", FILES[name]]
    trained = run("train", "--register")
    assert trained["outcome"] == "promoted"
    settings = load_settings(tmp_path / "model_config.yaml", environment={})
    assert settings.model_name == name
    labels = settings.data.classes or []
    rows = [unseen(name, number) for number in range(40)]
    values = [f"{key}={'' if value is None else value}" for key, value in rows[0].items()]
    asked = run("predict", "--predict", *values, "--no-log")
    assert set(asked["probabilities"]) == set(labels)
    model = {"model_name": name, "model_id": trained["model_id"], "labels": labels}
    day_of_answers(place, model, rows, [labels[number % 5 == 0] for number in range(40)])
    night = run("run")
    assert night["outcome"] in {"promoted", "rejected", "awaiting_approval"}
    assert night["training_rows"] == 40
    assert run("replay", night["run_id"])["result"] == "identical"


@pytest.mark.long
@pytest.mark.parametrize(("name", "target"), [("churn", "churned"), ("fraud", "fraud")])
def test_init_from_finds_of_an_example_what_its_settings_say(
    tmp_path: Path, name: str, target: str
) -> None:
    assert warm.ml_pipeline("init", "--example", name, cwd=tmp_path).code == 0
    shipped = load_settings(tmp_path / "model_config.yaml", environment={}).data
    done = warm.ml_pipeline(
        "init", "--from", FILES[name], "--target", target, "--config", "found.yaml", cwd=tmp_path
    )
    assert done.code == 0, done.stderr
    found = load_settings(tmp_path / "found.yaml", environment={}).data
    assert found.kinds == shipped.kinds
    assert found.model_dump(exclude={"features"}) == shipped.model_dump(exclude={"features"})
    assert done.json["backtest"]["verdict"] in {"yes", "little"}


@pytest.mark.long
def test_the_threshold_of_fraud_says_what_a_person_sees(tmp_path: Path) -> None:
    """Of the last 1,800 payments; the manual has these figures."""
    for arguments in (("init", "--example", "fraud"), ("train", "--register", "--local", "store")):
        assert warm.ml_pipeline(*arguments, cwd=tmp_path).code == 0
    with gzip.open(tmp_path / FILES["fraud"], "rt", encoding="utf-8") as file:
        lines = file.readlines()
    (tmp_path / "last.csv").write_text("".join([lines[0], *lines[-1800:]]), encoding="utf-8")
    done = warm.ml_pipeline(
        "predict", "--batch", "last.csv", "--output", "out.csv", "--local", "store", "--no-log",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    frauds = [row for row in rows if row["fraud"] == "1"]
    seen = [row for row in rows if row["prediction"] != "0"]
    caught = [row for row in frauds if row["prediction"] != "0"]
    manual = Path(__file__).parents[2] / "docs" / "your-data.md"
    sentence = (
        f"it sends {len(seen) / len(rows):.0%} of the last 1,800 payments to a person, among them "
        f"{len(caught)} of {len(frauds)} frauds"
    )
    assert sentence.replace("%", " %") in manual.read_text(encoding="utf-8")
    sure = [json.loads(row["probabilities"]) for row in rows if row["prediction"] == "0"]
    assert min(chances["0"] for chances in sure) >= 0.95
