"""Features that a program logs: each of the kind that the settings name, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan, nan
from typing import Any, Final

from ml_pipeline.config.data import DataSettings
from ml_pipeline.config.kind import Kind
from ml_pipeline.datasets import texts
from ml_pipeline.errors import InputError
from ml_pipeline.store.inputs.cells import LARGEST, read_cell
from ml_pipeline.store.inputs.labels import NO_VALUES
from ml_pipeline.store.inputs.values import is_missing, scalar

_SHOWN: Final = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedFeatures:
    """Reads features as a run reads them; of a list without kinds nobody knows what they are."""

    kinds: Mapping[str, Kind]
    text_column: str | None

    @classmethod
    def of(cls, data: DataSettings) -> LoggedFeatures:
        """Those that the settings name."""
        return cls(kinds=data.kinds, text_column=data.text_column)

    def checked(self, features: Mapping[str, object]) -> Mapping[str, object]:
        """The features as they are logged: as given, but for a number that was written otherwise.

        A text that is one (`"3.5"`) and a truth (1 or 0) are logged as that number, as `predict`
        does.

        What is not named, or missing, passes. Raises InputError naming the feature that is not of
        its kind: no run could learn the row.
        """
        numbers: dict[str, object] = {}
        for name, kind in self.kinds.items():
            value = features.get(name)
            if value is None:
                continue
            if kind is not Kind.NUMBER:
                _read(kind, value, name)
            elif not isnan(number := _number(value, name)) and type(value) not in {int, float}:
                numbers[name] = number
        self._check_text(features)
        return {**features, **numbers} if numbers else features

    def _check_text(self, features: Mapping[str, object]) -> None:
        text = None if self.text_column is None else features.get(self.text_column)
        if text is None or is_missing(text):
            return
        if not isinstance(text, str):
            raise InputError(f"{self.text_column} = {_shown(text)} is not a text.")
        what = texts.fault(text)
        if what:
            raise InputError(f"The text ({self.text_column}) {what}.")


def _read(kind: Kind, value: object, name: str) -> None:
    try:
        read_cell(kind, value, name)
    except InputError as error:
        raise InputError(error.message, hint=error.hint or _hint(name)) from None


def _number(value: object, name: str) -> float:
    if is_missing(value) or (isinstance(value, str) and value.strip().lower() in NO_VALUES):
        return nan
    try:
        number = float(scalar(value, name))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        message = f"{name} = {_shown(value)} is not a number."
        raise InputError(message, hint=_hint(name)) from None
    if not abs(number) <= LARGEST:
        raise InputError(f"{name} = {_shown(value)} is out of range.", hint=_hint(name))
    return number


def _hint(name: str) -> str:
    return (
        f"Correct what logs it, or name in data.features what {name} is: number, category, boolean "
        "or datetime. Then `ml-pipeline train --register` trains a base that reads it so."
    )


def _shown(value: Any) -> str:  # noqa: ANN401 - whatever was passed
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
