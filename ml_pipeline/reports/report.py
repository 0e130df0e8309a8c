"""A run's report as HTML and Markdown: rendered, written, put into the artifact store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ml_pipeline.reports.run_view import run_view
from ml_pipeline.store.contract import Store
from ml_pipeline.store.records import PromotionEvent, RetrainingRun, RunStatus

REPORT_BUCKET: Final = "model-artifacts"
PROMOTIONS_SEEN: Final = 200


def store_report(
    store: Store, run: RetrainingRun, folder: Path, *, dry_run: bool
) -> dict[str, str]:
    """Write the report into the run's folder and the artifact store; return where it stands."""
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
    from ml_pipeline.reports.pages import render

    return render("report.html", view=run_view(run, events))


def as_markdown(run: RetrainingRun, events: Sequence[PromotionEvent] = ()) -> str:
    """The run's report as Markdown; whatever stands in it is shown as text, never as markup."""
    from ml_pipeline.reports.pages import render

    return render("report.md", view=run_view(run, events))


def write(
    found: RetrainingRun, events: Sequence[PromotionEvent], folder: Path
) -> Mapping[str, Any]:
    """Write both files; a run that has not ended is shown as far as it is known."""
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
