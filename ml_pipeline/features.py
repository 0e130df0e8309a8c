"""From rows to the numbers a model sees, and the preprocessing that travels inside the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml_pipeline.errors import DataError

SHOWN = 5
# Squares of larger numbers overflow when features are standardised.
LARGEST = 1e150


def matrix(frame: pd.DataFrame, features: Sequence[str]) -> NDArray[np.float64]:
    """The features (n, d) in their configured order; a missing value is NaN.

    Raises DataError naming missing columns and the first texts that are not numbers.
    """
    missing = [name for name in features if name not in frame.columns]
    if missing:
        message = f"Feature columns are missing: {', '.join(missing)}."
        hint = f"The data has: {', '.join(map(str, frame.columns[:20]))}."
        raise DataError(message, hint=hint)
    columns = [_numbers(frame[name], name) for name in features]
    return np.column_stack(columns) if columns else np.empty((len(frame), 0))


def _numbers(values: pd.Series, name: str) -> NDArray[np.float64]:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    blank = values.isna() | values.astype(str).str.strip().isin(["", "nan", "NaN", "None"])
    bad = ~(np.abs(numbers) <= LARGEST) & ~blank.to_numpy()
    if bad.any():
        shown = [repr(value) for value in values[bad].head(SHOWN)]
        rows = [str(row) for row in np.flatnonzero(bad)[:SHOWN] + 1]
        message = (
            f"Feature {name} holds {', '.join(shown)} in row {', '.join(rows)} "
            f"({int(bad.sum())} such rows): not a finite number."
        )
        raise DataError(message, hint="Remove or repair these rows; an empty cell is allowed.")
    return numbers


def check_usable(values: NDArray[np.float64], features: Sequence[str]) -> None:
    """Raise DataError when a feature has no value at all in the training rows."""
    empty = [name for index, name in enumerate(features) if not np.isfinite(values[:, index]).any()]
    if empty:
        message = f"Features without a single value: {', '.join(empty)}."
        raise DataError(message, hint="Take them out of data.features, or log them.")


def preprocessing() -> list[tuple[str, object]]:
    """Pipeline steps before the classifier: fill in medians, standardise."""
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import StandardScaler

    return [
        ("impute", SimpleImputer(strategy="median", keep_empty_features=True)),
        ("scale", StandardScaler()),
    ]
