"""Pages of runs: the list with its filter and search, a run, its report and its log."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from flask import Blueprint, Response, request

from ml_pipeline.errors import NotFound
from ml_pipeline.registry.retention import LOG_BUCKET
from ml_pipeline.reports import pages, report
from ml_pipeline.reports.run_view import run_view
from ml_pipeline.store.records import RetrainingRun
from ml_pipeline.web.answers import page, services
from ml_pipeline.web.guard import protect
from ml_pipeline.web.queries import kept_once

RUNS_LISTED = 300
LONGEST_SEARCH = 200

blueprint = Blueprint("runs", __name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """Which runs are asked for: those of an outcome, and with a text; nothing means all."""

    outcome: str
    text: str

    @classmethod
    def asked(cls) -> Search:
        """The one of the request."""
        values = {name: request.args.get(name, "").strip() for name in ("outcome", "q")}
        return cls(outcome=values["outcome"], text=values["q"][:LONGEST_SEARCH])

    def finds(self, run: RetrainingRun) -> bool:
        """Whether a run is among those."""
        if self.outcome and self.outcome != _outcome(run):
            return False
        texts = (run.run_id, run.outcome_reason, run.error_message, run.champion_id,
                 run.challenger_id, run.source, run.triggered_by)  # fmt: skip
        return self.text.casefold() in "\n".join(it for it in texts if it).casefold()


def _outcome(run: RetrainingRun) -> str:
    return str(run.outcome or run.status)


@blueprint.get("/runs")
def run_list() -> str:
    """The latest runs, or those that are searched for among them."""
    runs = _listed()
    search = Search.asked()
    return page(
        "runs.html",
        current="Runs",
        title=f"Runs of {services().settings.model_name}",
        runs=[run for run in runs if search.finds(run)],
        outcomes=sorted({_outcome(run) for run in runs}),
        search=search,
        listed=len(runs),
        is_cut=len(runs) == RUNS_LISTED,
    )


def _listed() -> Sequence[RetrainingRun]:
    here = services()
    found: Sequence[RetrainingRun] = kept_once(
        here.overviews.latest(),
        "runs",
        lambda: here.store.list_runs(
            model_name=here.settings.model_name, limit=RUNS_LISTED, only=()
        ),
    )
    return found


@blueprint.get("/runs/<run_id>")
def run_page(run_id: str) -> str:
    """A run with its report."""
    run = run_of(run_id)
    view = run_view(run, services().overviews.latest().overview.promotions)
    return page("run.html", current="Runs", title=f"Run {run.run_id[:8]}", view=view, run=run)


@blueprint.get("/runs/<run_id>/report.html")
def run_report(run_id: str) -> Response:
    """The same as the file that a run stores: for a mail, or to be kept."""
    run = run_of(run_id)
    text = report.as_html(run, services().overviews.latest().overview.promotions)
    return protect(Response(text, mimetype="text/html"), inline_style=pages.style())


@blueprint.get("/runs/<run_id>/log.txt")
def run_log(run_id: str) -> Response:
    """The log of a run."""
    run = run_of(run_id)
    with tempfile.TemporaryDirectory() as folder:
        path = services().store.download(
            LOG_BUCKET, f"training-logs/{run.run_id}.txt", Path(folder) / "log.txt"
        )
        return Response(path.read_bytes(), mimetype="text/plain")


def run_of(run_id: str) -> RetrainingRun:
    """The run of that id. Raises NotFound."""
    try:
        known = str(UUID(run_id))
    except ValueError:
        raise NotFound(f"There is no run {run_id!r}.") from None
    return services().store.get_run(known)
