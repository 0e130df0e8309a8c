"""Scoring functions built from the parts of a scoring file's header.

A part that does not fit the one before it is refused when it is built, by ValueError, KeyError or
TypeError; nothing of it is run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import exp, isfinite, isnan
from operator import mul

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ml_pipeline.datasets.texts import Reading

Values = Sequence[float]
Score = Callable[[Values], list[float]]


class Member:
    """One voter of an ensemble; `probabilities` is None when it could not answer."""

    __slots__ = ("name", "probabilities", "weight")

    def __init__(self, name: str, weight: float, probabilities: list[float] | None) -> None:
        self.name = name
        self.weight = weight
        self.probabilities = probabilities


def softmax(scores: list[float], total: float = 1.0) -> list[float]:
    """Probabilities from scores, times `total`."""
    top = max(scores)
    powers = [exp(score - top) for score in scores]
    share = total / sum(powers)
    return [power * share for power in powers]


def sigmoid(score: float) -> float:
    """The probability of a score, without overflow."""
    if score >= 0:
        return 1 / (1 + exp(-score))
    power = exp(score)
    return power / (1 + power)


def is_whole(values: Values) -> bool:
    """Whether no value is NaN, as in most rows: their sum says so faster than a look at each."""
    return not isnan(sum(values))


def listed(value: object) -> list:  # type: ignore[type-arg]
    """A list, as JSON gives it. Raises TypeError."""
    if not isinstance(value, list):
        raise TypeError(value)
    return value


def mapped(value: object) -> dict[str, object]:
    """An object, as JSON gives it. Raises TypeError."""
    if not isinstance(value, dict):
        raise TypeError(value)
    return value


class Reader:
    """Builds functions from the parts of a header.

    `width` is how many values a part gets, the text of a row counted as one.
    """

    def __init__(self, arrays: memoryview) -> None:
        self._arrays = arrays
        # What reads a text, by the part that it was built of.
        self.readings: dict[int, Reading] = {}

    def score(self, part: Mapping[str, object], width: int) -> Score:
        """The function of a classifier. Raises KeyError for one that is not known."""
        kinds: dict[str, Callable[[Mapping[str, object], int], Score]] = {
            "pipeline": self._pipeline,
            "linear": self._linear,
            "trees": self._trees,
            "vote": self._voted,
            "incumbent": self._incumbent,
        }
        return kinds[str(part["kind"])](part, width)

    def array(self, place: object) -> memoryview:
        """One of the flat arrays. Raises ValueError for one outside of the file."""
        code, start, count = listed(place)
        size = {"b": 1, "h": 2, "i": 4, "f": 4, "d": 8}[code]
        if not 0 <= start <= start + count * size <= len(self._arrays):
            raise ValueError("an array lies outside the file")
        return self._arrays[start : start + count * size].cast(code)

    def preparation(self, part: Mapping[str, object], width: int) -> tuple[Score, int]:
        """Imputing, scaling, reading a text; and how many values come out."""
        steps: list[Score] = []
        for step in listed(part["steps"]):
            prepare, width = self._step(mapped(step), width)
            steps.append(prepare)
        return _one_after_the_other(steps), width

    def _step(self, part: Mapping[str, object], width: int) -> tuple[Score, int]:
        if part["kind"] == "impute":
            return _imputing(_numbers(part["fill"], width)), width
        if part["kind"] == "scale":
            mean, scale = _numbers(part["mean"], width), _numbers(part["scale"], width)
            return lambda values: [
                (value - middle) / spread
                for value, middle, spread in zip(values, mean, scale, strict=True)
            ], width
        if part["kind"] == "clip":
            farthest = float(part["farthest"])  # type: ignore[arg-type]
            return lambda values: [
                value if -farthest <= value <= farthest else min(max(value, -farthest), farthest)
                for value in values
            ], width
        if part["kind"] == "read":
            reading, width = self._reading(part, width - 1)
            return reading.prepare, width
        if part["kind"] == "columns":
            from ml_pipeline.registry.inputs.kind_columns import columns

            return columns(part, width, self.array, self.preparation)
        raise KeyError(part["kind"])

    def _reading(self, part: Mapping[str, object], width: int) -> tuple[Reading, int]:
        from ml_pipeline.datasets.texts import STATISTICS, Reading

        terms = listed(part["terms"])
        statistics, count = self._step(mapped(part["statistics"]), len(STATISTICS))
        numbers, width = self.preparation({"steps": part["numbers"]}, width)
        reading = Reading(terms, self.array(part["idf"]), statistics, [numbers])
        self.readings[id(part)] = reading
        return reading, len(terms) + count + width

    def _pipeline(self, part: Mapping[str, object], width: int) -> Score:
        steps, end = listed(part["steps"]), mapped(part["last"])
        if [step["kind"] for step in steps] == ["read"] and end["kind"] == "linear":
            return self._linear_of_terms(steps[0], end, width)
        prepare, width = self.preparation(part, width)
        last = self.score(end, width)
        return lambda values: last(prepare(values))

    def _linear(self, part: Mapping[str, object], width: int) -> Score:
        rows = [list(row) for row in self._coefficients(part, width)]
        lines = list(zip(rows, _numbers(part["intercept"], len(rows)), strict=True))
        link = _LINKS[str(part["link"])]
        return lambda values: link([sum(map(mul, row, values)) + start for row, start in lines])

    def _linear_of_terms(
        self, read: Mapping[str, object], part: Mapping[str, object], width: int
    ) -> Score:
        """Of thousands of terms a text has a few: the coefficients of these alone are read."""
        reading, width = self._reading(read, width - 1)
        rows, terms = self._coefficients(part, width), len(listed(read["terms"]))
        starts = _numbers(part["intercept"], len(rows))
        parts = [(row, list(row[terms:]), at) for row, at in zip(rows, starts, strict=True)]
        link = _LINKS[str(part["link"])]

        def score(values: Values) -> list[float]:
            found, beside = reading.weighed(str(values[-1])), reading.beside(values)
            return link(
                [
                    sum([row[place] * weight for place, weight in found])
                    + sum(map(mul, others, beside))
                    + start
                    for row, others, start in parts
                ]
            )

        return score

    def _coefficients(self, part: Mapping[str, object], width: int) -> list[Values]:
        """As they stand, or as flat arrays: there the type code comes first."""
        rows: list[Values] = []
        for values in listed(part["coef"]):
            if not (listed(values) and isinstance(values[0], str)):
                rows.append(_numbers(values, width))
                continue
            flat = self.array(values)
            if len(flat) != width or not isfinite(sum(flat)):
                raise ValueError("the coefficients are not as many numbers as the values")
            rows.append(flat)
        return rows

    def vote(self, part: Mapping[str, object], width: int) -> Callable[[Values], list[Member]]:
        """What each member answers."""
        members = [
            (str(name), float(weight), self.score(mapped(member), width))
            for name, weight, member in listed(part["members"])
        ]

        def ask(score: Score, values: Values) -> list[float] | None:
            try:
                answer = score(values)
            except (OverflowError, ValueError):
                return None
            return answer if all(map(isfinite, answer)) else None

        return lambda values: [
            Member(name, weight, ask(score, values)) for name, weight, score in members
        ]

    def _voted(self, part: Mapping[str, object], width: int) -> Score:
        vote = self.vote(part, width)

        def score(values: Values) -> list[float]:
            answers = [
                (member.weight, member.probabilities)
                for member in vote(values)
                if member.probabilities is not None
            ]
            total = sum(weight for weight, _ in answers)
            if not answers:
                raise ValueError("no member of the ensemble has an answer")
            columns = zip(*(shares for _, shares in answers), strict=True)
            weights = [weight / total for weight, _ in answers]
            return [sum(map(mul, weights, column)) for column in columns]

        return score

    def _incumbent(self, part: Mapping[str, object], width: int) -> Score:
        """The answer that a row brings along, from the first number of it on."""
        first, count = int(part["first"]), int(part["count"])  # type: ignore[call-overload]
        if not 0 <= first <= width - count < width:
            raise ValueError("the incumbent's answer is not among its inputs")
        places = slice(first, first + count)

        def score(values: Values) -> list[float]:
            shares = [max(share, 0.0) for share in values[places]]
            total = sum(shares)
            return [share / total for share in shares]

        return score

    def _trees(self, part: Mapping[str, object], width: int) -> Score:  # noqa: ARG002 - as the others
        from ml_pipeline.registry.scoring_trees import Trees

        return Trees(part, self.array, _LINKS[str(part["link"])]).score


def _imputing(fill: Sequence[float]) -> Score:
    def impute(values: Values) -> list[float]:
        if len(values) == len(fill) and is_whole(values):
            return list(values)
        return [other if isnan(value) else value for value, other in zip(values, fill, strict=True)]

    return impute


def _one_after_the_other(steps: Sequence[Score]) -> Score:
    def prepare(values: Values) -> list[float]:
        prepared = list(values)
        for step in steps:
            prepared = step(prepared)
        return prepared

    return prepare


def _numbers(value: object, count: int) -> list[float]:
    """So many numbers. Raises ValueError for more, less, and what is none."""
    numbers = [float(number) for number in listed(value)]
    if len(numbers) != count or not all(map(isfinite, numbers)):
        raise ValueError(f"{len(numbers)} numbers stand where {count} are needed")
    return numbers


def _single_sigmoid(scores: list[float]) -> list[float]:
    share = sigmoid(scores[0])
    return [1 - share, share]


def _one_versus_rest(scores: list[float]) -> list[float]:
    shares = [sigmoid(score) for score in scores]
    total = sum(shares)
    return [share / total for share in shares] if total else [1 / len(shares)] * len(shares)


_LINKS: dict[str, Callable[[list[float]], list[float]]] = {
    "none": lambda scores: scores,
    "softmax": softmax,
    "sigmoid": _single_sigmoid,
    "one_versus_rest": _one_versus_rest,
}
