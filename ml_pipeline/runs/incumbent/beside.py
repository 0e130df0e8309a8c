"""How a run's challenger does beside classifiers that nobody here trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_pipeline.errors import NotFound
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation.incumbent.judging import Beside
from ml_pipeline.evaluation.incumbent.record import IncumbentRecord
from ml_pipeline.evaluation_log.answering.answers import logged_answers
from ml_pipeline.evaluation_log.answering.sentences import shown
from ml_pipeline.runs.preparing import Prepared
from ml_pipeline.store.contract import RunLedger
from ml_pipeline.store.records import INCUMBENT_RECORD, ModelVersion


def beside_of(
    store: RunLedger, prepared: Prepared, evidence: Evidence, result: Mapping[str, Any]
) -> Beside | None:
    """How the challenger did on the rows that they answered; None where there are none to mind.

    Where one serves by the settings, the record of the runs before is added to that of this one.
    """
    settings, state, logged = prepared.settings, prepared.serving, prepared.logged
    serves = settings.incumbent.serves
    if not serves and (state.champion is not None or not logged.theirs):
        return None
    answers = logged_answers(prepared.loaded.labelled_path, settings, evidence, logged.theirs)
    full_weight = settings.training.adaptive.full_weight
    record = IncumbentRecord.of(evidence, answers, full_weight=full_weight)
    if serves and state.head is not None and "line" in result:
        record = _going_on(store, state.head, evidence, record)
    newest = logged.theirs[0] if logged.theirs else None
    return Beside(record=record, newest=newest, names=shown(logged.theirs), serves=serves)


def _going_on(
    store: RunLedger, head: ModelVersion, evidence: Evidence, record: IncumbentRecord
) -> IncumbentRecord:
    """The record of the lineage with this run's rows: those that the head had not learned.

    A base has none that goes on: what it was first judged on its heads learn now, and are judged on
    again. Evidence on rows that the head knew already, learned again, is none.
    """
    if head.run_id is None or head.lineage.first_night is None:
        return record
    try:
        kept = store.get_run(head.run_id).details.get(INCUMBENT_RECORD)
    except NotFound:  # a model that was imported: its run is another store's
        kept = None
    before = IncumbentRecord() if kept is None else IncumbentRecord.from_json(kept)
    return before if evidence.champion is None else before.plus(record)


def record_of(beside: Beside | None) -> dict[str, Any]:
    """What a run's row keeps of the comparison, for people and for the next run."""
    if beside is None:
        return {}
    kept = {"incumbent": beside.as_json()}
    return kept | ({INCUMBENT_RECORD: beside.record.as_json()} if beside.serves else {})
