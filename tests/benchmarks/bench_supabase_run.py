"""What a nightly run moves and how long it takes as the log grows, on real servers.

`python -m tests.benchmarks.bench_supabase_run` makes two projects with 10,000 and 1,000,000 rows
in `evaluation_log`, of which 2,000 labelled ones are new, runs the night on each in turn, and
prints megabytes moved and the ratio of the times (medians of pairs).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from ml_pipeline.runs import recording
from ml_pipeline.runs.recording import Order, Trained
from ml_pipeline.store.contract import Store
from ml_pipeline.store.supabase.store import SupabaseStore
from tests.support import league
from tests.support.supabase.project import SupabaseProject, open_project

NOW = datetime(2026, 3, 14, 2, 0, tzinfo=UTC)
NEW_ROWS = 2_000
OLD_DAYS = 300
OLD_ROWS = """
insert into evaluation_log (event_id, "timestamp", event_type, model_name, model_id, match_id,
    prediction, confidence, features, actual_result, evaluated_at, metadata)
select gen_random_uuid(), t, 'prediction', 'default', %(model)s, 'm' || n,
    case when n %% 2 = 0 then 'H' else 'A' end, 0.5 + (n %% 45) / 100.0,
    '{"home_team_form": 0.1, "away_team_form": 0.2, "home_team_strength": 0.3,
      "away_team_strength": 0.4, "home_advantage": 0.5}'::jsonb,
    case when (n %% 20 = 0) = (n %% 2 = 0) then 'A' else 'H' end, t, '{}'::jsonb
from (select n, %(end)s::timestamptz - n * (%(days)s * interval '1 day' / %(rows)s) as t
      from generate_series(1, %(rows)s) as n) as old
"""


def prepare(project: SupabaseProject, store: Store, folder: Path, rows: int) -> None:
    """A champion that has learned all but the last night of a log of `rows` rows."""
    folder.mkdir()
    settings = league.settings_for()
    path = folder / "model.skops"
    model = league.train_first(path, settings)
    last = (NOW - timedelta(days=1)).date()
    league.enthrone(store, path, settings, now=NOW - timedelta(days=400))
    settled = last.toordinal() - 1
    old = rows - NEW_ROWS
    project.sql(
        OLD_ROWS,
        {
            "model": league.FIRST_MODEL,
            "end": datetime(last.year, last.month, last.day, tzinfo=UTC) - timedelta(seconds=1),
            "days": OLD_DAYS - 1,
            "rows": old,
        },
    )
    lineage = {
        "settled_night": settled,
        "first_night": settled - OLD_DAYS,
        "log_rows": old,
        "first_night_rows": 0,
    }
    project.sql("update model_metadata set lineage = %(l)s::jsonb", {"l": json.dumps(lineage)})
    project.sql("analyze")
    store.append_events(league.events_of(model, league.Night(day=last, matches=NEW_ROWS)))


def night(store: Store, folder: Path, new_id: Callable[[], str]) -> float:
    """Run the night without keeping it; returns seconds."""
    order = Order(settings=league.settings_for(), work_dir=folder, clock=lambda: NOW, new_id=new_id)
    started = time.perf_counter()
    outcome = recording.run(store, replace(order, dry_run=True))
    spent = time.perf_counter() - started
    if not isinstance(outcome, Trained) or outcome.result["training_rows"] != NEW_ROWS:
        raise SystemExit(f"the night did not learn {NEW_ROWS} rows: {outcome.result}")
    return spent


def measure(rows: list[int], pairs: int) -> dict[str, Any]:
    """Medians over pairs of runs, one on each project."""
    from contextlib import ExitStack

    script = "\n".join(
        path.read_text(encoding="utf-8")
        for path in sorted((files("ml_pipeline") / "sql" / "supabase").iterdir(), key=str)
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        projects = []
        for count in rows:
            project = stack.enter_context(open_project())
            project.apply(script)
            store = SupabaseStore.open(project.url, SecretStr(project.service_key))
            prepare(project, store, folder / str(count), count)
            projects.append((project, store))
        new_id = league.ids()
        seconds: list[list[float]] = [[], []]
        for _ in range(pairs + 1):
            for place, (_, store) in enumerate(projects):
                seconds[place].append(night(store, folder / "work", new_id))
        moved = []
        for project, store in projects:
            before = project.gateway.bytes_in + project.gateway.bytes_out
            night(store, folder / "work", new_id)
            moved.append((project.gateway.bytes_in + project.gateway.bytes_out - before) / 1e6)
            store.close()
    # The first pair warms the servers up.
    ratios = [large / small for small, large in zip(*(s[1:] for s in seconds), strict=True)]
    return {
        "rows": rows,
        "new_rows": NEW_ROWS,
        "moved_mb": [round(size, 3) for size in moved],
        "seconds": [round(statistics.median(s[1:]), 2) for s in seconds],
        "time_ratio": round(statistics.median(ratios), 3),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs=2, default=[10_000, 1_000_000])
    parser.add_argument("--pairs", type=int, default=5)
    args = parser.parse_args()
    json.dump(measure(args.rows, args.pairs), sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
