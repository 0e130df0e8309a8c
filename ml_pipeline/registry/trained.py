"""What the trainer leaves in its folder, before anything of it is registered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULT_FILE = "result.json"
MODEL_FILE = "model.skops"
SCORING_FILE = "model.scoring"
EVIDENCE_FILE = "evidence.npz"
SAMPLE_FILE = "sample.npz"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerAnswer:
    """What `train` wrote: its JSON and where its files stand."""

    result: Mapping[str, Any]
    model_path: Path
    evidence_path: Path
    sample_path: Path


def forget_rows(folder: Path) -> None:
    """Remove what the trainer leaves of single rows, for the judging; the model stays."""
    for name in (SAMPLE_FILE, EVIDENCE_FILE):
        (folder / name).unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A few rows and what the trained model answered, to hold the stored one to it.

    Rows are as `datasets.features` has them, `probabilities` are (n, K).
    """

    features: Any
    probabilities: Any

    @classmethod
    def load(cls, path: Path) -> Sample:
        """Read what `save` wrote."""
        import numpy as np

        from ml_pipeline.datasets.features import joined

        with np.load(path, allow_pickle=False) as arrays:
            texts = arrays["texts"].tolist() if "texts" in arrays else None
            rows = joined(arrays["features"], texts)
            return cls(features=rows, probabilities=arrays["probabilities"])

    def save(self, path: Path) -> None:
        """Write plain arrays."""
        import numpy as np

        from ml_pipeline.datasets.features import parted

        numbers, texts = parted(self.features)
        arrays: dict[str, Any] = {"features": numbers, "probabilities": self.probabilities}
        if texts is not None:
            arrays["texts"] = np.asarray(texts, dtype=str)
        np.savez_compressed(path, **arrays)

    def rows(self) -> Iterator[tuple[list[float], str | None]]:
        """The numbers and the text of each row."""
        from ml_pipeline.datasets.features import parted

        numbers, texts = parted(self.features)
        for place, values in enumerate(numbers.tolist()):
            yield values, None if texts is None else texts[place]
