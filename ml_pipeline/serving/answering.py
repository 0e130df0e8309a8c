"""From the input of one row to an answer: its numbers and text read, its confidence judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, isnan, nan

from ml_pipeline.errors import InputError
from ml_pipeline.registry import scoring
from ml_pipeline.registry.scoring_parts import is_whole
from ml_pipeline.store.event_row import UNCERTAIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # One row: numbers in order, values by name, or a text.
    RowInput = Sequence[object] | Mapping[str, object] | str | None

# Squares of larger numbers overflow when features are standardised.
LARGEST = 1e150
_PLAIN_ROWS = frozenset({list, tuple, dict, str, type(None)})
# From here on a wrong prediction counts as a confident error.
HIGH_CONFIDENCE = 0.7


def part_text(passed: object, text: str | None, column: str | None) -> tuple[RowInput, str | None]:
    """The numbers and the text of one row, which may be a text alone or hold one by its name.

    Raises InputError for a text that is none, and for what is no row.
    """
    row: RowInput = _row(passed)
    if isinstance(row, str):
        return None, row
    if text is None and column is not None and isinstance(row, Mapping):
        text = row.get(column)  # type: ignore[assignment]
    if text is not None and not isinstance(text, str):
        raise InputError(f"{column} = {text!r} is not a text.")
    return row, text


def _row(passed: object) -> Any:  # noqa: ANN401 - a RowInput
    if type(passed) in _PLAIN_ROWS:
        return passed
    from ml_pipeline.store.inputs.values import one_row

    return one_row(passed)


def read_values(
    row: RowInput, features: Sequence[str], *, imputes: bool = False, kinds: Sequence[str] = ()
) -> tuple[list[float], dict[str, object]]:
    """The numbers that stand for one row in the model's order, a missing one NaN; and the log's.

    `kinds` are those of the features; without them all are numbers. The log keeps the values by
    name, a missing one as None. Raises InputError naming the feature that is absent, not of its
    kind, or out of range, and unless the model `imputes` the one that is missing.
    """
    row = _in_order(row, features)
    if kinds:
        return _read_kinds(row, features, kinds, imputes=imputes)
    values = [
        value if type(value) is float and -LARGEST <= value <= LARGEST
        else _number(value, name, imputes)
        for value, name in zip(row, features, strict=True)
    ]  # fmt: skip
    return values, logged_values(features, values)


def _in_order(row: RowInput, features: Sequence[str]) -> Sequence[object]:
    # Whether a list is a mapping takes as long to find out as five numbers to read.
    if type(row) is not list and isinstance(row, Mapping):
        missing = [name for name in features if name not in row]
        if missing:
            raise InputError(f"Features are missing: {', '.join(missing)}.")
        row = [row[name] for name in features]
    row = [] if row is None else row
    if row and not features:
        raise InputError(
            f"The model reads a text and no numbers, and {len(row)} were given.",
            hint='Give its text (--text "…").',
        )
    if len(row) != len(features):
        raise InputError(
            f"The model takes {len(features)} features ({', '.join(features)}), not {len(row)}."
        )
    return row


def _read_kinds(
    row: Sequence[object], features: Sequence[str], kinds: Sequence[str], *, imputes: bool
) -> tuple[list[float], dict[str, object]]:
    from ml_pipeline.config.kind import Kind
    from ml_pipeline.store.inputs.cells import read_cell

    values, logged = list[float](), dict[str, object]()
    for value, name, kind in zip(row, features, kinds, strict=True):
        if kind == Kind.NUMBER:
            number = _number(value, name, imputes)
            kept: object = None if isnan(number) else number
        else:
            number, kept = read_cell(Kind(kind), value, name)
            if isnan(number) and not imputes:
                raise _missing(name)
        values.append(number)
        logged[name] = kept
    return values, logged


def _missing(name: str) -> InputError:
    return InputError(f"{name} is missing.", hint="Set prediction.missing to impute.")


def logged_values(features: Sequence[str], values: Sequence[float]) -> dict[str, object]:
    """The values by name as the log keeps them: a missing one is learned as a missing one."""
    if is_whole(values):
        return dict(zip(features, values, strict=True))
    return {
        name: None if isnan(value) else value
        for name, value in zip(features, values, strict=True)
    }  # fmt: skip


def _number(value: object, name: str, imputes: bool) -> float:  # noqa: FBT001 - called for each value
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        if not _is_nothing(value):
            raise InputError(f"{name} = {value!r} is not a number.") from None
        number = nan
    except OverflowError:
        raise InputError(f"{name} is out of range: it has over 300 digits.") from None
    if isnan(number):
        if imputes:
            return nan
        raise _missing(name)
    if not isfinite(number):
        raise InputError(f"{name} = {value} is not a finite number.")
    if abs(number) > LARGEST:
        raise InputError(f"{name} = {value} is out of range.")
    return number


def _is_nothing(value: object) -> bool:
    if isinstance(value, str):
        from ml_pipeline.store.inputs.labels import NO_VALUES

        return value.strip().lower() in NO_VALUES
    return value is None or type(value).__name__ in {"NAType", "NaTType"}


def judge(
    scorer: scoring.Scorer,
    values: Sequence[float],
    text: str | None = None,
    *,
    threshold: float,
    margin: float,
) -> dict[str, Any]:
    """The model's answer for one row: UNCERTAIN where it is not sure enough of its best class."""
    shares = scorer.probabilities(values, text)
    confidence = max(shares)
    label = scorer.classes[shares.index(confidence)]
    level = "high" if confidence >= max(HIGH_CONFIDENCE, threshold) else "medium"
    answer: dict[str, Any] = {
        "prediction": label,
        "confidence": confidence,
        "confidence_level": "low" if confidence < threshold else level,
        "probabilities": dict(zip(scorer.classes, shares, strict=True)),
    }
    if confidence < threshold:
        answer["blocked_reason"] = f"confidence {confidence:.3f} is under {threshold:g}"
    elif scorer.is_ensemble and confidence - shares[second := _second_best(shares)] < margin:
        answer["blocked_reason"] = f"the two best classes differ by less than {margin:g}"
        answer["alternate_outcome"] = scorer.classes[second]
    if "blocked_reason" in answer:
        answer |= {"prediction": UNCERTAIN, "best_guess": label}
    if scorer.is_ensemble:
        answer["ensemble"] = _breakdown(scorer, values, text)
    warnings = scorer.far_out(values)
    if warnings:
        answer["warnings"] = warnings
    return answer


def _second_best(shares: Sequence[float]) -> int:
    return sorted(range(len(shares)), key=shares.__getitem__, reverse=True)[1]


def _breakdown(scorer: scoring.Scorer, values: Sequence[float], text: str | None) -> dict[str, Any]:
    """Each member's vote; the weight of a member without an answer goes to the others."""
    members = scorer.members(values, text)
    answering = [member for member in members if member.probabilities is not None]
    total = sum(member.weight for member in answering)
    votes: dict[str, Any] = {}
    for member in answering:
        shares = member.probabilities or []
        best = max(range(len(shares)), key=shares.__getitem__)
        votes[member.name] = {
            "prediction": scorer.base_classes[best],
            "confidence": shares[best],
            "weight": member.weight / total,
        }
    return {
        "members": votes,
        "missing": [member.name for member in members if member.probabilities is None],
        "agree": len({vote["prediction"] for vote in votes.values()}) == 1,
    }
