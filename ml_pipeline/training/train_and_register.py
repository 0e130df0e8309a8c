"""Train with the store at hand: rows from its table of labels, and `--register`.

A model that is registered here is judged beside the serving champion, on rows that neither has
learned, and by the same gate as every other one.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import numpy as np

from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets import ground_truth
from ml_pipeline.datasets.dataset import Dataset
from ml_pipeline.errors import ArtifactError, DataError
from ml_pipeline.evaluation import judging
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation.metrics import Floats, evaluate
from ml_pipeline.registry.models import check_fits, load_model_version
from ml_pipeline.registry.registration import Registration, register_judged
from ml_pipeline.registry.serving_state import ServingState, serving_state_of
from ml_pipeline.registry.trained import SAMPLE_FILE, TrainerAnswer
from ml_pipeline.store.contract import Store
from ml_pipeline.store.opening import open_store
from ml_pipeline.store.records import ModelVersion, Outcome
from ml_pipeline.training.job import Given, read_rows, train
from ml_pipeline.training.strategies import Champion

log = logging.getLogger("enrolling")

# Former champions that a new base has to match; each is fetched and loaded.
EARLIER_CHAMPIONS: Final = 5


def train_with_store(
    args: argparse.Namespace, settings: Settings, *, now: datetime, new_id: str
) -> dict[str, Any]:
    """`train --from_table` and `train --register`; returns what `train` prints."""
    store = open_store(load_store_settings(args.local))
    try:
        recent = _last_base(store, settings, now - timedelta(days=args.every_days))
        if recent is not None:
            return _skipped(recent, args.every_days)
        standing = serving_state_of(store, settings.model_name)
        given, notes = _given(store, standing, args, settings)
        result = train(args, settings, now=now, new_id=new_id, given=given) | notes
        if args.register:
            result |= _enrol(store, standing, given, result, settings=settings, now=now)
        return result
    finally:
        store.close()


def _last_base(store: Store, settings: Settings, since: datetime) -> ModelVersion | None:
    """A base that was registered by this command since then; runs register theirs as runs."""
    for model in store.list_models(model_name=settings.model_name):
        if model.created_at > since and model.anchor_id == model.model_id and not model.run_id:
            return model
    return None


def _skipped(recent: ModelVersion, every_days: int) -> dict[str, Any]:
    return {
        "status": "completed",
        "outcome": str(Outcome.SKIPPED_NO_NEW_DATA),
        "outcome_reason": (
            f"{recent.model_id} was registered on {recent.created_at:%Y-%m-%d}; a new base is due "
            f"every {every_days} days."
        ),
        "model_id": None,
    }


def _given(
    store: Store, standing: ServingState, args: argparse.Namespace, settings: Settings
) -> tuple[Given, dict[str, Any]]:
    notes: dict[str, Any] = {}
    if args.from_table:
        data, report = ground_truth.read_truth(store, settings)
        notes["load_report"] = asdict(report)
    else:
        data = read_rows(args.dataset or settings.data.training_dataset, settings)
    parts = ground_truth.split_stable(data, settings)
    until = ground_truth.learned_until(data, parts.train)
    champion = None
    if standing.champion is not None:
        model = load_model_version(store, standing.champion)
        check_fits(model, settings)
        champion = Champion(model_id=standing.champion.model_id, model=model)
        parts = ground_truth.unlearned(data, parts, standing.champion.lineage.learned_until)
        if not len(parts.holdout):
            raise DataError(
                f"The champion has learned every row of {data.source}: none is left to judge on.",
                hint="Train again when newer rows have come.",
            )
    return Given(data=data, champion=champion, parts=parts, learned_until=until), notes


def _enrol(  # noqa: PLR0913 - what a registration rests on
    store: Store,
    standing: ServingState,
    given: Given,
    result: dict[str, Any],
    *,
    settings: Settings,
    now: datetime,
) -> dict[str, Any]:
    evidence = Evidence.load(Path(result["evidence_path"]))
    held = given.data.take(given.parts.holdout)
    bench = judging.JudgingContext(
        champion_id=standing.champion_id,
        today=now.date(),
        held=standing.held,
        earlier=_earlier(store, standing, held, settings),
    )
    verdict = judging.judge(evidence, result, settings, bench)
    registration = Registration(
        store=store,
        settings=settings,
        answer=TrainerAnswer(
            result=result,
            model_path=Path(result["model_path"]),
            evidence_path=Path(result["evidence_path"]),
            sample_path=Path(result["model_path"]).with_name(SAMPLE_FILE),
        ),
        parent=standing.head,
        clock=lambda: now,
    )
    champion_id = register_judged(registration, verdict, standing, new_id=lambda: str(uuid4()))
    return {
        "outcome": str(verdict.decision.outcome),
        "outcome_reason": verdict.decision.sentence,
        "decision": verdict.decision.as_json(),
        "champion": champion_id,
        "recent": _recent(evidence, settings, now),
    }


def _earlier(
    store: Store, standing: ServingState, held: Dataset, settings: Settings
) -> dict[str, Floats]:
    """What the last champion of each former line says of the held-out rows."""
    if standing.champion is None:
        return {}
    said: dict[str, Floats] = {}
    for version in _former_champions(store, standing.champion)[:EARLIER_CHAMPIONS]:
        until = version.lineage.learned_until
        try:
            model = load_model_version(store, version)
            check_fits(model, settings)
        except (ArtifactError, DataError) as error:
            log.warning("The former champion %s is not compared: %s", version.model_id, error)
            continue
        if until is not None and held.times is not None and (held.times <= until).any():
            log.warning(
                "The former champion %s is not compared: it has learned some of the rows",
                version.model_id,
            )
            continue
        said[version.model_id] = model.predict_proba(held.features)
    return said


def _former_champions(store: Store, champion: ModelVersion) -> list[ModelVersion]:
    """The last champion of each line but the serving one, newest first."""
    name = champion.model_name
    models = {model.model_id: model for model in store.list_models(model_name=name)}
    newest: dict[str, ModelVersion] = {}
    for event in store.promotion_events(model_name=name):
        version = models.get(event.to_model_id)
        if version is not None and version.anchor_id != champion.anchor_id:
            newest.setdefault(version.anchor_id, version)
    return list(newest.values())


def _recent(evidence: Evidence, settings: Settings, now: datetime) -> dict[str, Any]:
    """Both models on the held-out rows of the last days."""
    window = settings.promotion.evaluation_window_days
    start = (now - timedelta(days=window)).date().toordinal()
    rows = np.flatnonzero(evidence.nights > start)
    recent: dict[str, Any] = {"days": window, "rows": len(rows)}
    if not len(rows):
        return recent
    actual = evidence.actual_labels()[rows]
    for name in ("challenger", "champion"):
        said = getattr(evidence, name)
        if said is not None:
            ordered = settings.data.ordered
            report = evaluate(actual, said[rows], evidence.labels, ordered=ordered)
            recent[name] = report.summary()
    return recent
