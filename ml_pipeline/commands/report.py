"""One run as a page to read: `ml-pipeline report`.

A self-contained HTML file, which needs neither network nor scripts, and the same as Markdown. Both
are made from the run's row alone, so they can be made again whenever somebody wants them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ml_pipeline import commands, config
from ml_pipeline.domain import PromotionEvent, RetrainingRun, RunStatus
from ml_pipeline.errors import NotFound
from ml_pipeline.report_view import view_of
from ml_pipeline.store import Store

REPORT_BUCKET: Final = "model-artifacts"
PROMOTIONS_SEEN: Final = 200


def store_report(
    store: Store, run: RetrainingRun, folder: Path, *, dry_run: bool
) -> dict[str, str]:
    """Write the report into the run's folder and onto the shelf; return where it stands."""
    events = store.promotion_events(model_name=run.model_name, limit=PROMOTIONS_SEEN)
    path = folder / "report.html"
    path.write_text(as_html(run, events), encoding="utf-8")
    text = path.with_suffix(".md")
    text.write_text(as_markdown(run, events), encoding="utf-8")
    if dry_run:
        return {"report_path": str(path), "report_markdown": str(text)}
    ref = store.put(REPORT_BUCKET, f"reports/{run.run_id}.html", path)
    url = store.url(ref)
    is_file = url.startswith("file://")
    return {
        "report_path": url.removeprefix("file://") if is_file else f"{ref.bucket}/{ref.path}",
        "report_url": url,
        "report_markdown": str(text),
    }


def as_html(run: RetrainingRun, events: Sequence[PromotionEvent] = ()) -> str:
    """The page of a run; `events` are changes of champion, to be marked in its charts."""
    from ml_pipeline.pages import render

    return render("report.html", view=view_of(run, events))


def as_markdown(run: RetrainingRun, events: Sequence[PromotionEvent] = ()) -> str:
    """The run's report as Markdown; whatever stands in it is shown as text, never as markup."""
    from ml_pipeline.pages import render

    return render("report.md", view=view_of(run, events))


# ---------------------------------------------------------------------------------- command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `report`."""
    commands.add_common(parser)
    parser.add_argument("run_id", nargs="?", help="which run (default: the latest)")
    parser.add_argument(
        "--output_dir", default="./reports", help="where the two files go (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Write a run's report and print where; exit code 1 when there is no such run."""
    from ml_pipeline.wiring import open_store

    settings = config.load_settings(commands.path_or_none(args.config))
    store = open_store(config.load_store_settings(args.local))
    try:
        found = _find(store, settings.model_name, args.run_id)
        events = store.promotion_events(model_name=found.model_name, limit=PROMOTIONS_SEEN)
    finally:
        store.close()
    commands.print_json(write(found, events, Path(args.output_dir)))
    return 0


def _find(store: Store, model_name: str, run_id: str | None) -> RetrainingRun:
    if run_id is not None:
        return store.get_run(run_id)
    latest = store.latest_run(model_name=model_name)
    if latest is None:
        raise NotFound(
            f"There is no run of {model_name} yet.", hint="Start one with `ml-pipeline run`."
        )
    return latest


def write(
    found: RetrainingRun, events: Sequence[PromotionEvent], folder: Path
) -> Mapping[str, Any]:
    """Write both files; a run that still goes on is shown as far as it came."""
    folder.mkdir(parents=True, exist_ok=True)
    page, text = folder / f"{found.run_id}.html", folder / f"{found.run_id}.md"
    page.write_text(as_html(found, events), encoding="utf-8")
    text.write_text(as_markdown(found, events), encoding="utf-8")
    return {
        "status": "completed",
        "run_id": found.run_id,
        "is_finished": found.status in {RunStatus.COMPLETED, RunStatus.FAILED},
        "outcome": None if found.outcome is None else str(found.outcome),
        "html": str(page),
        "markdown": str(text),
    }


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return commands.main("report", __doc__, add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
