"""Would the loop help? A short backtest on a sample of somebody's rows, with its verdict in words.

The last four fifths of the rows are predicted night by night by a model that learns each night
afterwards, and by the same model left alone. It is the loop's own code
under a simulated clock.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.commands.progress import progress_bars
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.dataset import from_frame
from ml_pipeline.datasets.entities import entities_of
from ml_pipeline.datasets.inspection.inspecting import Inspection
from ml_pipeline.datasets.inspection.table import thinned
from ml_pipeline.datasets.times import parsed_times
from ml_pipeline.errors import DataError
from ml_pipeline.evaluation.intervals import mean_bounds
from ml_pipeline.evaluation.metrics import Floats

if TYPE_CHECKING:
    from ml_pipeline.training.policies import History

# Seconds in which it ends, after which no further night is begun, and after which one that takes
# long is given up: what solves a large system of equations can be stopped only behind it.
LIMIT_S: Final = 20.0
_ENOUGH_S: Final = 12.0
_LATEST_S: Final = 16.0
# Rows and nights are so few that the limit is met without being reached.
MOST_ROWS: Final = 20_000
MOST_CELLS: Final = 500_000
MOST_NIGHTS: Final = 100
# Of features by classes: a night solves equations of about so many unknowns.
MOST_WEIGHTS: Final = 2_500
INITIAL_SHARE: Final = 0.2
_LEAST_NIGHTS: Final = 5
_LEVEL: Final = 0.95
# The share of the loss that has to be gained for a plain yes.
_WORTH_IT: Final = 0.01
_SEED: Final = 42
_SAME: Final = 0.05  # percentage points


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What a backtest came to: `frozen` is the model left alone, `learning` the loop.

    Losses (n,) are nats of each predicted row, hits (n,) whether it was right. `left_out` says
    what the backtest did not look at.
    """

    frozen_losses: Floats
    learning_losses: Floats
    frozen_hits: NDArray[np.bool_]
    learning_hits: NDArray[np.bool_]
    usual_share: float
    nights: int
    has_times: bool
    left_out: tuple[str, ...]

    @property
    def gain(self) -> tuple[float, float, float]:
        """Nats a row that learning saves, with the bounds of its 95 % interval."""
        gains = self.frozen_losses - self.learning_losses
        return float(gains.mean()), *mean_bounds(gains, _LEVEL)

    @property
    def verdict(self) -> str:
        """`yes`, `little`, `no`, or `unclear`."""
        mean, low, high = self.gain
        if self.nights < _LEAST_NIGHTS:
            return "unclear"
        if low > 0:
            return "yes" if mean > _WORTH_IT * float(self.frozen_losses.mean()) else "little"
        return "no" if high < 0 else "unclear"

    def sentence(self) -> str:
        """Whether the loop would help, for people: what was found, and how sure it is."""
        kept, learned = (
            100 * float(hits.mean()) for hits in (self.frozen_hits, self.learning_hits)
        )
        rows, same = len(self.frozen_hits), abs(learned - kept) < _SAME
        right = (
            f"both were right {kept:.1f} % of the time"
            if same
            else f"it was right {learned:.1f} % of the time, the same model left alone {kept:.1f} %"
        )
        on = f"on {rows:,} later rows"
        if self.verdict in {"yes", "little"}:
            better = ", with better probabilities" if learned <= kept + _SAME else ""
            much = "Yes, the" if self.verdict == "yes" else "A little: the"
            return (
                f"{much} loop would help you: {on} {right}{better}. That is more than chance, "
                "at a level of 95 %."
            )
        if self.verdict == "no":
            return (
                f"No, not on these rows: {on} {right}, with worse probabilities. The loop's gate "
                "would go back to the model left alone."
            )
        if self.nights < _LEAST_NIGHTS:
            return f"It cannot be told yet: {right} {on}, and {self.nights} days are too few."
        return (
            f"Hardly, as far as these rows show: {on} {right}; the difference is within chance. "
            "The loop would still tell you when the model gets worse."
        )

    def notes(self) -> list[str]:
        """What one should know beside the verdict."""
        usual, kept = 100 * self.usual_share, 100 * float(self.frozen_hits.mean())
        notes = list(self.left_out)
        if kept <= usual:
            notes.append(
                f"The model is right no more often ({kept:.1f} %) than always answering the most "
                f"frequent class ({usual:.1f} %): judge it by its probabilities."
            )
        if not self.has_times:
            notes.append(
                "No column says when a row came up, so the rows were replayed in random order: "
                "that shows what more rows teach, not how a changing world is followed. Name such "
                "a column with --time."
            )
        return notes

    def as_json(self) -> dict[str, Any]:
        """Figures for programs: accuracies in 0..1, losses in nats."""
        gain, low, high = self.gain
        return {
            "verdict": self.verdict,
            "rows": len(self.frozen_hits),
            "nights": self.nights,
            "accuracy": {
                "left_alone": float(self.frozen_hits.mean()),
                "learning": float(self.learning_hits.mean()),
                "most_frequent_class": self.usual_share,
            },
            "log_loss": {
                "left_alone": float(self.frozen_losses.mean()),
                "learning": float(self.learning_losses.mean()),
            },
            "gain": {"mean": gain, "low": low, "high": high},
            "left_out": list(self.left_out),
        }


def try_out(found: Inspection, settings: Settings, *, started: float) -> Trial:
    """Replay the sample's rows; `started` is the clock (`time.monotonic`) when the limit began.

    Raises DataError where there are too few rows to replay.
    """
    from ml_pipeline.training.backtest import backtest

    passed = time.monotonic() - started
    if len(found.names) * len(found.classes.counts) > MOST_WEIGHTS:
        raise DataError(
            f"With {len(found.names)} features and {len(found.classes.counts)} classes a day "
            "takes longer than the limit."
        )
    history, left_out = _history(found, settings)
    least = settings.training.adaptive.min_night_rows
    later = len(history.labels) - history.initial
    adapted = settings.changed(
        {"training.adaptive.min_night_rows": max(least, -(-later // MOST_NIGHTS))}
    )
    with _stopped_after(_LATEST_S - passed), progress_bars() as bars:
        replays = backtest(history, adapted, ["adaptive"], bars, deadline=started + _ENOUGH_S)
    frozen, learning = replays["frozen"], replays["adaptive"]
    nights = min(len(frozen.per_night), len(learning.per_night))
    rows = sum(count for _, count, _, _ in learning.per_night[:nights])
    if len(frozen.per_night) > nights:
        left_out.append(
            f"Of {len(frozen.per_night)} days the first {nights} were replayed: time was up."
        )
    _, counts = np.unique(history.labels[history.initial :], return_counts=True)
    return Trial(
        frozen_losses=frozen.losses[:rows], learning_losses=learning.losses[:rows],
        frozen_hits=frozen.hits[:rows], learning_hits=learning.hits[:rows],
        usual_share=float(counts.max() / counts.sum()), nights=nights,
        has_times=found.time_column is not None, left_out=tuple(left_out),
    )  # fmt: skip


@contextmanager
def _stopped_after(seconds: float) -> Iterator[None]:
    """Raise DataError in the middle of what takes longer; only the main thread can be stopped."""

    def stop(*_: object) -> NoReturn:
        raise DataError("With so many columns and classes one day takes longer than the limit.")

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not hasattr(signal, "setitimer"):
        yield
        return
    former = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def _history(found: Inspection, settings: Settings) -> tuple[History, list[str]]:
    """The rows to replay in the order of time, and what is left out of them."""
    from ml_pipeline.training.policies import History

    most = max(1, min(MOST_ROWS, MOST_CELLS // max(1, len(found.names))))
    frame = thinned(found.frame, most)
    left_out = []
    if len(frame) < found.classes.rows:
        left_out.append(
            f"Replayed were {len(frame):,} rows of {found.classes.rows:,}, spread evenly."
        )
    if found.time_column is None:
        places = np.random.default_rng(_SEED).permutation(len(frame))
        nights = places // settings.training.adaptive.min_night_rows
    else:
        times = parsed_times(frame[found.time_column])
        nights = times.map(lambda moment: moment.toordinal()).to_numpy(dtype=np.int64)
    order = np.argsort(nights, kind="stable")
    data = settings.data.model_copy(update={"time_column": None})
    rows = from_frame(
        frame.iloc[order].reset_index(drop=True), data, source=found.table.source, whole=False
    )
    initial = max(1, round(len(rows) * INITIAL_SHARE))
    if len(set(rows.labels[:initial].tolist())) < 2:  # noqa: PLR2004 - a classifier tells two apart
        raise DataError("The first rows are all of one class, of which a model learns nothing.")
    history = History(
        features=rows.features, labels=rows.labels, nights=nights[order],
        classes=list(found.classes.counts), names=found.names, kinds=rows.kinds, initial=initial,
        entities=entities_of(rows),
    )  # fmt: skip
    return history, left_out


def shown(trial: Trial) -> Sequence[str]:
    """The verdict and its notes, as sentences."""
    return [trial.sentence(), *trial.notes()]
