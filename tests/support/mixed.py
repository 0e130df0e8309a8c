"""Rows of every kind, made from a seed: what a small shop might log."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ml_pipeline.config.settings import Settings

FEATURES = ("spend", "city", "shop", "member", "at")
CLASSES = ["no", "yes"]
CITIES = ("Oslo", "Rome", "Lima", "Bern", "")
_START = pd.Timestamp("2026-01-01", tz="UTC")


def settings(**data: object) -> Settings:
    """Settings that name the features and leave their kinds open."""
    named = {
        "features": list(FEATURES), "target": "y", "classes": CLASSES, "ordered": False,
        "time_column": "known", "group_column": None, **data,
    }  # fmt: skip
    changes: dict[str, object] = {f"data.{name}": value for name, value in named.items()}
    return Settings().changed(
        changes | {"training.ensemble": ["LogisticRegression", "DecisionTree"]}
    )


def frame(rows: int = 1200, seed: int = 0, shops: int = 120) -> pd.DataFrame:
    """A frame of texts with gaps; the target depends on each of the columns."""
    random = np.random.default_rng(seed)
    spend = random.normal(size=rows)
    city = random.choice(CITIES, rows, p=[0.4, 0.3, 0.2, 0.06, 0.04])
    shop, worth = random.integers(0, shops, rows), random.normal(0, 1, shops)
    member, at = random.random(rows) < 0.3, random.integers(0, 90 * 86_400, rows)
    score = 0.8 * spend + 1.2 * (city == "Oslo") - (city == "Lima") + worth[shop] + 0.7 * member
    score += 0.9 * (at % 86_400 > 64_800) - 0.5
    yes = random.random(rows) < 1 / (1 + np.exp(-score))
    gaps = random.random(rows) < 0.05
    return pd.DataFrame(
        {
            "spend": np.where(gaps, "", spend.round(3).astype(str)),
            "city": city,
            "shop": [f"shop {number}" for number in shop],
            "member": np.where(member, "Yes", "no"),
            "at": [(_START + pd.Timedelta(seconds=int(s))).isoformat() for s in at],
            "known": [(_START + pd.Timedelta(minutes=20 * n)).isoformat() for n in range(rows)],
            "y": np.where(yes, "yes", "no"),
        }
    ).astype(str)
