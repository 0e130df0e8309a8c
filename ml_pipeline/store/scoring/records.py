"""What the answers of a champion are made of, for a store that gives them itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerRules:
    """What an answer takes from the settings, and an outcome or a label that is told.

    `labels` are the spellings, see `Labels.tables`; `is_open` whether any text is a label. An
    outcome may lie by `tolerance` in the future. With `shares_labels` the rows of `ml_data` are
    those of several models, told apart by their model's name.
    """

    conflict_margin: float
    imputes: bool
    labels: Mapping[str, Mapping[str, str]]
    is_open: bool
    tolerance: timedelta
    shares_labels: bool

    @property
    def digest(self) -> str:
        """Another one for other rules."""
        text = json.dumps(self.as_json(), sort_keys=True)
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    def as_json(self) -> dict[str, object]:
        """The columns that hold them."""
        return {
            "conflict_margin": self.conflict_margin,
            "imputes": self.imputes,
            "labels": self.labels,
            "is_open": self.is_open,
            "tolerance": f"{self.tolerance.total_seconds():.0f} seconds",
            "shares_labels": self.shares_labels,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoringProgram:
    """A model as the numbers that a database runs, see `docs/scoring-format.md`.

    `probe` is a row that the model takes, and `expected` its probabilities, by which the database
    checks itself. The levels that training had of a category stand in `known_levels`, sorted, up to
    the place in `level_ends` that belongs to its feature in `level_features` (from 1).
    """

    format: int
    features: Sequence[str]
    kinds: Sequence[str]
    classes: Sequence[str]
    base_classes: Sequence[str]
    members: Sequence[str]
    mean: Sequence[float]
    scale: Sequence[float]
    level_features: Sequence[int]
    level_ends: Sequence[int]
    known_levels: Sequence[float]
    places: Sequence[int]
    numbers: Sequence[float]
    probe: Sequence[float]
    expected: Sequence[float]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelScoring:
    """A model for the database to score, or the `trouble` for which it cannot."""

    model_name: str
    model_id: str
    scoring_digest: str | None
    confidence_threshold: float
    rules: AnswerRules
    program: ScoringProgram | None = None
    trouble: str | None = None

    def __post_init__(self) -> None:
        if (self.program is None) == (self.trouble is None):
            raise ValueError("either a program or what is in its way")

    def as_json(self) -> dict[str, object]:
        """The columns of its row, and the probe that is checked before it is kept."""
        rules = self.rules
        row: dict[str, object] = {
            "trouble": self.trouble,
            "scoring_digest": self.scoring_digest,
            "settings_digest": rules.digest,
            "confidence_threshold": self.confidence_threshold,
            **rules.as_json(),
        }
        if self.program is None:
            return row | dict.fromkeys(_ARRAYS, "{}")
        return row | _columns(self.program)


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedScoring:
    """What a database answers with: of which model, made from what, and what is in its way."""

    model_id: str
    trouble: str | None
    scoring_digest: str | None
    settings_digest: str
    format: int | None


_ARRAYS = (
    "features", "kinds", "classes", "base_classes", "members", "mean", "scale", "level_features",
    "level_ends", "known_levels", "places", "numbers",
)  # fmt: skip
_TEXTS = _ARRAYS[:5]


def _columns(program: ScoringProgram) -> dict[str, object]:
    return {
        "format": program.format,
        **{name: list(getattr(program, name)) for name in _TEXTS},
        **{name: _array(getattr(program, name)) for name in _ARRAYS[len(_TEXTS) :]},
        "probe": {"row": _array(program.probe), "answer": _array(program.expected)},
    }


def _array(values: Sequence[float]) -> str:
    """Numbers as PostgreSQL writes an array: it reads them faster than JSON."""
    return "{" + ",".join(map(repr, values)) + "}"
