"""What a prediction needs of a store: which model serves, its scoring file, and a log to write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class ServedModel:
    """A registered model as a prediction sees it. `scoring` is bucket, path, digest and size."""

    __slots__ = (
        "algorithm", "calibration", "created_at", "metrics", "model_id", "scoring", "state",
        "threshold",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - a plain record; dataclasses take as long to load as sqlite3
        self,
        *,
        model_id: str,
        algorithm: str,
        state: str,
        created_at: str,
        threshold: float,
        metrics: Mapping[str, object],
        scoring: Mapping[str, object] | None,
        calibration: Mapping[str, object] | None,
    ) -> None:
        self.model_id = model_id
        self.algorithm = algorithm
        self.state = state
        self.created_at = created_at
        self.threshold = threshold
        self.metrics = metrics
        self.scoring = scoring
        self.calibration = calibration


class ServingView:
    """The store as a prediction needs it; adapters implement it."""

    def champion(self, model_name: str) -> ServedModel | None:
        """The model that serves; None when there is none."""
        raise NotImplementedError

    def model(self, model_name: str, model_id: str) -> ServedModel:
        """A registered model. Raises NotFound."""
        raise NotImplementedError

    def scoring_path(self, model: ServedModel) -> str:
        """A file that holds the scoring file's bytes; the reader checks the digest."""
        raise NotImplementedError

    def append_rows(self, rows: Sequence[Mapping[str, object]], *, durable: bool = True) -> int:
        """Add events; return how many were new. Raises StoreRefused and writes none.

        What is not `durable` may be lost in a power cut until a later durable call returned.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Let go of connections and files."""
        raise NotImplementedError
