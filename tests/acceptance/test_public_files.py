"""Public data with strings, gaps, truths and days: from the file to a night, no setting edited."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ml_pipeline.config.settings import load_settings
from tests.acceptance.words.test_init_from import CONFIG, day_of_answers, run
from tests.support.places import EMBEDDED, Place
from tests.unit.training.test_public_sets import folder

pytestmark = pytest.mark.long


def cars() -> tuple[pd.DataFrame, str]:
    """Where a car comes from: strings, numbers with gaps, its year."""
    frame = pd.DataFrame(json.loads((folder() / "cars.json").read_text(encoding="utf-8")))
    frame["make"] = frame["Name"].str.split().str[0]
    return frame.drop(columns="Name"), "Origin"


def airports() -> tuple[pd.DataFrame, str]:
    """Whether an airport lies in the north, with a truth and many levels."""
    frame = pd.read_csv(folder() / "airports.csv", dtype=str, keep_default_na=False)
    latitude, longitude = frame.pop("latitude").astype(float), frame["longitude"].astype(float)
    frame["north"] = (latitude > 40).map({True: "north", False: "south"})
    frame["in_the_west"] = (longitude < -100).map({True: "yes", False: "no"})
    return frame.drop(columns=["name"]), "north"


def weather() -> tuple[pd.DataFrame, str]:
    """What the weather of a day is called."""
    return pd.read_csv(folder() / "seattle-weather.csv", dtype=str), "weather"


@pytest.mark.parametrize("table", [cars, airports, weather])
def test_a_public_file_becomes_a_promoted_champion_that_learns_a_night(
    table: Callable[[], tuple[pd.DataFrame, str]], tmp_path: Path
) -> None:
    frame, target = table()
    frame.to_csv(tmp_path / "data.csv", index=False)
    place = Place(kind=EMBEDDED, variables={"ML_PIPELINE_LOCAL": str(tmp_path / "store")})
    begun = run(tmp_path, "init", "--from", "data.csv", "--target", target)
    assert begun.code == 0, begun.stderr
    assert begun.json["verdict"]
    kinds = set(begun.json["features"].values())
    assert len(kinds) > 1 or begun.json["time_column"] == "date"

    trained = run(tmp_path, "train", "--register", **place.variables)
    assert trained.code == 0, trained.stderr
    assert trained.json["outcome"] == "promoted", trained.json["outcome_reason"]

    # A night with levels that nobody has seen, and gaps.
    settings = load_settings(tmp_path / CONFIG, environment={})
    names = {name: str(kind) for name, kind in begun.json["features"].items()}
    row = {
        name: {"category": "never seen", "boolean": True}.get(kind) for name, kind in names.items()
    }
    row |= {name: 1.0 for name, kind in [*names.items()][-1:] if kind == "number"}
    labels = trained.json["classes"]
    model = {
        "model_name": settings.model_name, "model_id": trained.json["model_id"], "labels": labels,
    }  # fmt: skip
    day_of_answers(place, model, [row] * 40, [labels[n % len(labels)] for n in range(1, 41)])
    night = run(tmp_path, "run", **place.variables)
    assert night.code == 0, night.stderr
    assert night.json["training_rows"] == 40
    assert night.json["outcome"] in {"promoted", "rejected", "awaiting_approval"}
