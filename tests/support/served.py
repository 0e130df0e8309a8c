"""Stores with a champion that was trained and registered by the commands."""

from __future__ import annotations

from pathlib import Path

from tests.support.shell import Finished, python
from tests.support.warm import ml_pipeline

ROW = ("7.5", "6.2", "8.0", "7.5", "0.5")
FEATURES = (
    "home_team_form", "away_team_form", "home_team_strength", "away_team_strength",
    "home_advantage",
)  # fmt: skip
HEAVY = (
    "numpy", "pandas", "sklearn", "scipy", "supabase", "duckdb", "pydantic", "yaml",
    # Small, but together they double the time of a cold prediction.
    "dataclasses", "inspect", "logging", "pathlib", "tempfile", "typing",
)  # fmt: skip


def loaded_by_scoring(content: bytes, row: list[float], text: str | None, folder: Path) -> str:
    """Which of the heavy modules a process has loaded that scored a row and nothing else."""
    (folder / "model.scoring").write_bytes(content)
    code = (
        "import sys; from ml_pipeline.registry import scoring; "
        "scorer = scoring.parse(open('model.scoring', 'rb').read()); "
        f"assert sum(scorer.probabilities({row}, {text!r})) > .99; "
        f"print(*[name for name in {HEAVY} if name in sys.modules])"
    )
    done = python("-c", code, cwd=folder)
    assert done.code == 0, done.stderr
    return done.stdout.strip()


def train(folder: Path, algorithm: str, *, model_id: str, **variables: str) -> Finished:
    """Train on the bundled sample and register; the first one becomes champion."""
    done = ml_pipeline(
        "train", "--register", "--local", folder / "store", "--algorithm", algorithm,
        "--model_id", model_id, "--output_dir", folder / "models", cwd=folder,
        **variables,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    return done
