"""How good a model's probabilities were: one report for one frame of rows.

Everything is computed with numpy from the same two inputs, labels and probabilities, so that two
models scored on the same rows can be compared number by number. No result is ever NaN: what
cannot be scored is refused with its place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.errors import DataError

PROBABILITY_FLOOR: Final = 1e-15
SUM_TOLERANCE: Final = 1e-6
CALIBRATION_BINS: Final = 15

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationReport:
    """How one model did on one frame of `rows` rows. Losses are in nats; `rps` needs an order.

    `per_class` holds precision, recall, f1_score and support per label; `confusion` counts rows
    as `[actual][predicted]` in the order of `labels`.
    """

    rows: int
    labels: tuple[str, ...]
    accuracy: float
    precision: float
    recall: float
    f1_score: float
    log_loss: float
    brier: float
    ece: float
    rps: float | None
    per_class: Mapping[str, Mapping[str, float]]
    confusion: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        for name in ("accuracy", "precision", "recall", "f1_score", "log_loss", "brier", "ece"):
            value = getattr(self, name)
            if not math.isfinite(value):
                message = f"{name} is {value}: a metric must be a number"
                raise ValueError(message)

    def summary(self) -> dict[str, float]:
        """The numbers that fit in one row of a table."""
        names = ("accuracy", "precision", "recall", "f1_score", "log_loss", "brier", "ece")
        numbers = {name: float(getattr(self, name)) for name in names}
        return numbers if self.rps is None else {**numbers, "rps": self.rps}


def evaluate(
    actual: Sequence[str] | NDArray[Any],
    probabilities: NDArray[Any],
    labels: Sequence[str],
    *,
    ordered: bool,
    weights: NDArray[Any] | None = None,
) -> EvaluationReport:
    """Score `probabilities` (rows x labels) against the `actual` labels.

    `weights` (rows,) say for how many rows each stands where only some get a label, as 1 over the
    probability of that: every figure is weighted, counts are of the rows at hand.

    A row's prediction is its most probable label, the first one of equals. Precision, recall and F1
    are weighted by support, and 0 where nothing was predicted or nothing happened. `ordered`
    says that the order of `labels` means something, and adds the ranked probability score.

    Raises DataError when there are no rows, when shapes disagree, for a label outside `labels`
    and for probabilities that are none, naming the row (counted from 0).
    """
    names = _checked_labels(labels)
    codes = _label_codes(actual, names)
    chances = _checked_probabilities(probabilities, rows=len(codes), columns=len(names))
    row_weights = _checked_weights(weights, rows=len(codes))
    predicted = chances.argmax(axis=1)
    confusion = _confusion(codes, predicted, len(names))
    stood_for = _confusion(codes, predicted, len(names), row_weights)
    per_class = _per_class(stood_for)
    support = stood_for.sum(axis=1)
    weighted = {name: _mean(values, support) for name, values in per_class.items()}
    hits = predicted == codes
    return EvaluationReport(
        rows=len(codes),
        labels=names,
        accuracy=_mean(hits, row_weights),
        precision=weighted["precision"],
        recall=weighted["recall"],
        f1_score=weighted["f1_score"],
        log_loss=_mean(_losses(codes, chances), row_weights),
        brier=_mean(_brier(codes, chances), row_weights),
        ece=expected_calibration_error(chances.max(axis=1), hits, weights=row_weights),
        rps=_mean(_ranked_probability_score(codes, chances), row_weights) if ordered else None,
        per_class=_class_table(names, per_class, confusion.sum(axis=1)),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )


def row_losses(actual_codes: NDArray[Any], probabilities: NDArray[Any]) -> Floats:
    """Log loss of each row in nats: -ln of the probability given to what happened.

    `actual_codes` are column numbers of `probabilities`. Probabilities are clipped to at least
    1e-15 and made to sum to 1 again, so that no single row weighs more than about 34.5 nats. No
    rows give no losses. Source: Good, "Rational Decisions", JRSS B 14 (1952). Raises DataError
    as `evaluate` does.
    """
    codes = np.asarray(actual_codes)
    shape = np.shape(probabilities)
    if codes.ndim != 1 or (codes.size and codes.dtype.kind not in "iu"):
        message = f"Label codes are one column of whole numbers, not {codes.dtype}{codes.shape}."
        raise DataError(message)
    chances = _checked_probabilities(
        probabilities, rows=len(codes), columns=shape[1] if len(shape) > 1 else 1
    )
    strange = np.flatnonzero((codes < 0) | (codes >= chances.shape[1]))
    if strange.size:
        row = int(strange[0])
        message = f"Row {row} has label code {codes[row]}, not one of 0..{chances.shape[1] - 1}."
        raise DataError(message)
    return _losses(codes.astype(np.intp), chances)


def encode(labels: NDArray[Any], classes: NDArray[Any]) -> Codes:
    """Positions of labels in `classes`; raise DataError naming the ones that are not there."""
    places = {str(label): index for index, label in enumerate(classes)}
    texts = [str(label) for label in labels]
    unknown = sorted(set(texts) - places.keys())
    if unknown:
        message = f"labels that the model does not know: {', '.join(unknown[:5])}"
        raise DataError(message, hint=f"It was trained on {', '.join(places)}.")
    return np.asarray([places[text] for text in texts], dtype=np.int64)


def expected_calibration_error(
    confidences: NDArray[Any],
    correct: NDArray[Any],
    *,
    bins: int = CALIBRATION_BINS,
    weights: NDArray[Any] | None = None,
) -> float:
    """Mean distance between confidence and accuracy over equal-width bins `(low, high]`.

    `confidences` are the probabilities of the predicted labels, `correct` whether those were
    right, `weights` for how many rows each stands. Sources: Naeini et al., AAAI 2015; Guo et al.,
    "On Calibration of Modern Neural Networks", ICML 2017, equation 3. Raises DataError without rows
    or when lengths disagree.
    """
    trust = np.asarray(confidences, dtype=np.float64)
    hits = np.asarray(correct, dtype=np.float64)
    if trust.shape != hits.shape or trust.ndim != 1:
        message = f"{trust.shape} confidences do not go with {hits.shape} outcomes."
        raise DataError(message)
    if not trust.size:
        raise _no_rows()
    place = np.searchsorted(np.linspace(0.0, 1.0, bins + 1), trust, side="left") - 1
    row_weights = _checked_weights(weights, rows=len(trust))
    misses = (hits - trust) * row_weights
    gaps = np.bincount(np.clip(place, 0, bins - 1), weights=misses, minlength=bins)
    return float(np.abs(gaps).sum() / row_weights.sum())


def _no_rows() -> DataError:
    return DataError("There are no rows to score.", hint="Widen the window or add labelled rows.")


def _checked_labels(labels: Sequence[str]) -> tuple[str, ...]:
    names = tuple(str(label) for label in labels)
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        message = f"The label {twice!r} is named twice in {', '.join(names)}."
        raise DataError(message)
    return names


def _label_codes(actual: Sequence[str] | NDArray[Any], labels: tuple[str, ...]) -> Codes:
    if np.ndim(actual) != 1:
        message = f"The actual labels are one column, not an array of shape {np.shape(actual)}."
        raise DataError(message)
    values = list(actual)
    if not values:
        raise _no_rows()
    numbers = {name: number for number, name in enumerate(labels)}
    codes = np.fromiter((numbers.get(value, -1) for value in values), np.intp, len(values))
    unknown = np.flatnonzero(codes < 0)
    if unknown.size:
        row = int(unknown[0])
        message = (
            f"Row {row} has the actual label {values[row]!r}, not one of {', '.join(labels)}"
            f" ({unknown.size} such rows)."
        )
        raise DataError(message, hint="Map its spelling under data.labels in the settings.")
    return codes


def _checked_probabilities(probabilities: NDArray[Any], *, rows: int, columns: int) -> Floats:
    try:
        chances = np.asarray(probabilities, dtype=np.float64)
    except (TypeError, ValueError) as error:
        message = f"The probabilities are not an array of numbers: {error}."
        raise DataError(message) from None
    if chances.shape != (rows, columns):
        message = (
            f"The probabilities have shape {chances.shape}; "
            f"{rows} rows of {columns} labels need ({rows}, {columns})."
        )
        raise DataError(message)
    _refuse(~np.isfinite(chances), chances, "a probability that is not a number")
    _refuse(chances < 0, chances, "a probability under 0")
    sums = chances.sum(axis=1, keepdims=True)
    _refuse(np.abs(sums - 1) > SUM_TOLERANCE, chances, "probabilities that do not sum to 1")
    return chances


def _checked_weights(weights: NDArray[Any] | None, *, rows: int) -> Floats:
    if weights is None:
        return np.ones(rows)
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (rows,) or not np.isfinite(values).all() or not (values > 0).all():
        message = f"{rows} rows need as many weights, each over 0; these have {values.shape}."
        raise DataError(message)
    return values


def _mean(values: NDArray[Any], weights: Floats) -> float:
    # Rounding must not make a share of more than the whole.
    mean = float(values @ weights / weights.sum())
    return max(float(values.min()), min(float(values.max()), mean))


def _refuse(faulty: NDArray[np.bool_], chances: Floats, fault: str) -> None:
    found = np.flatnonzero(faulty.any(axis=1))
    if found.size:
        row = int(found[0])
        values = ", ".join(f"{value:.6g}" for value in chances[row])
        message = f"Row {row} has {fault}: {values} ({found.size} such rows)."
        raise DataError(message)


def _losses(codes: Codes, chances: Floats) -> Floats:
    floored = np.clip(chances, PROBABILITY_FLOOR, 1.0)
    taken: Floats = floored[np.arange(len(codes)), codes] / floored.sum(axis=1)
    # A sum just under 1 would make a sure hit worth a negative loss.
    return -np.log(np.minimum(taken, 1.0))


def _one_hot(codes: Codes, columns: int) -> Floats:
    return np.eye(columns)[codes]


def _brier(codes: Codes, chances: Floats) -> Floats:
    """Each row's squared distance over all labels, 0..2 (Brier, Monthly Weather Review, 1950)."""
    distance = chances - _one_hot(codes, chances.shape[1])
    return np.asarray(np.square(distance).sum(axis=1))


def _ranked_probability_score(codes: Codes, chances: Floats) -> Floats:
    """Each row's squared distance of cumulated chances over K-1, 0..1.

    Sources: Epstein, Journal of Applied Meteorology 8 (1969); Constantinou & Fenton, Journal of
    Quantitative Analysis in Sports 8 (2012).
    """
    steps = chances.shape[1] - 1
    if steps == 0:
        return np.zeros(len(codes))
    distance = np.cumsum(chances - _one_hot(codes, steps + 1), axis=1)[:, :-1]
    return np.asarray(np.square(distance).sum(axis=1) / steps)


def _confusion(
    codes: Codes, predicted: Codes, columns: int, weights: Floats | None = None
) -> NDArray[Any]:
    cells = np.bincount(codes * columns + predicted, weights, minlength=columns * columns)
    return cells.reshape(columns, columns)


def _per_class(confusion: Floats) -> dict[str, Floats]:
    """Precision, recall and F1 per label (van Rijsbergen, Information Retrieval, 1979, ch. 7)."""
    hits = np.diag(confusion)
    happened, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    return {
        "precision": _share(hits, predicted),
        "recall": _share(hits, happened),
        "f1_score": _share(2 * hits, happened + predicted),
    }


def _share(part: Floats, whole: Floats) -> Floats:
    # The numerator is 0 wherever the denominator is, so 0/1 is the zero of zero_division.
    return np.asarray(part / np.where(whole > 0, whole, 1.0))


def _class_table(
    labels: tuple[str, ...], per_class: dict[str, Floats], support: NDArray[np.intp]
) -> dict[str, dict[str, float]]:
    columns = {**per_class, "support": support}
    return {
        label: {name: float(values[place]) for name, values in columns.items()}
        for place, label in enumerate(labels)
    }
