"""Stores with a champion that was trained and registered by the commands."""

from __future__ import annotations

from pathlib import Path

from tests.support.shell import Finished
from tests.support.warm import ml_pipeline

ROW = ("7.5", "6.2", "8.0", "7.5", "0.5")
FEATURES = (
    "home_team_form", "away_team_form", "home_team_strength", "away_team_strength",
    "home_advantage",
)  # fmt: skip


def train(folder: Path, algorithm: str, *, model_id: str, **variables: str) -> Finished:
    """Train on the bundled sample and register; the first one becomes champion."""
    done = ml_pipeline(
        "train", "--register", "--local", folder / "store", "--algorithm", algorithm,
        "--model_id", model_id, "--output_dir", folder / "models", cwd=folder,
        OMP_NUM_THREADS="1", **variables,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    return done
