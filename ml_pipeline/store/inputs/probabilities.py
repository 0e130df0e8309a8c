"""What an answer was made of, where a caller hands it over: a probability for each class.

`probability_sql` has the same rules for the rows of a log.
"""

from __future__ import annotations

from collections.abc import Mapping

from ml_pipeline.errors import InputError
from ml_pipeline.store.event_row import UNCERTAIN
from ml_pipeline.store.inputs.labels import Labels, spelt
from ml_pipeline.store.inputs.values import ROUNDING, mapping, share

# What probabilities of 32 bits may sum to beside 1.
SUM_WITHIN = ROUNDING
# What a confidence, which may be written in whole percent, may differ from the probability.
CONFIDENCE_WITHIN = 0.01
_PERCENT = 100


def checked_probabilities(
    value: object, labels: Labels, *, prediction: str, confidence: float | None
) -> dict[str, float]:
    """The probabilities by class, as the classes are called; spellings of one class add up.

    They sum to 1 within `SUM_WITHIN`; a class that is not named has none. The confidence is that of
    the prediction, of an UNCERTAIN one the largest, within `CONFIDENCE_WITHIN`.
    Raises InputError for what is no mapping from label to such numbers, and for a prediction or a
    confidence that contradicts them.
    """
    found = checked_shares(value, labels)
    _agree(found, prediction, confidence)
    return found


def checked_shares(value: object, labels: Labels) -> dict[str, float]:
    """The same without a prediction that they are to agree with."""
    passed = mapping(value, "probabilities")
    found: dict[str, float] = {}
    for name, number in passed.items():
        label = labels.find(name)
        if label is None:
            raise InputError(f"probabilities name {name!r}, which is no label.", hint=labels.hint())
        found[label] = found.get(label, 0.0) + _share(number, label, passed)
    total = sum(found.values())
    if abs(total - 1) > SUM_WITHIN:
        lacking = [name for name in labels.names if name not in found]
        raise InputError(
            f"probabilities sum to {total:.9g}, not to 1 (within {SUM_WITHIN:f})."
            + (f" They do not name {', '.join(lacking)}." if lacking else "")
        )
    return found


def _share(number: object, label: str, passed: Mapping[str, object]) -> float:
    try:
        return share(number, f"probability of {label}")
    except InputError as error:
        if _is_percent(passed):
            raise InputError(
                "probabilities are numbers from 0 to 1, and these are percent.",
                hint="Divide them by 100.",
            ) from None
        raise error from None


def _is_percent(passed: Mapping[str, object]) -> bool:
    try:
        total = sum(float(spelt(number)) for number in passed.values())
    except (InputError, ValueError):
        return False
    return abs(total - _PERCENT) <= 1


def _agree(found: Mapping[str, float], prediction: str, confidence: float | None) -> None:
    if prediction != UNCERTAIN and prediction not in found:
        raise InputError(f"probabilities do not name {prediction}, which is the prediction.")
    likeliest = max(found, key=lambda label: found[label])
    label = likeliest if prediction == UNCERTAIN else prediction
    if confidence is not None and abs(confidence - found[label]) > CONFIDENCE_WITHIN:
        raise InputError(
            f"The confidence {confidence:g} contradicts the probabilities, which give {label} "
            f"{found[label]:g}.",
            hint="The confidence is the probability of the prediction, of an UNCERTAIN one the "
            f"largest; they may differ by {CONFIDENCE_WITHIN:g}.",
        )
