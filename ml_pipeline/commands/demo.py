"""The newcomer's run: a champion, weeks of real football served and logged, then one ordinary run.

Everything takes the way of real data: a base is trained, registered and promoted
by the gate; its predictions are logged with their features; outcomes are recorded on the day they
became known; the nightly run finds, learns, judges and promotes or refuses. Only the clock is
set: it stands at the morning after the season's last match.
Football hardly changes, so a stream that does follows (`demo_drift`).
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import pandas as pd

from ml_pipeline.commands import backtest, common, demo_drift
from ml_pipeline.config.environment import StoreSettings
from ml_pipeline.config.settings import Settings, load_settings, work_dir
from ml_pipeline.datasets.dataset import Dataset, read_dataset
from ml_pipeline.errors import ConfigError, PromotionRefused
from ml_pipeline.evaluation.evidence import Evidence
from ml_pipeline.evaluation.judging import JudgingContext, judge_evidence
from ml_pipeline.registry.models import load_model_version
from ml_pipeline.registry.registration import Registration, register_judged
from ml_pipeline.registry.serving_state import ServingState
from ml_pipeline.reports import summary, terminal
from ml_pipeline.runs import recording
from ml_pipeline.runs.recording import Failed, Order
from ml_pipeline.store.contract import Store
from ml_pipeline.store.opening import open_store
from ml_pipeline.store.records import EVENT_COLUMNS, EventStatus, ModelVersion, Source
from ml_pipeline.training.trainer import TrainingJob, run_trainer

log = logging.getLogger("demo")

FOLDER = "./demo_store"
MARKER = ".ml_pipeline_demo"
# Football is hard to be confident about: five leagues see one or two confident errors a week.
WEEKS = 12
CHANGES = {"run.lookback_days": float(7 * WEEKS), "data.training_dataset": "builtin"}
KICK_OFF_HOUR = 15
RESULT_HOUR = 22


def run_demo(args: argparse.Namespace, *, new_id: Callable[[], str]) -> int:
    """Build the store anew, make the history, start one run; prints the run's JSON."""
    folder = _fresh_folder(Path(args.local or FOLDER))
    settings = _settings(args)
    data = read_dataset("builtin", settings.data)
    times = _times(data)
    now = (times.max() + pd.Timedelta(days=1)).floor("D").to_pydatetime() + timedelta(hours=2)
    cut = pd.Timestamp(now) - pd.Timedelta(weeks=WEEKS)
    past = data.take(np.flatnonzero((times < cut).to_numpy()))
    recent = data.take(np.flatnonzero((times >= cut).to_numpy()))
    order = Order(
        settings=settings,
        work_dir=work_dir(settings, str(folder)),
        source=Source.AUTO_DAILY,
        clock=lambda: now,
        new_id=new_id,
    )
    store = open_store(StoreSettings(local_dir=str(folder)))
    try:
        at_first = replace(order, clock=cut.to_pydatetime)
        champion, model = _first_champion(store, at_first, past)
        _serve(store, settings, champion, model, recent)
        outcome = recording.run(store, order)
    finally:
        store.close()
    log.info("The clock stands at %s; everything is in %s", now.isoformat(), folder)
    replays = demo_drift.replay()
    periods = demo_drift.periods(replays)
    shown = [
        *summary.view(outcome.result, target=settings.data.target),
        *demo_drift.view(periods),
        f"Both, night by night: {backtest.write_page(folder, replays, Settings())}",
        f"Look around: ml-pipeline monitor --local {folder}",
    ]
    if not common.is_for_people(args) and not args.quiet:
        terminal.show(*shown)
    result = {**outcome.result, "drift": demo_drift.as_json(periods)}
    common.answer(args, result, lambda: shown)
    return 1 if isinstance(outcome, Failed) else 0


def _settings(args: argparse.Namespace) -> Settings:
    flags = {
        "run.lookback_days": args.lookback_days,
        "run.confidence_threshold": args.confidence_threshold,
        "run.min_error_samples": args.min_errors,
        "training.strategy": args.strategy,
    }
    return load_settings(
        common.path_or_none(args.config),
        flags={**CHANGES, **{name: value for name, value in flags.items() if value is not None}},
    )


def _fresh_folder(folder: Path) -> Path:
    """An empty folder; only a folder that an earlier demo made is cleared."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).is_file():
            raise ConfigError(
                f"{folder} is not empty and no demo made it.",
                hint="Give the demo another folder with --local DIR.",
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text("made by the demo; it clears this folder when it runs again\n")
    return folder


def _times(data: Dataset) -> pd.Series:
    if data.times is None:
        raise ConfigError("The bundled sample has no times.", hint="Set data.time_column.")
    return data.times


def _first_champion(store: Store, order: Order, past: Dataset) -> tuple[ModelVersion, Any]:
    """Train a base on the past, judge it against the absolute floors, make it champion."""
    settings, now = order.settings, order.clock()
    folder = order.work_dir / "first"
    folder.mkdir(parents=True, exist_ok=True)
    dataset = folder / "past.csv"
    past.frame.to_csv(dataset, index=False)
    job = TrainingJob(
        dataset=dataset,
        folder=folder,
        model_id=f"{settings.training.algorithm.lower()}-{now:%Y%m%d}",
        settings=settings,
        today=now.date().isoformat(),
    )
    answer = run_trainer(job, heartbeat=lambda: None)
    context = JudgingContext(champion_id=None, today=now.date(), held=None)
    verdict = judge_evidence(Evidence.load(answer.evidence_path), answer.result, settings, context)
    registration = Registration(
        store=store, settings=settings, answer=answer, parent=None, clock=order.clock
    )
    register_judged(registration, verdict, ServingState(), new_id=order.new_id)
    champion = store.champion(model_name=settings.model_name)
    if champion is None:
        raise PromotionRefused(f"The first model does not serve. {verdict.decision.sentence}")
    log.info("%s", verdict.decision.sentence)
    return champion, load_model_version(store, champion)


def _serve(
    store: Store,
    settings: Settings,
    champion: ModelVersion,
    model: Any,  # noqa: ANN401
    recent: Dataset,
) -> None:
    """Log a prediction for every match, then its outcome on the evening of the match."""
    probabilities = model.predict_proba(recent.features)
    events = [
        _event(settings, champion.model_id, recent, row)
        | {"prediction": str(model.classes_[shares.argmax()]), "confidence": float(shares.max())}
        for row, shares in enumerate(probabilities)
    ]
    store.append_events(pd.DataFrame(events, columns=list(EVENT_COLUMNS)))
    days = _times(recent).dt.floor("D")
    for day in sorted(set(days)):
        rows = np.flatnonzero((days == day).to_numpy())
        known = day.to_pydatetime() + timedelta(hours=RESULT_HOUR)
        outcomes = {events[row]["event_id"]: str(recent.labels[row]) for row in rows}
        store.record_outcomes(outcomes, evaluated_at=known)
    log.info("%d predictions served and logged, %d match days", len(events), days.nunique())


def _event(settings: Settings, model_id: str, recent: Dataset, row: int) -> dict[str, Any]:
    match_id = str(recent.frame["match_id"].iloc[row])
    day = _times(recent).iloc[row].floor("D").to_pydatetime().astimezone(UTC)
    values = zip(settings.data.features, recent.features[row], strict=True)
    return {
        "timestamp": day + timedelta(hours=KICK_OFF_HOUR),
        "event_id": str(uuid5(NAMESPACE_URL, f"demo/{match_id}")),
        "event_type": "prediction",
        "model_name": settings.model_name,
        "model_id": model_id,
        "match_id": match_id,
        "features": json.dumps({name: float(value) for name, value in values}),
        "actual_result": None,
        "evaluated_at": pd.NaT,
        "accuracy": None,
        "status": str(EventStatus.PENDING),
        "metadata": "{}",
    }
