"""The monitoring page under the load of many viewers, and what that costs a run beside it.

`python -m tests.benchmarks.bench_monitor`: the page is served by the command in its own process;
each of 50 clients loads it every second (thirty times as often as a browser does), from a process
of the lowest priority, since viewers sit at machines of their own. The run is a whole pass over a
store of its own kind, in its own process, with and without viewers, in changing order.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support import league
from tests.support.monitoring import TOKEN, fill_with_many
from tests.support.shell import ROOT, environment

EVERY_SECONDS = 1.0


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--watch", type=int, metavar="PORT", help="be the viewers of that page")
    args = parser.parse_args()
    if args.watch:
        os.nice(19)
        viewers = Viewers(args.watch, args.clients)
        sys.stdin.read()
        print(json.dumps(viewers.end()))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        fill_with_many(folder / "many")
        served = subprocess.Popen(
            _command("monitor", "--port", "0", "--local", folder / "many"),
            cwd=ROOT, env=environment(ML_PIPELINE_MONITOR_TOKEN=TOKEN), stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert served.stdout is not None
        port = int(json.loads(served.stdout.readline())["url"].rsplit(":", 1)[1].strip("/"))
        try:
            print(json.dumps(_measure(folder, (port, served.pid), args.clients, args.pairs)))
        finally:
            served.terminate()
            served.wait(10)
            served.stdout.close()


def _measure(folder: Path, page: tuple[int, int], clients: int, pairs: int) -> dict[str, object]:
    port, pid = page
    _night(folder, "warm")
    alone, beside, waits, busy = [], [], [], 0.0
    for pair in range(pairs):
        if pair % 2:
            alone.append(_night(folder, f"alone {pair}"))
        with watched(port, clients) as reported:
            before = _processor_s(pid)
            beside.append(_night(folder, f"beside {pair}"))
            busy += _processor_s(pid) - before
        waits += reported
        if not pair % 2:
            alone.append(_night(folder, f"alone {pair}"))
    waits.sort()
    ratios = [b / a for a, b in zip(alone, beside, strict=True)]
    return {
        "requests": len(waits),
        "p50_ms": round(1000 * waits[len(waits) // 2], 1),
        "p95_ms": round(1000 * waits[int(0.95 * len(waits))], 1),
        "run_s": round(statistics.median(alone), 2),
        # What the page takes from a run at the very most: of all processors, in the same time.
        "page_share": round(busy / sum(beside) / (os.cpu_count() or 1), 4),
        "run_ratio": round(statistics.median(ratios), 3),
        "run_ratios": [round(ratio, 3) for ratio in ratios],
    }


def _processor_s(pid: int) -> float:
    """Processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def watched(port: int, clients: int) -> Iterator[list[float]]:
    """Viewers in a process of their own; afterwards the seconds that each answer took."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.bench_monitor",
         "--watch", str(port), "--clients", str(clients)],
        cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    waits = list[float]()
    time.sleep(1.0)
    yield waits
    reported, _ = process.communicate()
    waits += json.loads(reported)


class Viewers:
    """Clients that load the page again and again until they are told to end."""

    def __init__(self, port: int, count: int) -> None:
        self._over = threading.Event()
        self._waits: list[float] = []
        self._threads = [
            threading.Thread(target=self._watch, args=(port, place / count))
            for place in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def _watch(self, port: int, delay: float) -> None:
        self._over.wait(delay)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while not self._over.is_set():
            started = time.perf_counter()
            connection.request("GET", "/", headers={"Authorization": f"Bearer {TOKEN}"})
            answer = connection.getresponse()
            answer.read()
            took = time.perf_counter() - started
            assert answer.status == 200
            self._waits.append(took)
            self._over.wait(max(0.0, EVERY_SECONDS - took))
        connection.close()

    def end(self) -> list[float]:
        """Stop them; return the seconds that each answer took."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        return self._waits


def _night(folder: Path, name: str) -> float:
    """Seconds of a run on a fresh store."""
    model_path = folder / "model.skops"
    if not model_path.exists():
        model = league.train_first(model_path, league.settings_for())
        now = datetime.now(UTC) - timedelta(hours=1)
        nights = league.nights_before(now, 20, matches=300)
        league.open_league(folder / "template", model_path, model, nights)
    store = folder / name
    shutil.copytree(folder / "template", store)
    started = time.perf_counter()
    done = subprocess.run(
        _command("run", "--local", store), cwd=ROOT, env=environment(), capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    took = time.perf_counter() - started
    assert json.loads(done.stdout.splitlines()[-1])["status"] == "completed"
    return took


def _command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "ml_pipeline", *map(str, arguments)]


if __name__ == "__main__":
    main()
