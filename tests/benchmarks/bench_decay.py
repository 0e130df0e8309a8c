"""How soon is a decay noticed, and how often for nothing? `python -m tests.benchmarks.bench_decay`.

Needs river (`pip install river`), which nothing else here does. A model that is right 70 times in
100 loses 2, 5 or 10 points for good; 50, 200 or 1,000 outcomes a day arrive evenly. Looked at every
`--hours`. Plain threshold: the mean of the last 3 days more than 0.05 under that of the last 7,
which contain them. ADWIN and Page-Hinkley see every outcome, with river's defaults.

False alarms are counted per year without any decay; after one there is a week's silence. A delay
is in days, the median of all decays (∞: more than half were not noticed in 60 days), with the
share noticed in brackets.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipeline.config.sections import DecaySettings
from ml_pipeline.decay.rules import judge
from ml_pipeline.store.alerts import DailyAccuracy

ACCURACY = 0.70
WARM_UP, AFTER = 45, 60
FIRST = date(2025, 1, 1)
Hits = NDArray[np.bool_]
Detector = Callable[[Hits, int, int], Iterator[float]]


def watchdog(hits: Hits, rows: int, hours: int, **changes: Any) -> Iterator[float]:  # noqa: ANN401
    """Times (in days) at which the rules alarm."""
    settings = DecaySettings(**{"alarm_on": ["accuracy"], **changes})
    by_day = hits.reshape(-1, rows)
    full = [_day(number, day) for number, day in enumerate(by_day)]
    horizon, step = 120, hours / 24
    for number, day in enumerate(by_day):
        before = full[max(0, number - horizon) : number]
        for part in np.arange(step, 1 + step / 2, step):
            seen = day[: int(rows * part)]
            now = datetime.combine(FIRST, datetime.min.time(), UTC)
            now += timedelta(days=number, hours=23 * float(part))
            if judge([*before, _day(number, seen)], [], settings, now=now).decayed:
                yield number + float(part)


def _day(number: int, hits: Hits) -> DailyAccuracy:
    day = FIRST + timedelta(days=number)
    rows, right = len(hits), int(hits.sum())
    return DailyAccuracy(model_name="m", day=day, model_id="m", evaluated=rows, correct=right)


def plain(hits: Hits, rows: int, hours: int) -> Iterator[float]:
    """The last 3 days against the last 7, no bound, no minimum."""
    total = np.concatenate([[0], np.cumsum(hits)])
    step = max(1, rows * hours // 24)
    for end in range(7 * rows, len(hits) + 1, step):
        three = (total[end] - total[end - 3 * rows]) / (3 * rows)
        seven = (total[end] - total[end - 7 * rows]) / (7 * rows)
        if seven - three > 0.05:
            yield end / rows


def river(kind: str) -> Detector:
    """One of river's detectors on the stream of errors."""

    def detect(hits: Hits, rows: int, hours: int) -> Iterator[float]:  # noqa: ARG001
        from river import drift

        makers: dict[str, Any] = {"ADWIN": drift.ADWIN, "PageHinkley": drift.PageHinkley}
        detector = makers[kind](**({} if kind == "ADWIN" else {"mode": "up"}))
        for place, hit in enumerate(hits.tolist()):
            before = detector.estimation if kind == "ADWIN" else 0.0
            detector.update(float(not hit))
            worse = kind != "ADWIN" or detector.estimation > before
            if detector.drift_detected and worse:
                yield place / rows

    return detect


DETECTORS: dict[str, Detector] = {
    "watchdog": watchdog,
    "watchdog, threshold 0.02": lambda h, r, n: watchdog(h, r, n, threshold=0.02),
    "plain threshold": plain,
    "ADWIN": river("ADWIN"),
    "Page-Hinkley": river("PageHinkley"),
}


def false_alarms(detector: Detector, rows: int, years: int, hours: int) -> float:
    """Alarms a year without any decay."""
    alarms = 0
    for seed in range(years):
        draw = np.random.default_rng(seed)
        hits = draw.random((WARM_UP + 365) * rows) < ACCURACY
        silent_until = float(WARM_UP)
        for moment in detector(hits, rows, hours):
            if moment >= silent_until:
                alarms, silent_until = alarms + 1, moment + 7
    return alarms / years


def delays(detector: Detector, drop: float, rows: int, runs: int, hours: int) -> list[float]:
    """Days from the decay to the first alarm, infinite where there was none."""
    found = []
    for seed in range(runs):
        draw = np.random.default_rng(1_000 + seed)
        chance = np.repeat([ACCURACY, ACCURACY - drop], [WARM_UP * rows, AFTER * rows])
        hits = draw.random(len(chance)) < chance
        times = (t - WARM_UP for t in detector(hits, rows, hours) if t >= WARM_UP)
        found.append(next(times, float("inf")))
    return found


def cell(values: list[float]) -> str:
    """The median delay and the share noticed."""
    noticed = float(np.mean(np.isfinite(values)))
    median = float(np.median(values))
    return f"{median:.1f} ({noticed:.0%})" if np.isfinite(median) else f"∞ ({noticed:.0%})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=20)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--hours", type=int, default=4)
    args = parser.parse_args()
    print("| outcomes a day | detector | false alarms a year | −2 points | −5 | −10 |")
    print("|---|---|---|---|---|---|")
    for rows in (50, 200, 1000):
        for name, detector in DETECTORS.items():
            alarms = false_alarms(detector, rows, args.years, args.hours)
            cells = [
                cell(delays(detector, drop, rows, args.runs, args.hours))
                for drop in (0.02, 0.05, 0.10)
            ]
            print(f"| {rows} | {name} | {alarms:.2f} | {' | '.join(cells)} |")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
