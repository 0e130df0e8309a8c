"""Read the text of a row as a scoring file says; loaded only for models that read one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt

from ml_pipeline import texts

Prepare = Callable[[Sequence[float]], list[float]]


class Reading:
    """Turns a row, its text last, into TF-IDF weights, text statistics and prepared numbers."""

    def __init__(
        self,
        terms: Sequence[str],
        idf: Sequence[float],
        statistics: Prepare,
        numbers: Sequence[Prepare],
    ) -> None:
        if len(terms) != len(idf):
            raise ValueError("terms and their weights differ in length")
        self._places = dict(zip(terms, range(len(terms)), strict=True))
        self._idf = idf
        self._statistics = statistics
        self._numbers = numbers

    def prepare(self, row: Sequence[float]) -> list[float]:
        """What the classifier sees of a row."""
        text = str(row[-1])
        prepared = list(row[:-1])
        for step in self._numbers:
            prepared = step(prepared)
        return [*self._weights(text), *self._statistics(texts.statistics(text)), *prepared]

    def _weights(self, text: str) -> list[float]:
        """TF-IDF of unit length, added up in the order in which scikit-learn does."""
        places, idf = self._places, self._idf
        found = sorted(
            (places[phrase], count * idf[places[phrase]])
            for phrase, count in texts.phrases(text).items()
            if phrase in places
        )
        squares = 0.0
        for _, weight in found:
            squares += weight * weight
        length = sqrt(squares)
        weights = [0.0] * len(places)
        for place, weight in found:
            weights[place] = weight / length
        return weights
