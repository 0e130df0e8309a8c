"""The heads of a scoring file: what they see of a row, and what they say of it.

In the format of before there were families, every head sees the centred log probabilities of the
base, the numbers and 1. See `training.heads.inputs` for what families see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import cos, inf, isfinite, log, sqrt
from operator import mul

from ml_pipeline.registry.scoring_parts import Reader, Score, Values, listed, mapped, softmax

MIN_PROBABILITY = 1e-3
MAX_STANDARDISED = 8.0
WAVE = sqrt(2)

Head = list[list[float]]
"""The weights of each class that has a score of its own."""


class Heads:
    """What every head answers, in the order of their votes."""

    def __init__(self, header: Mapping[str, object], reader: Reader) -> None:
        width = len(listed(header["features"]))
        self._classes = len(listed(header["classes"]))
        self._is_former = "families" not in header
        seen = header if self._is_former else mapped(header["head_inputs"])
        self._columns: Score | None = None
        base = mapped(header["base"])
        # The incumbent's answer, which comes last in a row, is seen as log odds alone.
        self._own: int | None = None
        if base["kind"] == "incumbent":
            self._own = width = int(base["first"])  # type: ignore[call-overload]
        if header.get("kinds") and not self._is_former:
            from ml_pipeline.registry.inputs.kind_columns import head_columns

            self._columns, width = head_columns(base, width, reader.array)
        if seen.get("terms") is not None:
            from ml_pipeline.registry.inputs.text_columns import text_columns

            self._columns, width = text_columns(base, seen, self._columns, width, reader)
        self._mean = [float(value) for value in listed(seen["mean"])]
        self._scale = [float(value) for value in listed(seen["scale"])]
        self._sees_numbers = bool(seen.get("sees_features", seen.get("sees_numbers")))
        self._components: Head = []
        self._pairs: list[tuple[int, int]] = []
        self._waves: list[tuple[list[float], float]] = []
        self._count = width if self._sees_numbers else 0
        self._heard = [None if e is None else int(e) for e in listed(header.get("heard", []))]
        if not self._is_former:
            self._read_inputs(seen, reader)
        if not len(self._mean) == len(self._scale) == width:
            raise ValueError("its features differ in number")
        if not all(map(isfinite, self._mean)) or not all(0 < s < inf for s in self._scale):
            raise ValueError("the means or scales of its features are no numbers")
        self._families = self._read_heads(header, reader)
        count = sum(len(heads) for _, heads in self._families)
        self.votes = [float(weight) for weight in listed(header["vote"])[1 : 1 + count]]
        if len(self.votes) != count:
            raise ValueError("its heads have not a vote each")

    def _read_inputs(self, seen: Mapping[str, object], reader: Reader) -> None:
        if seen["components"] is not None:
            self._components = _rows(reader.array(seen["components"]), self._count)
            self._count = len(self._components)
        self._pairs = [(int(first), int(second)) for first, second in listed(seen["pairs"])]
        if not all(0 <= place < self._count for pair in self._pairs for place in pair):
            raise ValueError("its pairs are of numbers that it has not")
        phases = list[float](reader.array(seen["phases"]))
        if phases:
            frequencies = _rows(reader.array(seen["frequencies"]), self._count)
            self._waves = list(zip(frequencies, phases, strict=True))

    def _read_heads(
        self, header: Mapping[str, object], reader: Reader
    ) -> list[tuple[str, list[Head]]]:
        if self._is_former:
            heads = [
                [[float(weight) for weight in column] for column in zip(*listed(head), strict=True)]
                for head in listed(header["heads"])
            ]
            families = [("plain", heads)]
        else:
            families = [
                (str(name), [_rows(reader.array(head), width) for head in listed(heads)])
                for name, width, heads in listed(header["families"])
            ]
        columns = self._classes if self._is_former else self._classes - 1
        self._width = columns + self._count
        further = {"plain": 0, "pairs": len(self._pairs), "waves": len(self._waves)}
        heard = columns * len(self._heard)
        for name, heads in families:
            inputs = self._width + further[name] + 1 + heard
            if any(len(h) != columns or any(len(c) != inputs for c in h) for h in heads):
                raise ValueError("its heads see other inputs")
        return families

    def voted(
        self, values: Values, base: Sequence[float], experts: Sequence[Sequence[float]]
    ) -> list[float]:
        """The heads' probabilities for a row, each head's times its vote, added up."""
        numbers = self._numbers(values) if self._sees_numbers else []
        first, last = [*self._odds(base), *numbers], self._last(experts)
        voted, votes = [0.0] * self._classes, iter(self.votes)
        for name, heads in self._families:
            inputs = [*first, *self._further(name, numbers), *last]
            for head, weight in zip(heads, votes, strict=False):
                scores = [sum(map(mul, column, inputs)) for column in head]
                if not self._is_former:
                    scores.append(0.0)
                shares = softmax(scores, weight)
                voted = [vote + share for vote, share in zip(voted, shares, strict=True)]
        return voted

    def _last(self, experts: Sequence[Sequence[float]]) -> list[float]:
        """What every head sees after all else: 1, and the log odds of the experts it hears."""
        last = [1.0]
        for place in self._heard:
            silent = [0.0] * (self._classes - 1)
            last += silent if place is None else self._odds(experts[place])
        return last

    def _odds(self, shares: Sequence[float]) -> list[float]:
        logs = [
            log(share) if MIN_PROBABILITY <= share <= 1 else _clipped_log(share) for share in shares
        ]
        if self._is_former:
            middle = sum(logs) / len(logs)
            return [value - middle for value in logs]
        reference = logs.pop()
        return [value - reference for value in logs]

    def _numbers(self, values: Values) -> list[float]:
        if self._own is not None:
            values = values[: self._own]
        if self._columns is not None:
            values = self._columns(values)
        seen = [
            far if -MAX_STANDARDISED <= (far := (value - mean) / scale) <= MAX_STANDARDISED
            else _clipped(far)
            for value, mean, scale in zip(values, self._mean, self._scale, strict=True)
        ]  # fmt: skip
        if not self._components:
            return seen
        return [_clipped(sum(map(mul, component, seen))) for component in self._components]

    def _further(self, family: str, seen: list[float]) -> list[float]:
        if family == "pairs":
            return [
                far if -MAX_STANDARDISED <= (far := seen[one] * seen[two]) <= MAX_STANDARDISED
                else _clipped(far)
                for one, two in self._pairs
            ]  # fmt: skip
        if family == "waves":
            return [
                WAVE * cos(sum(map(mul, frequencies, seen)) + phase)
                for frequencies, phase in self._waves
            ]
        return []


def _rows(flat: memoryview, width: int) -> list[list[float]]:
    values = list[float](flat)
    if not all(map(isfinite, values)) or len(values) % max(width, 1):
        raise ValueError("an array of its heads has another shape")
    return [values[start : start + width] for start in range(0, len(values), width)]


def _clipped_log(share: float) -> float:
    return log(min(max(share, MIN_PROBABILITY), 1.0))


def _clipped(far: float) -> float:
    """Within the bounds; what is no finite number says nothing."""
    return min(max(far, -MAX_STANDARDISED), MAX_STANDARDISED) if isfinite(far) else 0.0
