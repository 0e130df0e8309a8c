"""Labelled streams: real ones from files, and made ones whose concepts are curved or flip.

A file `NAME.csv` or `NAME.csv.gz` has the columns `y` (label), `night` (whole number, rising) and
features; a column `t` is none. `weather` (NOAA, public domain) is bundled with the package; the
others are read from the folder of `--data`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml_pipeline.errors import DataError
from ml_pipeline.evaluation.metrics import Floats
from ml_pipeline.training.policies import History
from tests.support.shell import ROOT

BUNDLED = ROOT / "ml_pipeline" / "data"
# How many rows train the base.
INITIAL = {"elec2": 8640, "weather": 3660, "football5": 12370, "intl": 5000}
NIGHTS, ROWS, FEATURES, NOISE = 400, 60, 8, 0.05
INITIAL_NIGHTS = 40
Codes = NDArray[np.int64]


def _bowl(rows: Floats, night: int) -> Codes:
    """Inside or outside a ring whose centre wanders, plus the sign of a product."""
    angle = 2 * np.pi * night / 300
    centre = 0.6 * np.asarray([np.cos(angle), np.sin(angle)])
    distance = ((rows[:, :2] - centre) ** 2).sum(axis=1)
    return np.asarray(distance + rows[:, 2] * rows[:, 3] > 1.6, dtype=np.int64)


def _flip(rows: Floats, night: int) -> Codes:
    """A straight line that is turned round every 60 nights, from one night to the next."""
    side = rows[:, 0] + 0.7 * rows[:, 1] - 0.5 * rows[:, 2] > 0
    return (side ^ (night // 60 % 2 == 1)).astype(np.int64)


def _switch(rows: Floats, night: int) -> Codes:
    """Three classes by products and squares, which change places every 90 nights."""
    scores = np.stack(
        [rows[:, 0] * rows[:, 1], rows[:, 2] ** 2 - 1, rows[:, 3] * np.abs(rows[:, 4])]
    )
    return np.asarray((scores.argmax(axis=0) + night // 90) % 3, dtype=np.int64)


CONCEPTS: dict[str, Callable[[Floats, int], Codes]] = {
    "curved": _bowl,
    "flipping": _flip,
    "switching": _switch,
}
STREAMS = (*INITIAL, *CONCEPTS)


def read(name: str, folder: Path | None, seed: int) -> History:
    """A stream by name; `seed` makes the rows of a made one. Raises DataError without a file."""
    if name in CONCEPTS:
        return _made(name, seed)
    found = _file_of(name, folder)
    if found is None:
        raise DataError(
            f"There is no file {name}.csv.gz for the stream {name}.",
            hint="Name its folder with --data DIR.",
        )
    frame = pd.read_csv(found).sort_values("night", kind="stable")
    names = [column for column in frame.columns if column not in {"y", "night", "t"}]
    return _history(
        frame[names].to_numpy(dtype=np.float64),
        frame["y"].to_numpy(dtype=np.int64),
        frame["night"].to_numpy(dtype=np.int64),
        names,
        INITIAL[name],
    )


def there_are(name: str, folder: Path | None) -> bool:
    """Whether the rows of the stream are at hand."""
    return name in CONCEPTS or _file_of(name, folder) is not None


def shortened(history: History, nights: int) -> History:
    """The stream up to so many nights after the initial rows."""
    later = np.unique(history.nights[history.initial :])
    last = later[min(nights, len(later)) - 1]
    end = int(np.searchsorted(history.nights, last, side="right"))
    return replace(
        history,
        features=history.features[:end],
        labels=history.labels[:end],
        nights=history.nights[:end],
    )


def _file_of(name: str, folder: Path | None) -> Path | None:
    places = [BUNDLED] if folder is None else [folder, BUNDLED]
    files = (place / f"{name}{suffix}" for place in places for suffix in (".csv.gz", ".csv"))
    return next((file for file in files if file.is_file()), None)


def _made(name: str, seed: int) -> History:
    features, labels = map(np.concatenate, zip(*_nights_of(name, seed), strict=True))
    nights = np.repeat(np.arange(NIGHTS, dtype=np.int64), ROWS)
    names = [f"x{number}" for number in range(FEATURES)]
    return _history(features, labels, nights, names, INITIAL_NIGHTS * ROWS)


def _nights_of(name: str, seed: int) -> Iterator[tuple[Floats, Codes]]:
    random = np.random.default_rng([seed, len(name)])
    classes = 3 if name == "switching" else 2
    for night in range(NIGHTS):
        rows = random.normal(size=(ROWS, FEATURES))
        codes = CONCEPTS[name](rows, night)
        is_noise = random.random(ROWS) < NOISE
        yield rows, np.where(is_noise, random.integers(classes, size=ROWS), codes)


def _history(
    features: Floats, codes: Codes, nights: Codes, names: list[str], initial: int
) -> History:
    labels = codes.astype(str)
    return History(
        features=features,
        labels=labels,
        nights=nights,
        classes=sorted(set(labels.tolist())),
        names=names,
        initial=initial,
    )
