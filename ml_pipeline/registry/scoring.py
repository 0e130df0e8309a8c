"""Score a registered model from its scoring file, without the libraries that trained it.

A scoring file is data: one line of JSON, then flat little-endian arrays (the trees). It is
registered beside the artifact with a digest of its own, and answers what `predict_proba` answers.
`scoring_file` writes it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from math import exp, isfinite, log
from operator import add, mul

from ml_pipeline.errors import ArtifactCorrupt, ArtifactIncompatible, InputError, NotFound

FORMAT = "ml_pipeline scoring 1"
FORMAT_WITH_EXPERTS = "ml_pipeline scoring 2"
MIN_PROBABILITY = 1e-3
MAX_STANDARDISED = 8.0

Values = Sequence[float]
Score = Callable[[Values], list[float]]


class Member:
    """One voter of an ensemble; `probabilities` is None when it could not answer."""

    __slots__ = ("name", "probabilities", "weight")

    def __init__(self, name: str, weight: float, probabilities: list[float] | None) -> None:
        self.name = name
        self.weight = weight
        self.probabilities = probabilities


class Scorer:
    """A model read from its scoring file."""

    def __init__(self, header: Mapping[str, object], arrays: memoryview) -> None:
        self.features: list[str] = [str(name) for name in _listed(header["features"])]
        self.classes: list[str] = [str(label) for label in _listed(header["classes"])]
        column = header.get("text_column")
        self.text_column = None if column is None else str(column)
        self._mean = [float(value) for value in _listed(header["mean"])]
        self._scale = [float(value) for value in _listed(header["scale"])]
        reader = _Reader(arrays)
        base = _mapped(header["base"])
        self._vote = _find_vote(base, reader)
        columns = _listed(header["base_columns"])
        self.base_classes = [self.classes[column] for column in columns]
        self._base = _ordered(reader.score(base), columns, self.classes)
        heads = [
            [[float(weight) for weight in column] for column in zip(*_listed(head), strict=True)]
            for head in _listed(header["heads"])
        ]
        experts = [
            _ordered(reader.score(_mapped(expert)), columns, self.classes)
            for expert, columns in _listed(header.get("experts", []))
        ]
        self._base_weight, *weights = [float(weight) for weight in _listed(header["vote"])]
        self._heads = list(zip(weights[: len(heads)], heads, strict=True))
        self._experts = list(zip(weights[len(heads) :], experts, strict=True))
        self._sees_features = bool(header["sees_features"])

    @property
    def is_ensemble(self) -> bool:
        """Whether the base is a vote of several models."""
        return self._vote is not None

    def probabilities(self, values: Values, text: str | None = None) -> list[float]:
        """The probability of each of `classes` for the values of `features` in their order.

        A missing value is NaN. Raises InputError for numbers that the model cannot take, and for
        a text that it does not read.
        """
        row = self._row(values, text)
        try:
            base = self._base(row)
            inputs = self._head_inputs(values, base)
            voted = [self._base_weight * share for share in base]
            for weight, head in self._heads:
                scores = [sum(map(mul, column, inputs)) for column in head]
                voted = list(map(add, voted, softmax(scores, weight)))
            for weight, expert in self._experts:
                voted = [
                    vote + weight * share for vote, share in zip(voted, expert(row), strict=True)
                ]
        except (OverflowError, ValueError) as error:
            raise InputError(f"The model cannot take these numbers: {error}.") from error
        return voted

    def read_text(self, text: str | None) -> dict[str, str]:
        """The text by its column's name.

        Raises InputError for a text that is missing or unusable, and when the model reads none.
        """
        column = self.text_column
        if column is None:
            if text is not None:
                raise InputError("The model reads no text.", hint="Leave --text out.")
            return {}
        if text is None:
            raise InputError(f"The model reads a text ({column}), and none was given.",
                             hint='Give --text "…".')  # fmt: skip
        from ml_pipeline.datasets.texts import fault

        what = fault(text)
        if what:
            raise InputError(f"The text ({column}) {what}.")
        return {column: text}

    def _row(self, values: Values, text: str | None) -> Values:
        """Numbers, and the text after them if the model reads one."""
        if text is None and self.text_column is None:
            return values
        return [*values, *self.read_text(text).values()]  # type: ignore[list-item]

    def members(self, values: Values, text: str | None = None) -> list[Member]:
        """What each member of an ensemble answers, before the heads correct it."""
        return [] if self._vote is None else self._vote(self._row(values, text))

    def far_out(self, values: Values) -> list[str]:
        """Features that lie further from the training rows than the heads reach."""
        return [
            f"{name} = {value:g} lies {abs(value - mean) / scale:.0f} standard deviations from "
            "the rows that the model was trained on"
            for name, value, mean, scale in zip(
                self.features, values, self._mean, self._scale, strict=False
            )
            if abs(value - mean) > MAX_STANDARDISED * scale
        ]

    def _head_inputs(self, values: Values, base: list[float]) -> list[float]:
        logs = [
            log(share) if MIN_PROBABILITY <= share <= 1 else _clipped_log(share) for share in base
        ]
        middle = sum(logs) / len(logs)
        inputs = [value - middle for value in logs]
        if self._sees_features:
            for value, mean, scale in zip(values, self._mean, self._scale, strict=True):
                far = (value - mean) / scale
                is_near = -MAX_STANDARDISED <= far <= MAX_STANDARDISED
                inputs.append(far if is_near else _clipped(far))
        inputs.append(1.0)
        return inputs


def load(path: str, *, digest: str, size: int | None = None) -> Scorer:
    """Read a scoring file whose digest is known.

    Raises NotFound without a file, ArtifactCorrupt when the digest differs (nothing is parsed
    then), ArtifactIncompatible for a format that this version does not read.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise NotFound(f"The scoring file {path} cannot be read: {error.strerror}.") from error
    found = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if found != digest or size not in {None, len(content)}:
        raise ArtifactCorrupt(
            f"The scoring file {path} has the digest {found}, expected was {digest}.",
            hint="Its bytes are not the registered ones. Roll back to another model.",
        )
    return parse(content)


def parse(content: bytes) -> Scorer:
    """The scorer in verified bytes. Raises ArtifactIncompatible, ArtifactCorrupt."""
    line, _, _ = content.partition(b"\n")
    try:
        header = json.loads(line)
        if header["format"] not in {FORMAT, FORMAT_WITH_EXPERTS} or sys.byteorder != "little":
            raise ArtifactIncompatible(
                f"This version does not read scoring files of the format {header['format']!r}.",
                hint="Update the package, or train and register the model again.",
            )
        return Scorer(header, memoryview(content)[len(line) + 1 :])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ArtifactCorrupt(f"A scoring file cannot be read: {error!r}.") from error


def softmax(scores: list[float], total: float = 1.0) -> list[float]:
    """Probabilities from scores, times `total`."""
    top = max(scores)
    powers = [exp(score - top) for score in scores]
    share = total / sum(powers)
    return [power * share for power in powers]


def _clipped_log(share: float) -> float:
    return log(min(max(share, MIN_PROBABILITY), 1.0))


def _clipped(far: float) -> float:
    """Within the bounds; what is no finite number says nothing."""
    return min(max(far, -MAX_STANDARDISED), MAX_STANDARDISED) if isfinite(far) else 0.0


def sigmoid(score: float) -> float:
    """The probability of a score, without overflow."""
    if score >= 0:
        return 1 / (1 + exp(-score))
    power = exp(score)
    return power / (1 + power)


# ------------------------------------------------------------------------------- the parts


def _listed(value: object) -> list:  # type: ignore[type-arg]
    if not isinstance(value, list):
        raise TypeError(value)
    return value


def _mapped(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError(value)
    return value


def _ordered(score: Score, columns: Sequence[int], classes: Sequence[str]) -> Score:
    """The base's probabilities in the order of the model's classes, which may be more."""
    if list(columns) == list(range(len(classes))):
        return score
    is_complete = len(columns) == len(classes)

    def ordered(values: Values) -> list[float]:
        wide = [0.0 if is_complete else MIN_PROBABILITY] * len(classes)
        for column, share in zip(columns, score(values), strict=True):
            wide[column] = share
        total = 1.0 if is_complete else sum(wide)
        return [share / total for share in wide]

    return ordered


def _find_vote(
    part: Mapping[str, object], reader: _Reader
) -> Callable[[Values], list[Member]] | None:
    """What the members of an ensemble answer, wherever in a pipeline it is."""
    if part["kind"] == "vote":
        return reader.vote(part)
    if part["kind"] == "pipeline":
        inner = _find_vote(_mapped(part["last"]), reader)
        if inner is not None:
            prepare = reader.preparation(part)
            return lambda values: inner(prepare(values))
    return None


class _Reader:
    """Builds functions from the parts of a header."""

    def __init__(self, arrays: memoryview) -> None:
        self._arrays = arrays

    def score(self, part: Mapping[str, object]) -> Score:
        """The function of a classifier. Raises KeyError for one that is not known."""
        kinds: dict[str, Callable[[Mapping[str, object]], Score]] = {
            "pipeline": self._pipeline,
            "linear": self._linear,
            "trees": self._trees,
            "vote": self._voted,
        }
        return kinds[str(part["kind"])](part)

    def _array(self, place: object) -> memoryview:
        code, start, count = _listed(place)
        width = {"b": 1, "h": 2, "i": 4, "f": 4, "d": 8}[code]
        if not 0 <= start <= start + count * width <= len(self._arrays):
            raise ValueError("an array lies outside the file")
        return self._arrays[start : start + count * width].cast(code)

    def preparation(self, part: Mapping[str, object]) -> Score:
        """Imputing and scaling."""
        steps = [self._step(_mapped(step)) for step in _listed(part["steps"])]

        def prepare(values: Values) -> list[float]:
            prepared = list(values)
            for step in steps:
                prepared = step(prepared)
            return prepared

        return prepare

    def _step(self, part: Mapping[str, object]) -> Score:
        if part["kind"] == "impute":
            fill = [float(value) for value in _listed(part["fill"])]
            return lambda values: [
                value if value == value else other  # noqa: PLR0124 - NaN differs from itself
                for value, other in zip(values, fill, strict=True)
            ]
        if part["kind"] == "scale":
            mean = [float(value) for value in _listed(part["mean"])]
            scale = [float(value) for value in _listed(part["scale"])]
            return lambda values: [
                (value - middle) / spread
                for value, middle, spread in zip(values, mean, scale, strict=True)
            ]
        if part["kind"] == "read":
            return self._reading(part)
        raise KeyError(part["kind"])

    def _reading(self, part: Mapping[str, object]) -> Score:
        from ml_pipeline.datasets.texts import Reading

        terms = [str(term) for term in _listed(part["terms"])]
        statistics = self._step(_mapped(part["statistics"]))
        numbers = [self._step(_mapped(step)) for step in _listed(part["numbers"])]
        return Reading(terms, self._array(part["idf"]), statistics, numbers).prepare

    def _pipeline(self, part: Mapping[str, object]) -> Score:
        prepare, last = self.preparation(part), self.score(_mapped(part["last"]))
        return lambda values: last(prepare(values))

    def _linear(self, part: Mapping[str, object]) -> Score:
        rows = [self._weights(_listed(row)) for row in _listed(part["coef"])]
        starts = [float(value) for value in _listed(part["intercept"])]
        link = _LINKS[str(part["link"])]

        def score(values: Values) -> list[float]:
            return link(
                [
                    sum(map(mul, row, values)) + start
                    for row, start in zip(rows, starts, strict=True)
                ]
            )

        return score

    def _weights(self, row: list[object]) -> list[float]:
        """Coefficients as they stand, or as a flat array whose type code comes first."""
        is_flat = bool(row) and isinstance(row[0], str)
        return list(self._array(row)) if is_flat else [float(w) for w in row]  # type: ignore[arg-type]

    def vote(self, part: Mapping[str, object]) -> Callable[[Values], list[Member]]:
        """What each member answers."""
        members = [
            (str(name), float(weight), self.score(_mapped(member)))
            for name, weight, member in _listed(part["members"])
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

    def _voted(self, part: Mapping[str, object]) -> Score:
        vote = self.vote(part)

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

    def _trees(self, part: Mapping[str, object]) -> Score:
        from ml_pipeline.registry.scoring_trees import Trees

        return Trees(part, self._array, _LINKS[str(part["link"])]).score


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
