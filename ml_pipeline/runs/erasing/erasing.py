"""Erase a person's events: from the table, the CSV log, and what runs have kept of them.

The table comes last, in one transaction that leaves hashes of the ids, so that nothing brings an
event back from then on. Broken off before it, the command finds everything again when it is
repeated, by the ids that the table still has.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import NotFound, RunInProgress
from ml_pipeline.evaluation_log.loading import TABLE
from ml_pipeline.evaluation_log.logger import EvaluationLogger
from ml_pipeline.reports.report import REPORT_BUCKET, as_html
from ml_pipeline.runs.erasing.redaction import Names, clean_folder, redacted, redacted_text
from ml_pipeline.store.contract import EVERYTHING, Store
from ml_pipeline.store.event_row import EventRow, is_of_model
from ml_pipeline.store.records import ModelVersion, RetrainingRun, RunStatus, parse_utc

log = logging.getLogger("erase")

PROMOTIONS_SEEN: Final = 200
SPARE_SUFFIX: Final = ".new"
OWN_SOURCE: Final = "log.source"
# Places that this machine does not reach, and what to do there.
_ELSEWHERE: Final = (
    {
        "place": "backups of the database, the store's folder and the CSV log",
        "do": "Delete them, or repeat this command after one was restored.",
    },
    {
        "place": "CSV logs of other machines",
        "do": "Nothing of them comes back into the table. `ml-pipeline reconcile --repair` on "
        "such a machine takes the lines out.",
    },
    {
        "place": "models in folders of your own (`train --output-dir`, `models export`)",
        "do": "Delete those that were made before: what they learned of the rows stays in them.",
    },
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Erasure:
    """What was asked for, and where; with `dry_run` everything is counted and nothing changes."""

    event_ids: frozenset[str]
    match_ids: frozenset[str]
    work_dir: Path
    dry_run: bool = False


def erase(
    store: Store, logger: EvaluationLogger, settings: Settings, asked: Erasure
) -> dict[str, Any]:
    """Erase and report as plain JSON values: rows per place, and what cannot be reached from here.

    Raises RunInProgress while a run of the model works: it has read the rows, and would write
    them into its files and its report afterwards.
    """
    name = settings.model_name
    _refuse_while_running(store, name)
    requested = asked
    # Everywhere else an id means the same in upper case: a spreadsheet or a database changed it.
    lower = {event_id.lower() for event_id in asked.event_ids}
    asked = replace(asked, event_ids=asked.event_ids | lower)
    rows = _known_rows(store, logger, name, asked)
    names = Names(event_ids=asked.event_ids | rows.keys(), match_ids=asked.match_ids)
    counts = {
        "csv_lines": _clean_csv(logger, names, name, dry_run=asked.dry_run),
        **_clean_runs(store, name, names, dry_run=asked.dry_run),
        **clean_folder(asked.work_dir, names, dry_run=asked.dry_run),
        **store.erase_events(
            model_name=name,
            event_ids=names.event_ids,
            match_ids=names.match_ids,
            dry_run=asked.dry_run,
        ),
    }
    _refuse_while_running(store, name)
    models = _fitted_on(store, name, rows, labels=counts["ml_data"])
    own, again = _own_source(logger, settings), "by the next run"
    if own:
        again += f", once they are out of {own[0]['place']}"
    return {
        "status": "completed",
        "dry_run": asked.dry_run,
        "events": len(rows),
        "without_prediction": _not_found(requested, rows),
        "erased": counts,
        "learned_again": again if any(map(_is_labelled, rows.values())) else None,
        "not_reached": [*_ELSEWHERE, *own, *models],
    }


def _refuse_while_running(store: Store, model_name: str) -> None:
    latest = store.latest_run(model_name=model_name)
    if latest is not None and latest.status is RunStatus.RUNNING:
        raise RunInProgress(
            f"Run {latest.run_id} works since {latest.started_at.isoformat()}: it may have read "
            "the rows, and would keep some of them.",
            hint="Repeat the command when it has ended; one that died is closed by the next "
            "`ml-pipeline run`.",
        )


def _known_rows(
    store: Store, logger: EvaluationLogger, model_name: str, asked: Erasure
) -> dict[str, Mapping[str, Any]]:
    """The events by their ids, of the table and of the CSV."""
    found: dict[str, Mapping[str, Any]] = {
        event_id: row
        for event_id, row in logger.csv.find(asked.event_ids, asked.match_ids).items()
        if is_of_model(row, model_name)
    }
    frame = store.find_events(
        model_name=model_name, event_ids=asked.event_ids, match_ids=asked.match_ids
    )
    for row in frame.to_dict("records"):
        found[str(row["event_id"])] = {str(name): value for name, value in row.items()}
    return found


def _not_found(asked: Erasure, rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The ids of which there is no prediction: erased before, a label's alone, or misspelt."""
    matches = {row["match_id"] for row in rows.values()}
    events = {name for name in asked.event_ids if rows.keys().isdisjoint({name, name.lower()})}
    return sorted(events | (asked.match_ids - matches))


def _is_labelled(row: Mapping[str, Any]) -> bool:
    return isinstance(row["actual_result"], str)


def _clean_csv(logger: EvaluationLogger, names: Names, model_name: str, *, dry_run: bool) -> int:
    def is_erased(row: EventRow) -> bool:
        return is_of_model(row, model_name) and names.has(row)

    if not dry_run:
        return logger.erase(is_erased)
    if not logger.csv.size():
        return 0
    stand = sum(is_erased(row) for rows, _ in logger.csv.rows_from(0) for row in rows)
    return stand + sum(map(is_erased, logger.csv.torn()))


# ------------------------------------------------------------------------------------ runs


def _clean_runs(store: Store, model_name: str, names: Names, *, dry_run: bool) -> dict[str, int]:
    """Take the events out of the rows of runs, and out of the logs and reports in the store."""
    counts = {"runs": 0, "reports": 0, "run_logs": 0}
    for run_id in store.runs_that_name(model_name=model_name, ids=names.everything):
        run = store.get_run(run_id)
        clean = replace(
            run,
            details=redacted(run.details, names),
            error_message=run.error_message and names.out_of(run.error_message),
            outcome_reason=run.outcome_reason and names.out_of(run.outcome_reason),
        )
        text_of = partial(redacted_text, names=names)
        run_log = f"training-logs/{run_id}.txt"
        counts["run_logs"] += _rewrite(store, run_log, names, text_of, dry_run=dry_run)
        page_of = partial(_page, store=store, run=clean)
        report = f"reports/{run_id}.html"
        counts["reports"] += _rewrite(store, report, names, page_of, dry_run=dry_run)
        if clean == run:
            continue
        counts["runs"] += 1
        if not dry_run:
            store.redact_run(
                run_id,
                details=clean.details,
                error_message=clean.error_message,
                outcome_reason=clean.outcome_reason,
            )
    return counts


def _page(_text: str, *, store: Store, run: RetrainingRun) -> str | None:
    """The report anew; None where a row of an earlier version does not give one."""
    events = store.promotion_events(model_name=run.model_name, limit=PROMOTIONS_SEEN)
    try:
        return as_html(run, events)
    except Exception as error:  # noqa: BLE001 - rows are erased whether or not a page can be made
        log.warning("The report of run %s is removed and not made anew: %s", run.run_id, error)
        return None


def _rewrite(
    store: Store, path: str, names: Names, make: Callable[[str], str | None], *, dry_run: bool
) -> int:
    """Replace an object that names one of the events, or remove it; return 1 if it did.

    Objects are immutable, so that the old one goes before the new one comes. The new one stands
    under a path of its own meanwhile, for the case that this is broken off in between.
    """
    spare = path + SPARE_SUFFIX
    with tempfile.TemporaryDirectory(prefix="ml_pipeline_") as folder:
        text = _text_of(store, path, Path(folder))
        if text is None:
            made = None if dry_run else _text_of(store, spare, Path(folder))
            is_named = made is not None
        else:
            is_named = names.in_text(text)
            made = make(text) if is_named and not dry_run else None
        if dry_run:
            return int(is_named)
        if made is not None:
            file = Path(folder) / "new"
            file.write_text(made, encoding="utf-8")
            if text is not None:
                store.remove(REPORT_BUCKET, spare)
                store.put(REPORT_BUCKET, spare, file)
                store.remove(REPORT_BUCKET, path)
            store.put(REPORT_BUCKET, path, file)
        elif is_named:
            store.remove(REPORT_BUCKET, path)
        store.remove(REPORT_BUCKET, spare)
    return int(is_named)


def _text_of(store: Store, path: str, folder: Path) -> str | None:
    """What stands in an object; None when there is none."""
    try:
        file = store.download(REPORT_BUCKET, path, folder / "object")
    except NotFound:
        return None
    return file.read_text(encoding="utf-8", errors="replace")


# ------------------------------------------------------------------------------- elsewhere


def _own_source(logger: EvaluationLogger, settings: Settings) -> list[dict[str, str]]:
    """The log that runs read, where it is neither the table nor the CSV log, and what to do."""
    source = settings.log.source
    if source == TABLE or Path(source).absolute() == Path(logger.csv.path):
        return []
    do = "Take the rows out of it: it is not ours to write, and runs learn from them until then."
    return [{"place": f"{OWN_SOURCE} {source}", "do": do}]


def _fitted_on(
    store: Store, model_name: str, rows: Mapping[str, Mapping[str, Any]], *, labels: int
) -> list[dict[str, str]]:
    """Bases that may have been fitted on the rows: what they learned stays in them.

    Labels have no time that says which bases came after them: any may have been.
    """
    known = [moment for row in rows.values() if (moment := _known_at(row)) is not None]
    since = datetime.min.replace(tzinfo=UTC) if labels else min(known, default=None)
    if since is None:
        return []
    return [
        {
            "place": f"model {model.model_id} ({model.state})",
            "do": "It may have been fitted on the rows. `ml-pipeline train --from-table "
            "--register` trains another base without them, and `ml-pipeline models prune` deletes "
            "old ones.",
        }
        for model in store.list_models(model_name=model_name, limit=EVERYTHING)
        if model.pruned_at is None and _may_know(model, since)
    ]


def _known_at(row: Mapping[str, Any]) -> datetime | None:
    if not _is_labelled(row):
        return None
    try:
        return parse_utc(str(row["evaluated_at"]))
    except ValueError:
        return None


def _may_know(model: ModelVersion, known: datetime) -> bool:
    """Whether a base was trained on a log that held the row."""
    if model.anchor_id != model.model_id or model.created_at < known:
        return False
    lineage = model.lineage
    if lineage.settled_night is not None and lineage.settled_night >= known.toordinal():
        return True
    if lineage.learned_until is None:
        return lineage.settled_night is None
    return lineage.learned_until >= known
