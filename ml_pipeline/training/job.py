"""Training: rows in; model, evidence and result out."""

from __future__ import annotations

import argparse
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from ml_pipeline.config.environment import is_store_configured, load_store_settings
from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import DataError
from ml_pipeline.registry.models import check_fits, safe_name
from ml_pipeline.registry.trained import (
    EVIDENCE_FILE,
    MODEL_FILE,
    RESULT_FILE,
    SAMPLE_FILE,
    SCORING_FILE,
)

log = logging.getLogger("train_model")
SAMPLE_ROWS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """What was read before training: rows and their split, and the champion to be judged beside.

    `learned_until` is the time of the last row to learn, for the lineage.
    """

    data: Any  # a Dataset
    champion: Any  # Champion, or None
    parts: Any  # a Split
    learned_until: datetime | None


def train(
    args: argparse.Namespace,
    settings: Settings,
    *,
    now: datetime,
    new_id: str,
    given: Given | None = None,
) -> dict[str, Any]:
    """The whole command but for printing; returns what `train` prints."""
    from ml_pipeline.training.strategies import Challenger

    dataset = args.dataset or settings.data.training_dataset
    file = _labelled_file(dataset, args, settings) if given is None else None
    if file is not None:
        data, count = file.last, file.rows
    else:
        data = read_rows(dataset, settings) if given is None else given.data
        count = len(data)
    base: dict[str, Any] | None = None
    strategy = settings.training.strategy if args.fine_tune else "from_scratch"
    algorithm = settings.training.algorithm
    if not args.fine_tune:
        from ml_pipeline.training.strategies import train_base

        challenger: Challenger = train_base(
            data,
            settings,
            algorithm=algorithm,
            champion=None if given is None else given.champion,
            parts=None if given is None else given.parts,
        )
    else:
        head, base = _model_to_tune(args, settings, data)
        challenger = _fine_tune(args, settings, data, file, head, now)
    model_id = args.model_id or f"{algorithm.lower()}_{now:%Y%m%d_%H%M%S}_{new_id[:8]}"
    folder = Path(args.output_dir) / safe_name(model_id)
    _write_sample(folder, challenger.model, data.features)
    until = None if given is None else given.learned_until
    result = _write(folder, challenger, settings) | {
        "status": "completed",
        "model_id": model_id,
        "algorithm": algorithm if strategy in {"from_scratch", "refit"} else _kind(challenger),
        "fine_tune": bool(args.fine_tune),
        "strategy": strategy,
        "dataset_size": count,
        "timestamp": now.isoformat(),
        "ignored": _ignored(args, strategy),
        "base": base,
        "learned_until": None if until is None else until.isoformat(),
    }
    _write_json(folder / RESULT_FILE, result)
    return result


def _kind(challenger: Any) -> str:  # noqa: ANN401 - a Challenger
    base = challenger.model.base_
    return type(base.steps[-1][1] if hasattr(base, "steps") else base).__name__


def read_rows(dataset: str, settings: Settings) -> Any:  # noqa: ANN401 - a Dataset
    """Rows of a training CSV, or of the file of labelled rows that a run writes."""
    from ml_pipeline.datasets.dataset import BUILTIN, from_frame, read_csv, read_dataset

    if dataset == BUILTIN:
        return read_dataset(dataset, settings.data)
    frame = read_csv(Path(dataset))
    data = settings.data
    if {"event_id", "known_at"} <= set(frame.columns):
        data = settings.changed(
            {"data.time_column": "known_at", "data.group_column": "match_id"}
        ).data
    return from_frame(frame, data, source=dataset)


def _model_to_tune(
    args: argparse.Namespace,
    settings: Settings,
    data: Any,  # noqa: ANN401
) -> tuple[Any, dict[str, Any]]:
    if args.model_path:
        model = load_any(Path(args.model_path), args.model_digest, settings, data)
        return model, {"kind": "model_path", "path": args.model_path}
    if is_store_configured(args.local):
        found = _champion_of_store(args, settings)
        if found is not None:
            return found
    from ml_pipeline.datasets.dataset import read_dataset
    from ml_pipeline.training.strategies import train_base

    source = settings.data.training_dataset
    log.warning("No model to fine-tune was given: training a base on %s first", source)
    training_data = read_dataset(source, settings.data)
    challenger = train_base(training_data, settings, algorithm=settings.training.algorithm)
    return challenger.model, {"kind": "training_data", "dataset": source}


def _champion_of_store(
    args: argparse.Namespace, settings: Settings
) -> tuple[Any, dict[str, Any]] | None:
    from ml_pipeline.registry.models import load_model_version
    from ml_pipeline.store.opening import open_store

    store = open_store(load_store_settings(args.local))
    try:
        champion = store.champion(model_name=settings.model_name)
        if champion is None:
            return None
        model = load_model_version(store, champion)
    finally:
        store.close()
    check_fits(model, settings)
    return model, {"kind": "champion", "model_id": champion.model_id}


def load_any(path: Path, digest: str | None, settings: Settings, data: Any) -> Any:  # noqa: ANN401
    """Load a model a person or a run names; a plain classifier is given heads.

    Raises ArtifactError for what cannot be trusted, DataError for what does not fit the data.
    """
    from ml_pipeline.registry import archive
    from ml_pipeline.training.adaptive import AdaptiveClassifier
    from ml_pipeline.training.strategies import new_model

    if path.suffix in archive.PICKLE_SUFFIXES:
        model = archive.load_local_pickle(path)
    else:
        model = archive.load_model(path, expected_digest=digest or archive.digest_file(path))
    if not isinstance(model, AdaptiveClassifier):
        if not hasattr(model, "predict_proba") or not hasattr(model, "classes_"):
            raise DataError(f"{path} holds a {type(model).__name__}, not a fitted classifier.")
        classes = [str(label) for label in model.classes_]
        model = new_model(model, data.features, classes, settings)
    check_fits(model, settings)
    return model


def _labelled_file(dataset: str, args: argparse.Namespace, settings: Settings) -> Any:  # noqa: ANN401
    """The rows day by day where that is all that is asked for; None where they must be at hand."""
    from ml_pipeline.datasets.dataset import BUILTIN
    from ml_pipeline.datasets.labelled_file import LabelledFile

    is_nightly = args.fine_tune and settings.training.strategy == "adaptive" and not args.new_base
    if not is_nightly or dataset == BUILTIN:
        return None
    return LabelledFile.opened(Path(dataset), settings.data)


def _fine_tune(  # noqa: PLR0913, PLR0917 - rows at hand and by day, a model and rules
    args: argparse.Namespace,
    settings: Settings,
    data: Any,  # noqa: ANN401
    file: Any,  # noqa: ANN401 - a LabelledFile, or None
    head: Any,  # noqa: ANN401
    now: datetime,
) -> Any:  # noqa: ANN401
    from ml_pipeline.datasets.dataset import read_dataset
    from ml_pipeline.training import strategies
    from ml_pipeline.training.online_training import adapt
    from ml_pipeline.training.strategies import Champion

    champion_model = head
    if args.champion_path:
        champion_model = load_any(Path(args.champion_path), args.champion_digest, settings, data)
    champion = Champion(model_id=args.champion_id or "", model=champion_model)
    strategy = settings.training.strategy
    today = date.fromisoformat(args.today) if args.today else now.date()
    if args.new_base:
        return strategies.base_in_shadow(
            data, head, today, settings, carry_heads=args.new_base == "carried"
        )
    if strategy == "adaptive":
        if data.times is None or "event_id" not in data.frame.columns:
            return strategies.fine_tune_rows(head, data, settings)
        # Experts are fitted on rows at hand: a file that comes day by day brings none.
        known = data if settings.training.experts and file is None else None
        if args.known:
            known = read_rows(args.known, settings)
        parts = [data] if file is None else file.parts()
        return adapt(
            head, champion, parts, today, settings, other_base=args.other_base, known=known
        )
    if strategy == "refit":
        return strategies.refit(data, champion, settings, algorithm=settings.training.algorithm)
    if strategy == "errors_only":
        log.warning(
            "Strategy errors_only learns from errors alone: measured, it makes models worse"
        )
        return strategies.errors_only(data, champion, settings)
    replay_rows = read_dataset(settings.data.training_dataset, settings.data)
    return strategies.sgd(data, champion, settings, replay_rows)


def _write_sample(folder: Path, model: Any, features: Any) -> None:  # noqa: ANN401
    """What the model says of a few rows; the stored artifact has to say the same."""
    from ml_pipeline.registry.trained import Sample

    folder.mkdir(parents=True, exist_ok=True)
    rows = features[-SAMPLE_ROWS:]
    Sample(features=rows, probabilities=model.predict_proba(rows)).save(folder / SAMPLE_FILE)


def _write(folder: Path, challenger: Any, settings: Settings) -> dict[str, Any]:  # noqa: ANN401
    from ml_pipeline.registry import archive
    from ml_pipeline.registry.scoring_writer import write_scoring

    model_path = folder / MODEL_FILE
    archive.save_model(challenger.model, model_path)
    write_scoring(challenger.model, folder / SCORING_FILE)
    evidence_path = folder / EVIDENCE_FILE
    challenger.evidence.save(evidence_path)
    result: dict[str, Any] = {
        "model_path": str(model_path),
        "model_digest": archive.digest_file(model_path),
        "evidence_path": str(evidence_path),
        "training_rows": challenger.rows_learned,
        "training_digest": challenger.training_digest,
        "metrics": {},
        "cross_validation": challenger.cross_validation,
        "library_versions": archive.library_versions(),
    }
    if len(challenger.evidence):
        result |= _reports(challenger.evidence, ordered=settings.data.ordered)
    if challenger.online is not None:
        result["line"] = {
            "ledger": challenger.online.ledger.tolist(),
            "champions": list(challenger.online.champions),
            "vote": challenger.online.memory.vote.tolist(),
            "votes": [
                None if any(map(math.isnan, vote)) else vote
                for vote in challenger.online.votes.tolist()
            ],
            "half_lives": list(challenger.model.rates_().half_lives),
            "experts": [expert.name for expert in challenger.online.memory.experts],
        }
    if challenger.prior is not None:
        result["prior"] = challenger.prior.tolist()
    settled = challenger.model.line_ or {}
    result["settled_night"] = settled.get("night")
    result["first_night"] = settled.get("first_night")
    result["open_event_ids"] = list(settled.get("open_event_ids", ()))
    experts = challenger.model.memory().experts
    result["experts"] = {expert.name: expert.night for expert in experts}
    return result


def _reports(evidence: Any, *, ordered: bool) -> dict[str, Any]:  # noqa: ANN401 - Evidence
    from ml_pipeline.evaluation.metrics import evaluate

    actual = evidence.actual_labels()
    report = evaluate(actual, evidence.challenger, evidence.labels, ordered=ordered)
    result: dict[str, Any] = {"metrics": report.summary(), "holdout_rows": report.rows}
    if evidence.champion is not None:
        incumbent = evaluate(actual, evidence.champion, evidence.labels, ordered=ordered)
        result["champion_metrics"] = incumbent.summary()
    return result


def _ignored(args: argparse.Namespace, strategy: str) -> list[str]:
    """Flags that the strategy has no use for."""
    useless: Mapping[str, tuple[str, ...]] = {
        "adaptive": ("learning_rate", "algorithm"),
        "sgd": ("algorithm",),
        "refit": ("learning_rate", "epochs"),
        "errors_only": ("learning_rate", "epochs", "algorithm"),
        "from_scratch": ("learning_rate", "epochs", "model_path", "strategy"),
    }
    return [name for name in useless[strategy] if getattr(args, name) is not None]


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
    temporary.replace(path)
