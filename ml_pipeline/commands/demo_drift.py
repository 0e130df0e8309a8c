"""The newcomer's second look: fifty years of weather, with a model left alone and one in the loop.

The stream is what one weather station of the United States measured on each day from 1949 to 1999,
and whether it rained on that day: measurements of NOAA, which are in the public domain, prepared
by Elwell and Polikar (Incremental Learning of Concept Drift in Nonstationary Environments, IEEE
Transactions on Neural Networks 22, 2011). Some days are missing in it, so a year may begin up to
103 days off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ml_pipeline.config.settings import Settings
from ml_pipeline.reports import terminal
from ml_pipeline.reports.terminal import Part
from ml_pipeline.training.backtest import Replay, backtest
from ml_pipeline.training.policies import History

if TYPE_CHECKING:
    from rich.table import Table

POLICIES = ("frozen", "adaptive")
# The first ten years train the model that both begin with.
INITIAL = 3_660
FIRST_YEAR = 1949
DAYS_A_NIGHT = 30
DAYS_A_YEAR = 365.25
YEARS = 5
SCALE = range(65, 86)
LEFT_ALONE, IN_THE_LOOP, BETWEEN = "○", "●", "─"


@dataclass(frozen=True, kw_only=True, slots=True)
class Period:
    """Right answers in percent over some years: of the model left alone, and in the loop."""

    years: str
    left_alone: float
    in_the_loop: float


def replay() -> dict[str, Replay]:
    """Both models over the forty years after those that trained them."""
    packaged = resources.files("ml_pipeline") / "data" / "weather.csv.gz"
    with resources.as_file(packaged) as path:
        frame = pd.read_csv(path)
    names = [name for name in frame.columns if name not in {"y", "night"}]
    history = History(
        features=frame[names].to_numpy(dtype=np.float64),
        labels=np.where(frame["y"] == 1, "rain", "dry"),
        nights=frame["night"].to_numpy(dtype=np.int64),
        classes=["dry", "rain"],
        names=names,
        initial=INITIAL,
    )
    return backtest(history, Settings(), POLICIES, lambda _, __: lambda: None)


def periods(replays: dict[str, Replay]) -> list[Period]:
    """The share of right answers over every five years."""
    shares = [dict(_shares(replays[name])) for name in POLICIES]
    return [
        Period(
            years=f"{first}-{first + YEARS - 1}",
            left_alone=shares[0][first],
            in_the_loop=shares[1][first],
        )
        for first in shares[0]
    ]


def view(found: Sequence[Period]) -> Iterator[Part]:
    """The years as a table with a chart, and what they come to in a sentence."""
    first, last = found[0], found[-1]
    yield _table(found)
    yield (
        f"Left alone, the model fell from {first.left_alone:.1f} % right answers to "
        f"{last.left_alone:.1f} %. In the loop it ended at {last.in_the_loop:.1f} %: "
        f"{last.in_the_loop - last.left_alone:.1f} more right answers in every hundred."
    )


def as_json(found: Sequence[Period]) -> list[dict[str, object]]:
    """The periods, their shares in percent with one decimal."""
    return [
        {key: round(value, 1) if isinstance(value, float) else value for key, value in one.items()}
        for one in map(asdict, found)
    ]


def _shares(replayed: Replay) -> Iterator[tuple[int, float]]:
    nights = np.asarray([(night, rows, right) for night, rows, _, right in replayed.per_night])
    years = FIRST_YEAR + nights[:, 0] * DAYS_A_NIGHT / DAYS_A_YEAR
    # The first night that is scored lies ten years after the first row.
    start = int(years[0])
    places = ((years - start) // YEARS).astype(int)
    for place in np.unique(places):
        rows, right = nights[places == place, 1], nights[places == place, 2]
        yield start + int(place) * YEARS, 100 * float(np.average(right, weights=rows))


def _table(found: Sequence[Period]) -> Table:
    lowest, highest = SCALE[0], SCALE[-1]
    axis = f"{lowest} %".ljust(len(SCALE) - 4) + f"{highest} %"
    rows = [
        (one.years, f"{one.left_alone:.1f} %", f"{one.in_the_loop:.1f} %", _bar(one))
        for one in found
    ]
    names = (
        "years", f"{LEFT_ALONE} left alone", f"{IN_THE_LOOP} in the loop", axis,
    )  # fmt: skip
    title = "Did it rain? Trained on 1949-1958, left alone and in the loop"
    return terminal.table(title, names, rows, right=names[1:3])


def _bar(one: Period) -> str:
    places = [
        round(min(max(share, SCALE[0]), SCALE[-1])) - SCALE[0]
        for share in (one.left_alone, one.in_the_loop)
    ]
    cells = [BETWEEN if min(places) < at < max(places) else " " for at in range(len(SCALE))]
    cells[places[0]], cells[places[1]] = LEFT_ALONE, IN_THE_LOOP
    return "".join(cells).rstrip()
