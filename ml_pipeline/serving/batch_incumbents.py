"""The answers of an incumbent beside the rows of a batch, for a model that corrects them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.errors import InputError
from ml_pipeline.serving.artifact import BatchScorer
from ml_pipeline.store.inputs.incumbent_columns import ANSWER, ANSWER_CONFIDENCE, share_columns
from ml_pipeline.store.inputs.incumbents import shares_of, written
from ml_pipeline.store.inputs.labels import Labels


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerColumns:
    """The columns of a file that tell the incumbent's answers; none for most models.

    One for each of the `classes`; or the column `incumbent`, with JSON or a label, and the one of
    its confidence if the file has it.
    """

    names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    @classmethod
    def wanted(cls, scorer: BatchScorer, header: Sequence[str], path: str) -> Self:
        """Those of a file that the model needs. Raises InputError for a file without them."""
        if not scorer.corrects:
            return cls()
        columns, classes = share_columns(scorer.classes), tuple(scorer.classes)
        if set(columns) <= set(header):
            return cls(names=tuple(columns), classes=classes)
        if ANSWER in header:
            also = [ANSWER_CONFIDENCE] if ANSWER_CONFIDENCE in header else []
            return cls(names=(ANSWER, *also), classes=classes)
        raise InputError(
            f"{scorer.model_id} corrects the answers of an incumbent, and {path} has none.",
            hint=f"Give it the columns {', '.join(columns)}; or a column {ANSWER} with the answer "
            f"as JSON, or with a label whose confidence stands in {ANSWER_CONFIDENCE}.",
        )

    def read(
        self, cells: Sequence[NDArray[Any]], rows: int, labels: Labels
    ) -> tuple[NDArray[np.float64], dict[int, str]]:
        """The incumbent's probabilities (n, K), and what is wrong with rows by their places.

        `cells` are the texts (n,) of each of its columns.
        """
        if not self.names:
            return np.empty((rows, 0)), {}
        shares, faults = np.full((rows, len(self.classes)), 1 / len(self.classes)), dict[int, str]()
        known = dict[tuple[str, ...], list[float]]()
        columns = [np.ma.filled(array.astype(object), "") for array in cells]
        for place, texts in enumerate(zip(*columns, strict=True)):
            key = tuple(str(text or "").strip() for text in texts)
            try:
                if key not in known:
                    known[key] = shares_of(self._answer(key), self.classes, labels)
                shares[place] = known[key]
            except InputError as error:
                faults[place] = error.message
        return shares, faults

    def _answer(self, texts: Sequence[str]) -> Mapping[str, object]:
        if not all(texts[:1] if self.names[0] == ANSWER else texts):
            raise InputError("The incumbent's answer is missing.")
        if self.names[0] != ANSWER:
            return dict(zip(self.classes, texts, strict=True))
        return written(texts[0], texts[1] if len(texts) > 1 else None)
