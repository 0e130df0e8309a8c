"""What has to hold after every run of a life, and at its end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ml_pipeline.datasets.dataset import from_frame
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation_log.fold import UNUSABLE
from ml_pipeline.registry import models
from ml_pipeline.registry.serving_state import serving_state_of
from ml_pipeline.registry.trained import EVIDENCE_FILE, RESULT_FILE
from ml_pipeline.runs.recording import Failed, RunOutcome, Skipped, Trained
from ml_pipeline.store.lineage.open_rows import OpenRows
from ml_pipeline.store.records import EVER, ModelVersion, Outcome, RequestStatus, RunStatus
from ml_pipeline.training.adaptive import AdaptiveClassifier, by_family
from ml_pipeline.training.learned_rows import Champion
from ml_pipeline.training.online_training import adapt
from tests.support.lives.ledger import Entry, Expected, Head

if TYPE_CHECKING:
    from tests.support.lives.life import Life

AGAIN = 0.3  # of the lives end with one more run, which has nothing to do


@dataclass(frozen=True, kw_only=True, slots=True)
class Before:
    """What stood in store and ledger when a run began."""

    at: datetime
    champion_id: str | None
    model_ids: frozenset[str]
    promotions: tuple[str, ...]
    is_running: bool
    is_certain: bool
    is_held: bool
    head: Head
    learnable: frozenset[str]
    expected: Expected

    @classmethod
    def of(cls, life: Life) -> Before:
        """Now; the run starts a second later."""
        store, settings, ledger = life.site.store, life.nature.settings, life.ledger
        name, start = settings.model_name, life.clock.now
        state = serving_state_of(store, name)
        latest = store.latest_run(model_name=name)
        ids = frozenset(model.model_id for model in store.list_models(model_name=name))
        return cls(
            at=start,
            champion_id=state.champion_id,
            model_ids=ids,
            promotions=_promotions(life),
            is_running=latest is not None and latest.status is RunStatus.RUNNING,
            is_certain=ledger.is_certain,
            is_held=state.held is not None,
            head=ledger.head,
            learnable=frozenset(e.event_id for e in ledger.to_learn(start) if e.is_delivered),
            expected=_expected(life, start, ids),
        )


def _expected(
    life: Life, at: datetime, models: frozenset[str], restart: int | None = None
) -> Expected:
    run = life.nature.settings.run
    return life.ledger.expected(
        at, mine=models, days=run.lookback_days, sure=run.confidence_threshold, restart=restart
    )


def _promotions(life: Life) -> tuple[str, ...]:
    events = life.site.store.promotion_events(model_name=life.nature.settings.model_name)
    return tuple(event.event_id for event in events)


# ------------------------------------------------------------------------- after every run


def somebody_serves(life: Life) -> None:
    """One champion, whose bytes are the registered ones and load."""
    store, name = life.site.store, life.nature.settings.model_name
    version = store.champion(model_name=name)
    assert version is not None or not life.nature.has_model, "nobody serves"
    if version is not None:
        models.verify(store, version, None)


def nothing_changed(before: Before, life: Life) -> None:
    """Neither who serves nor what is registered."""
    assert life.champion == before.champion_id
    assert _model_ids(life) == before.model_ids
    assert _promotions(life) == before.promotions


def _model_ids(life: Life) -> frozenset[str]:
    name = life.nature.settings.model_name
    return frozenset(model.model_id for model in life.site.store.list_models(model_name=name))


def note_what_was_learned(before: Before, life: Life) -> None:
    """Every model registered since has learned what was there when the run began."""
    store, name = life.site.store, life.nature.settings.model_name
    for model_id in _model_ids(life) - before.model_ids:
        version = store.get_model(name, model_id)
        held_out = set[str]()
        if version.parent_id is None and version.run_id is not None:
            held_out = set(_evidence(life, version.run_id, model_id).event_ids)
        life.ledger.learned[model_id] = before.learnable - held_out


def _evidence(life: Life, run_id: str, model_id: str) -> Evidence:
    folder = life.site.folder / "work" / run_id / "trained" / model_id
    return Evidence.load(folder / EVIDENCE_FILE)


def after_run(before: Before, life: Life, outcome: RunOutcome, met: str | None) -> None:
    """Check what a run says of itself; `met` is the call at which the store failed it."""
    note_what_was_learned(before, life)
    run = outcome.run
    assert life.site.store.get_run(run.run_id) == run, "the row says something else"
    if met is not None and not isinstance(outcome, Failed):
        # A run can do without its log and its report, and says so.
        is_said = run.log_url is None or "report_error" in run.details
        assert is_said, f"{run.outcome} though the store failed at {met}"
    assert (run.outcome is Outcome.FAILED) == isinstance(outcome, Failed)
    champion_id = life.champion
    if isinstance(outcome, Failed):
        if "The serving model was not changed" in str(run.outcome_reason):
            assert champion_id == before.champion_id
            assert _promotions(life) == before.promotions
    elif isinstance(outcome, Skipped):
        # When every result was erased, the approved model serves, which had learned none.
        if before.champion_id is not None and champion_id == _anchor_of(life, before.champion_id):
            is_told = champion_id == before.champion_id or "serves again" in str(run.outcome_reason)
            assert is_told, run.outcome_reason
        else:
            nothing_changed(before, life)
    else:
        _check_trained(before, life, outcome)
    if met is not None:
        somebody_serves(life)


def after_other_run(before: Before, life: Life, outcome: RunOutcome) -> None:
    """Another run came in between; what this one promoted serves, and what it did not does not."""
    note_what_was_learned(before, life)
    run = outcome.run
    assert life.site.store.get_run(run.run_id) == run, "the row says something else"
    if run.outcome is Outcome.PROMOTED:
        promoted = life.site.store.promotion_events(model_name=run.model_name)
        assert run.run_id in {event.run_id for event in promoted}
    somebody_serves(life)


def _check_trained(before: Before, life: Life, outcome: Trained) -> None:
    run, champion_id = outcome.run, life.champion
    assert run.challenger_id is not None
    if run.outcome is Outcome.PROMOTED:
        assert champion_id == run.challenger_id
    elif run.outcome is Outcome.AWAITING_APPROVAL:
        assert champion_id == before.champion_id
    else:
        assert champion_id in {before.champion_id, _anchor_of(life, before.champion_id)}
    evidence = _evidence(life, run.run_id, run.challenger_id)
    judged = set(evidence.event_ids)
    assert len(judged) == len(evidence.event_ids), "a row was judged twice"
    # The table may have the former outcome of these, or one already.
    unsure = {telling.entry.event_id for telling in life.app.untold}
    unsure |= {e.event_id for e in life.ledger.entries.values() if not e.is_delivered}
    assert judged <= unsure | {e.event_id for e in life.ledger.to_learn(run.started_at)}
    if evidence.champion is not None:
        assert before.champion_id is not None
        again = judged & life.ledger.learned[before.champion_id]
        assert not again, f"{before.champion_id} was judged on rows that it had learned: {again}"


def _anchor_of(life: Life, model_id: str | None) -> str | None:
    if model_id is None:
        return None
    return life.site.store.get_model(life.nature.settings.model_name, model_id).anchor_id


def as_expected(before: Before, life: Life, outcome: RunOutcome) -> None:
    """Compare the counts of an undisturbed run with the ledger's."""
    run, expected = outcome.run, before.expected
    since = run.details.get("learned_again_since")
    if since is not None:
        restart = date.fromisoformat(since).toordinal() - 1
        expected = _expected(life, before.at, before.model_ids, restart)
    report: Mapping[str, Any] = run.details["load_report"]
    unusable = {
        reason.removeprefix(UNUSABLE): count
        for reason, count in report["reasons"].items()
        if reason.startswith(UNUSABLE)
    }
    assert report["labelled"] == expected.labelled, (report, expected, before.head)
    assert unusable == dict(expected.unusable)
    assert report["unusable"] == sum(expected.unusable.values())
    assert report["errors"] == run.dataset_size == expected.errors
    assert (run.details.get("rebuilt", False) or since is not None) == expected.is_rebuilt
    if expected.fresh == 0:
        assert run.outcome is Outcome.SKIPPED_NO_NEW_DATA
        return
    assert isinstance(outcome, Trained), run.outcome_reason
    assert run.training_rows == len(expected.rows)
    if before.is_held:
        # What a person rolled back to is gone on from until another person decides.
        life.ledger.head = head_in_registry(life)
        return
    life.ledger.head = life.ledger.head_after(run.started_at)
    head = serving_state_of(life.site.store, life.nature.settings.model_name).head
    assert head is not None
    lineage, mine = head.lineage, life.ledger.head
    assert lineage.settled_night == mine.settled
    assert lineage.learned_open_rows == OpenRows.of(mine.open)
    assert (lineage.log_rows or 0) == mine.counted


def after_decision(life: Life) -> None:
    """Look who goes on; one that learned what was corrected or erased since learns it again."""
    life.ledger.head = head_in_registry(life)
    head = serving_state_of(life.site.store, life.nature.settings.model_name).head
    if head is not None and head.model_id in life.ledger.stale:
        life.ledger.is_corrected = True


def head_in_registry(life: Life) -> Head:
    """How far the lineage has come by its own account."""
    head = serving_state_of(life.site.store, life.nature.settings.model_name).head
    if head is None:
        return Head()
    if head.model_id not in life.heads:
        lineage = head.lineage
        model: AdaptiveClassifier = models.load_model_version(life.site.store, head)
        line = model.line_ or {}
        life.heads[head.model_id] = Head(
            settled=lineage.settled_night if lineage.first_night is not None else None,
            open=frozenset(line["open_event_ids"]) - frozenset(line["waiting_event_ids"]),
            counted=lineage.log_rows or 0,
        )
    return life.heads[head.model_id]


# ------------------------------------------------------------------------------ at the end


def at_the_end(life: Life) -> None:
    """Check the log, the model beside one that was built anew, and a run with nothing to do."""
    store, name = life.site.store, life.nature.settings.model_name
    _check_table(life)
    requests = store.list_requests(model_name=name)
    ended = {RequestStatus.COMPLETED, RequestStatus.FAILED}
    assert all(request.status in ended for request in requests), "a request was left"
    runs = store.list_runs(model_name=name, limit=1000)
    assert all(run.status in {RunStatus.COMPLETED, RunStatus.FAILED} for run in runs)
    somebody_serves(life)
    _check_model(life)
    # A first model that waits for a person is trained anew by each run.
    if life.champion is not None and life.chance.random() < AGAIN:
        outcome = life.run(None)
        assert isinstance(outcome, Skipped), "a run without anything new did something"


def has_heads(life: Life) -> bool:
    """Whether the serving lineage has learned a day since its base."""
    head = serving_state_of(life.site.store, life.nature.settings.model_name).head
    return head is not None and head.model_id != head.anchor_id


def _check_table(life: Life) -> None:
    """Every accepted event is there as it was accepted, and nothing else."""
    name = life.nature.settings.model_name
    frames = list(life.site.store.read_events(EVER, model_name=name, labelled_only=False))
    table = pd.concat(frames).set_index("event_id")
    entries = life.ledger.entries
    assert set(table.index) == set(entries)
    log = life.site.folder / f"{name}.csv"
    written = log.read_text(encoding="utf-8") if log.exists() else ""
    assert not any(event_id in written for event_id in life.app.erased)
    for entry in entries.values():
        row = table.loc[entry.event_id]
        assert row["prediction"] == entry.prediction
        assert row["match_id"] == entry.match_id
        assert (row["actual_result"] or None) == entry.outcome
        assert (None if pd.isna(row["evaluated_at"]) else row["evaluated_at"]) == entry.known


def _check_model(life: Life) -> None:
    """The lineage's head has learned every usable result once: as if it had done so at once."""
    store, name = life.site.store, life.nature.settings.model_name
    version = serving_state_of(store, name).head
    if version is None:
        assert not life.nature.has_model
        return
    head: AdaptiveClassifier = models.load_model_version(store, version)
    rows = life.ledger.to_learn(life.clock.now)
    if not rows:
        # A head that had learned what is gone is learned again as soon as there is something.
        assert life.champion == version.anchor_id
        return
    anew = rebuilt(life, version, rows)
    in_base = _rows_of_base(life, version)
    mine, theirs = head.line_ or {}, anew.line_ or {}
    for part in ("night", "first_night", "rows_seen", "rows_digest", "last_event_id"):
        assert mine[part] == theirs[part], part
    if life.nature.has_model or not life.ledger.was_corrected:
        assert mine["rows_seen"] + in_base + _unsettled(mine) == len(rows)
    for part in ("waiting_event_ids", "open_event_ids"):
        assert list(mine[part]) == list(theirs[part]), part
    for part in ("memory_heads", "memory_precisions", "memory_vote"):
        assert (mine[part] is None) == (theirs[part] is None), part
        if mine[part] is not None:
            families = zip(by_family(mine[part]), by_family(theirs[part]), strict=True)
            for one, other in families:
                np.testing.assert_allclose(one, other, atol=1e-9)
    sample = np.random.default_rng(life.seed).normal(size=(20, len(life.nature.features)))
    np.testing.assert_allclose(head.predict_proba(sample), anew.predict_proba(sample), atol=1e-9)


def _rows_of_base(life: Life, version: ModelVersion) -> int:
    """How many rows of the log the base was trained on."""
    anchor = life.site.store.get_model(version.model_name, version.anchor_id)
    if anchor.run_id is None:
        return 0
    folder = life.site.folder / "work" / anchor.run_id / "trained" / anchor.model_id
    result = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
    return int(result["training_rows"])


def _unsettled(line: Mapping[str, Any]) -> int:
    """Events of open days: the settled state does not count them."""
    known = {*line["waiting_event_ids"], *line["base_event_ids"]}
    return sum(event_id not in known for event_id in line["open_event_ids"])


def rebuilt(life: Life, version: ModelVersion, rows: list[Entry]) -> AdaptiveClassifier:
    """The model that learns those rows at once, on top of the same base."""
    store, settings = life.site.store, life.nature.settings
    anchor = store.get_model(version.model_name, version.anchor_id)
    first = models.load_model_version(store, anchor)
    frame = pd.DataFrame([_cells(entry, life) for entry in rows])
    data = settings.changed({"data.time_column": "known_at", "data.group_column": "match_id"}).data
    challenger = adapt(
        first,
        Champion(model_id=anchor.model_id, model=first),
        [from_frame(frame, data, source="the ledger", whole=False)],
        version.created_at.date(),
        settings,
    )
    return challenger.model


def _cells(entry: Entry, life: Life) -> dict[str, str]:
    values = json.loads(entry.features or "{}")
    numbers = {n: "" if values[n] is None else repr(values[n]) for n in life.nature.features}
    assert entry.known is not None
    return numbers | {
        "event_id": entry.event_id,
        "match_id": entry.match_id or "",
        "known_at": entry.known.isoformat(),
        "predicted_at": entry.made.isoformat(),
        "prediction": entry.prediction,
        life.nature.settings.data.target: entry.outcome or "",
    }
