"""The answer of an incumbent as its probability of each class.

Where label and confidence alone are known the label has the confidence, and the other classes share
the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ml_pipeline.errors import InputError
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.inputs.probabilities import checked_shares
from ml_pipeline.store.inputs.values import share

# What a class has that an answer does not name, as in the heads of a model.
MIN_PROBABILITY: Final = 1e-3
HINT: Final = (
    'Write it as {"H": 0.6, "D": 0.3, "A": 0.1}, or as {"prediction": "H", "confidence": 0.6}.'
)


def written(text: str, confidence: object = None) -> dict[str, object]:
    """The answer as text, for `shares_of`: a JSON object, or a label beside its confidence.

    Raises InputError for what looks like JSON and is none.
    """
    if not text.lstrip().startswith("{"):
        return {"prediction": text, "confidence": None if confidence == "" else confidence}
    import json

    try:
        return dict(json.loads(text))
    except ValueError as error:
        raise InputError(f"The incumbent's answer is no JSON: {error}.", hint=HINT) from None


def shares_of(answer: Mapping[str, object], classes: Sequence[str], labels: Labels) -> list[float]:
    """The incumbent's probabilities of `classes`, which sum to 1.

    `answer` has a probability for each class, or `prediction` and `confidence` alone. What it gave
    to classes that are not asked for is shared by the others in proportion; an answer that gave all
    to those says nothing of these, which are alike. Raises InputError for one that is neither.
    """
    if isinstance(answer.get("prediction"), str):
        return _of_label(answer, classes, labels)
    return placed(checked_shares(answer, labels), classes)


def placed(shares: Mapping[str, float], classes: Sequence[str]) -> list[float]:
    """Probabilities by class as a row of those of `classes`, see `shares_of`."""
    row = [shares.get(label, MIN_PROBABILITY) for label in classes]
    if sum(shares.get(label, 0.0) for label in classes) <= MIN_PROBABILITY:
        row = [1.0] * len(classes)
    total = sum(row)
    return [value / total for value in row]


def _of_label(answer: Mapping[str, object], classes: Sequence[str], labels: Labels) -> list[float]:
    label = labels.find(answer["prediction"])
    if label is None:
        raise InputError(
            f"The incumbent's prediction {answer['prediction']!r} is no label.", hint=labels.hint()
        )
    if answer.get("confidence") is None:
        raise InputError(
            "The incumbent's prediction has no confidence.",
            hint="Give its confidence from 0 to 1, or its probabilities.",
        )
    confidence = share(answer["confidence"], "confidence")
    if label not in classes:
        return placed({label: confidence}, classes)
    rest = (1 - confidence) / (len(classes) - 1)
    return [confidence if name == label else rest for name in classes]
