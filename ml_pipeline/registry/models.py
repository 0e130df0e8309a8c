"""A few rows and what a model said of them: what is stored has to say the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Rows as `features.read_rows` has them, and their probabilities (n, K)."""

    features: Any
    probabilities: Any

    @classmethod
    def load(cls, path: Path) -> Sample:
        """Read what `save` wrote."""
        import numpy as np

        from ml_pipeline.features import joined

        with np.load(path, allow_pickle=False) as arrays:
            texts = arrays["texts"].tolist() if "texts" in arrays else None
            rows = joined(arrays["features"], texts)
            return cls(features=rows, probabilities=arrays["probabilities"])

    def save(self, path: Path) -> None:
        """Write plain arrays."""
        import numpy as np

        from ml_pipeline.features import parted

        numbers, texts = parted(self.features)
        arrays: dict[str, Any] = {"features": numbers, "probabilities": self.probabilities}
        if texts is not None:
            arrays["texts"] = np.asarray(texts, dtype=str)
        np.savez_compressed(path, **arrays)

    def rows(self) -> Iterator[tuple[list[float], str | None]]:
        """The numbers and the text of each row."""
        from ml_pipeline.features import parted

        numbers, texts = parted(self.features)
        for place, values in enumerate(numbers.tolist()):
            yield values, None if texts is None else texts[place]
