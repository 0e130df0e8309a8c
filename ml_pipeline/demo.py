"""The newcomer's run: a champion, weeks of real football served and logged, then one ordinary pass.

Everything goes through the doors that real data takes: a base is trained, registered and promoted
by the gate; its predictions are logged with their features; outcomes are recorded on the day they
became known; the nightly pass finds, learns, judges and promotes or refuses. Only the clock is
set: it stands at the morning after the season's last match.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import pandas as pd

from ml_pipeline import artifacts, commands, config, model_registry
from ml_pipeline.auto_reinforcement import Order, run_pass, work_dir
from ml_pipeline.config import Settings, StoreSettings
from ml_pipeline.datasets import Dataset, read_dataset
from ml_pipeline.domain import (
    EVENT_COLUMNS,
    EventStatus,
    Failed,
    ModelState,
    ModelVersion,
    PromotionKind,
    Source,
)
from ml_pipeline.errors import ConfigError, PromotionRefused
from ml_pipeline.evaluation import evaluate
from ml_pipeline.model_registry import MODEL_BUCKET, artifact_path
from ml_pipeline.promotion import judge_first
from ml_pipeline.store import Store
from ml_pipeline.strategies import Challenger, train_base
from ml_pipeline.wiring import open_store

log = logging.getLogger("demo")

FOLDER = "./demo_store"
MARKER = ".ml_pipeline_demo"
# Football is hard to be confident about: five leagues see one or two confident errors a week.
WEEKS = 12
CHANGES = {"run.lookback_days": float(7 * WEEKS), "data.training_dataset": "builtin"}
KICK_OFF_HOUR = 15
RESULT_HOUR = 22


def run_demo(args: argparse.Namespace, *, new_id: Callable[[], str]) -> int:
    """Build the store anew, make the history, run one pass; prints the run's JSON."""
    folder = _fresh_folder(Path(args.local or FOLDER))
    settings = _settings(args)
    data = read_dataset("builtin", settings.data)
    times = _times(data)
    now = (times.max() + pd.Timedelta(days=1)).floor("D").to_pydatetime() + timedelta(hours=2)
    cut = pd.Timestamp(now) - pd.Timedelta(weeks=WEEKS)
    past = data.take(np.flatnonzero((times < cut).to_numpy()))
    recent = data.take(np.flatnonzero((times >= cut).to_numpy()))
    store = open_store(StoreSettings(local_dir=str(folder)))
    try:
        started = cut.to_pydatetime()
        champion, model = _first_champion(store, settings, past, now=started, new_id=new_id)
        _serve(store, settings, champion, model, recent)
        order = Order(
            settings=settings,
            work_dir=work_dir(settings, str(folder)),
            source=Source.AUTO_DAILY,
            clock=lambda: now,
            new_id=new_id,
        )
        outcome = run_pass(store, order)
    finally:
        store.close()
    _show(dict(outcome.result), folder, now)
    commands.print_json(dict(outcome.result))
    return 1 if isinstance(outcome, Failed) else 0


def _settings(args: argparse.Namespace) -> Settings:
    flags = {
        "run.lookback_days": args.lookback_days,
        "run.confidence_threshold": args.confidence_threshold,
        "run.min_error_samples": args.min_errors,
        "training.strategy": args.strategy,
    }
    return config.load_settings(
        commands.path_or_none(args.config),
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


def _first_champion(
    store: Store,
    settings: Settings,
    past: Dataset,
    *,
    now: datetime,
    new_id: Callable[[], str],
) -> tuple[ModelVersion, Any]:
    """Train a base on the past, judge it against the absolute floors, make it champion."""
    challenger = train_base(past, settings, algorithm=settings.training.algorithm)
    decision = judge_first(*_first_evidence(challenger, settings), settings.promotion)
    if decision.outcome != "promoted":
        raise PromotionRefused(f"The demo's first model was refused. {decision.sentence}")
    model_id = f"{settings.training.algorithm.lower()}-{now:%Y%m%d}"
    folder = work_dir(settings, store.describe()["directory"]) / "first"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.skops"
    artifacts.save_model(challenger.model, path)
    version = ModelVersion(
        model_name=settings.model_name,
        model_id=model_id,
        algorithm=settings.training.algorithm,
        artifact=store.put(MODEL_BUCKET, artifact_path(settings.model_name, model_id), path),
        created_at=now,
        state=ModelState.CANDIDATE,
        anchor_id=model_id,
        confidence_threshold=settings.prediction.min_confidence_threshold,
        lineage={"settled_night": None, "first_night": None},
        library_versions=artifacts.library_versions(),
    )
    store.register(version)
    promoted = model_registry.change_champion(
        store,
        target=version,
        expected=None,
        kind=PromotionKind.PROMOTION,
        reason=decision.sentence,
        actor="gate",
        now=now,
        event_id=new_id(),
        verdict=decision.as_json(),
    )
    log.info("%s", decision.sentence)
    return promoted, challenger.model


def _first_evidence(challenger: Challenger, settings: Settings) -> tuple[Any, float]:
    evidence = challenger.evidence
    actual = evidence.actual_labels()
    ordered = settings.data.ordered
    report = evaluate(actual, evidence.challenger, evidence.labels, ordered=ordered)
    prior = np.repeat([challenger.prior], len(evidence), axis=0)
    return report, evaluate(actual, prior, evidence.labels, ordered=ordered).log_loss


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
        | {"prediction": str(model.classes_[said.argmax()]), "confidence": float(said.max())}
        for row, said in enumerate(probabilities)
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


def _show(result: dict[str, Any], folder: Path, now: datetime) -> None:
    """A summary for people, on stderr; the JSON goes to stdout."""
    from rich.console import Console
    from rich.table import Table

    console = Console(file=sys.stderr, highlight=False)
    _show_errors(console, result)
    table = Table(title=f"Nightly run of {now:%Y-%m-%d %H:%M} UTC", title_justify="left")
    table.add_column("on the same unseen rows")
    table.add_column("champion", justify="right")
    table.add_column("challenger", justify="right")
    for name in ("accuracy", "precision", "recall", "f1_score", "log_loss", "brier"):
        before, after = result["champion_metrics"].get(name), result["metrics"].get(name)
        table.add_row(name, _number(before), _number(after))
    console.print(table)
    console.print(f"Outcome: [bold]{result['outcome']}[/bold]. {result['outcome_reason']}")
    console.print(
        f"{result['dataset_size']} confident errors, {result['training_rows']} labelled rows "
        f"learned. Champion now: {result['champion']}. Everything is in {folder}."
    )


def _show_errors(console: Any, result: dict[str, Any]) -> None:  # noqa: ANN401
    from rich.table import Table

    errors = pd.read_csv(result["dataset_path"])
    worst = errors.sort_values("confidence", ascending=False)
    table = Table(title="Where the model was confidently wrong", title_justify="left")
    for name in ("match", "said", "confidence", "was"):
        table.add_column(name, justify="right" if name == "confidence" else "left")
    for _, row in worst.iterrows():
        table.add_row(row["match_id"], row["prediction"], f"{row['confidence']:.3f}", row["result"])
    console.print(table)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
