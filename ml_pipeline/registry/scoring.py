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
from math import inf, isfinite

from ml_pipeline.errors import ArtifactCorrupt, ArtifactIncompatible, InputError, NotFound
from ml_pipeline.registry.heads.plain import MAX_STANDARDISED, MIN_PROBABILITY, Heads
from ml_pipeline.registry.scoring_parts import (
    Member,
    Reader,
    Score,
    Values,
    listed,
    mapped,
)
from ml_pipeline.store.inputs.incumbent_columns import share_columns

# The fourth for a model some of whose features are no numbers, the last for one that corrects an
# incumbent's answers, whatever else they have.
FORMATS = tuple(f"ml_pipeline scoring {number}" for number in (1, 2, 3, 4, 5))
# How far probabilities may be from a sum of 1: far more than rounding adds.
ROUNDING = 1e-6
# What Python raises for a file whose parts do not fit one another.
_UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class Scorer:
    """A model read from its scoring file."""

    def __init__(self, header: Mapping[str, object], arrays: memoryview) -> None:
        self.features: list[str] = [str(name) for name in listed(header["features"])]
        self.classes: list[str] = [str(label) for label in listed(header["classes"])]
        # The kinds of the features, in their order; none where all are numbers.
        self.kinds: list[str] = [str(kind) for kind in listed(header.get("kinds", []))]
        self.text_column = _text_or_none(header.get("text_column"))
        self.corrects = header["format"] == FORMATS[-1]
        reader, width = Reader(arrays), len(self.features) + (self.text_column is not None)
        base = mapped(header["base"])
        self._vote = _find_vote(base, reader, width)
        columns = listed(header["base_columns"])
        self.base_classes = [self.classes[column] for column in columns]
        self._base = _ordered(reader.score(base, width), columns, self.classes)
        experts = [
            _ordered(reader.score(mapped(expert), width), columns, self.classes)
            for expert, columns in listed(header.get("experts", []))
        ]
        self._heads = _heads(header, reader)
        self._mean = [float(value) for value in listed(header["mean"])]
        self._scale = [float(value) for value in listed(header["scale"])]
        first, *weights = [float(weight) for weight in listed(header["vote"])]
        # Of the base and of the experts.
        self._votes = [first, *weights[len(self._heads.votes) :]]
        self._experts = experts
        # By the place of a category the levels that training had, sorted, where all are known.
        self.known_levels: list[tuple[int, Sequence[float]]] = [
            (int(place), reader.array(where))
            for place, where in listed(header.get("known_levels", []))
        ]
        self._check()

    def _check(self) -> None:
        """Raise what Python does for parts that do not fit one another: a row shows it."""
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:  # noqa: PLR2004
            raise ValueError("its classes are not two and more")
        if not len(self._mean) == len(self._scale) == len(self.features):
            raise ValueError("its features differ in number")
        if not all(map(isfinite, self._mean)) or not all(0 < s < inf for s in self._scale):
            raise ValueError("the means or scales of its features are no numbers")
        if self.corrects and self.features[-len(self.classes) :] != share_columns(self.classes):
            raise ValueError("it does not read an incumbent's answer")
        if self.kinds and len(self.kinds) != len(self.features):
            raise ValueError("its features and their kinds differ in number")
        if not all(0 <= place < len(self.features) for place, _ in self.known_levels):
            raise ValueError("levels are of no feature")
        self.probabilities(self._mean, None if self.text_column is None else "one text")

    def spread(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each feature in the training rows."""
        return list(self._mean), list(self._scale)

    @property
    def own_features(self) -> list[str]:
        """The features without the incumbent's answer, which comes last where it `corrects` one."""
        return self.features[: -len(self.classes)] if self.corrects else self.features

    @property
    def is_ensemble(self) -> bool:
        """Whether the base is a vote of several models."""
        return self._vote is not None

    def probabilities(self, values: Values, text: str | None = None) -> list[float]:
        """The probability of each of `classes` for the values of `features` in their order.

        A missing value is NaN. Raises InputError for numbers that the model cannot take, and for
        a text that it does not read; ArtifactCorrupt for a file that leads nowhere.
        """
        row = self._row(values, text)
        try:
            base = self._base(row)
            experts = [expert(row) for expert in self._experts]
            voted = self._heads.voted(row, base, experts)
            for weight, answer in zip(self._votes, [base, *experts], strict=True):
                voted = [vote + weight * share for vote, share in zip(voted, answer, strict=True)]
            check_shares(voted, len(self.classes))
        except (OverflowError, ValueError) as error:
            raise InputError(f"The model cannot take these numbers: {error}.") from error
        except _UNREADABLE as error:
            raise _unreadable(error) from error
        return voted

    def read_text(self, text: str | None) -> dict[str, str]:
        """The text by its column's name.

        Raises InputError for a text that is missing or unusable, and when the model reads none.
        """
        column = self.text_column
        if column is None:
            if text is not None:
                raise InputError("The model reads no text.", hint="Leave the text out.")
            return {}
        if text is None:
            raise InputError(f"The model reads a text ({column}), and none was given.",
                             hint='Give its text (--text "…").')  # fmt: skip
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

    def new_levels(self, values: Values) -> list[str]:
        """Categories of which training had not the level; where it had too many to list, none."""
        if not self.known_levels:
            return []
        from ml_pipeline.registry.inputs.kind_columns import is_new

        return [
            self.features[place]
            for place, known in self.known_levels
            if is_new(values[place], known)
        ]


def _heads(header: Mapping[str, object], reader: Reader) -> Heads:
    if "numpy" not in sys.modules:
        return Heads(header, reader)
    from ml_pipeline.registry.heads.matrix import MatrixHeads

    return MatrixHeads(header, reader)


def _text_or_none(value: object) -> str | None:
    return None if value is None else str(value)


def load(path: str, *, digest: str, size: int | None = None) -> Scorer:
    """Read a scoring file whose digest is known.

    Raises NotFound without a file, ArtifactCorrupt when the digest differs (nothing is parsed
    then), ArtifactIncompatible for a format that this version does not read.
    """
    try:
        with open(path, "rb") as file:
            # No more than was registered: what is longer is another file.
            content = file.read() if size is None else file.read(size + 1)
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
    try:
        # The arrays stay where they are: a copy would cost as much as the digest.
        end = content.index(b"\n")
        header = json.loads(content[:end])
        if header["format"] not in FORMATS or sys.byteorder != "little":
            raise ArtifactIncompatible(
                f"This version does not read scoring files of the format {header['format']!r}.",
                hint="Update the package, or train and register the model again.",
            )
        return Scorer(header, memoryview(content)[end + 1 :])
    except (InputError, *_UNREADABLE) as error:
        raise _unreadable(error) from error


def check_shares(shares: Sequence[float], count: int) -> None:
    """Raise ValueError unless these are `count` probabilities of one answer."""
    # Written so that NaN fails.
    is_whole = abs(sum(shares) - 1) <= ROUNDING and min(shares) >= -ROUNDING
    if not is_whole or len(shares) != count:
        raise ValueError("it answers with no probabilities")


def _unreadable(error: Exception) -> ArtifactCorrupt:
    return ArtifactCorrupt(
        f"A scoring file cannot be read: {type(error).__name__}: {error}.",
        hint="It is damaged. Roll back to another model, or train and register a new one.",
    )


def _ordered(score: Score, columns: Sequence[int], classes: Sequence[str]) -> Score:
    """The base's probabilities in the order of the model's classes, which may be more."""
    if list(columns) == list(range(len(classes))):
        return score
    if len(set(columns)) != len(columns) or not all(0 <= c < len(classes) for c in columns):
        raise ValueError("its columns are not those of classes")
    is_complete = len(columns) == len(classes)

    def ordered(values: Values) -> list[float]:
        wide = [0.0 if is_complete else MIN_PROBABILITY] * len(classes)
        for column, share in zip(columns, score(values), strict=True):
            wide[column] = share
        total = 1.0 if is_complete else sum(wide)
        return [share / total for share in wide]

    return ordered


def _find_vote(
    part: Mapping[str, object], reader: Reader, width: int
) -> Callable[[Values], list[Member]] | None:
    """What the members of an ensemble answer, wherever in a pipeline it is."""
    if part["kind"] == "vote":
        return reader.vote(part, width)
    if part["kind"] == "pipeline" and mapped(part["last"])["kind"] in {"vote", "pipeline"}:
        prepare, width = reader.preparation(part, width)
        inner = _find_vote(mapped(part["last"]), reader, width)
        if inner is not None:
            return lambda values: inner(prepare(values))
    return None
