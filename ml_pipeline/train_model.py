"""Train a base, or fine-tune a model on new rows: `ml-pipeline train`.

A nightly run starts this module as a child process, so that a trainer that crashes, hangs or
asks for too much memory cannot take the run's record with it.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import resource
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from ml_pipeline import commands, config
from ml_pipeline.config import Settings
from ml_pipeline.errors import ConfigError, DataError, PipelineError, TrainingError

log = logging.getLogger("train_model")

RESULT_FILE = "result.json"
MODEL_FILE = "model.skops"
SCORING_FILE = "model.scoring"
EVIDENCE_FILE = "evidence.npz"
SAMPLE_FILE = "sample.npz"
SAMPLE_ROWS = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `train`."""
    commands.add_common(parser)
    add = parser.add_argument
    add("--dataset", help="training CSV (default: data.training_dataset of the config)")
    add("--output_dir", default="./models", help="folder for the model (default: %(default)s)")
    add(
        "--fine_tune",
        nargs="?",
        const=True,
        default=False,
        type=commands.boolean,
        help="learn on top of an existing model (default: false)",
    )
    add("--model_path", help="model to fine-tune (default: the store's champion, else a new base)")
    add("--learning_rate", type=float, help="step of strategy sgd "
        f"(default: {config.DEFAULT_LEARNING_RATE})")  # fmt: skip
    add("--epochs", type=int, help="most Newton steps, or passes of strategy sgd "
        f"(default: {config.DEFAULT_FINE_TUNE_EPOCHS})")  # fmt: skip
    add("--random_seed", type=int, help=f"(default: {config.RANDOM_STATE})")
    add("--algorithm", help="base algorithm (default: LogisticRegression)")
    add("--model_id", help="name of the new model (default: made from algorithm and time)")
    add("--from_table", action="store_true", help="train on ground_truth.table of the store")
    add(
        "--register",
        action="store_true",
        help="register the model, judge it beside the champion, promote it by the gate",
    )
    add(
        "--every_days",
        type=int,
        default=0,
        help="with --register: only when the last base registered so is that old (default: 0)",
    )
    add("--strategy", help="adaptive, sgd, refit or errors_only (default: adaptive)")
    run = parser.add_argument_group("given by the nightly run")
    run.add_argument("--model_digest", help="sha256 the model at --model_path must have")
    run.add_argument("--champion_path", help="serving model, when it is not the one to fine-tune")
    run.add_argument("--champion_digest", help="sha256 the model at --champion_path must have")
    run.add_argument("--champion_id", help="id of the serving model")
    run.add_argument("--memory_limit_mb", type=int, help="address space the trainer may take")
    run.add_argument(
        "--leash", type=commands.boolean, default=False, help="end when standard input ends"
    )
    run.add_argument(
        "--other_base",
        type=commands.boolean,
        default=False,
        help="the serving model stands on another base than the model to fine-tune",
    )
    run.add_argument("--new_base", choices=["fresh", "carried"], help="a base for the shadow")
    run.add_argument("--today", help="UTC day up to which rows are learned (default: today)")


def settings_from(args: argparse.Namespace) -> Settings:
    """Settings of the command, flags last."""
    return config.load_settings(
        commands.path_or_none(args.config),
        flags={
            "training.learning_rate": args.learning_rate,
            "training.epochs": args.epochs,
            "training.random_seed": args.random_seed,
            "training.algorithm": args.algorithm,
            "training.strategy": args.strategy,
        },
    )


def run(args: argparse.Namespace, *, now: datetime, new_id: str) -> int:
    """Train, write model, evidence and result, print the result as JSON."""
    if args.leash:
        threading.Thread(target=end_with_parent, daemon=True).start()
    if args.memory_limit_mb:
        limit_memory(args.memory_limit_mb)
    try:
        settings = settings_from(args)
        if args.from_table and args.dataset:
            raise ConfigError("Give either --from_table or --dataset.")
        if args.from_table or args.register:
            from ml_pipeline.enrolling import train_with_store

            result = train_with_store(args, settings, now=now, new_id=new_id)
        else:
            result = train(args, settings, now=now, new_id=new_id)
    except MemoryError:
        limit = "the memory limit (training.memory_limit_mb)"
        raise TrainingError(f"Training asked for more memory than {limit} allows.") from None
    commands.print_json(result)
    return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """What was read before training: rows and their split, and the champion to be judged beside.

    `learned_until` is the time of the last row to learn, for the lineage.
    """

    data: Any  # a Dataset
    champion: Any  # Serving, or None
    parts: Any  # a Split
    learned_until: str | None


def train(
    args: argparse.Namespace,
    settings: Settings,
    *,
    now: datetime,
    new_id: str,
    given: Given | None = None,
) -> dict[str, Any]:
    """The whole command but for printing; returns what `train` prints."""
    from ml_pipeline.strategies import Challenger

    if given is None:
        data = read_rows(args.dataset or settings.data.training_dataset, settings)
    else:
        data = given.data
    base: dict[str, Any] | None = None
    strategy = settings.training.strategy if args.fine_tune else "from_scratch"
    algorithm = settings.training.algorithm
    if not args.fine_tune:
        from ml_pipeline.strategies import train_base

        challenger: Challenger = train_base(
            data,
            settings,
            algorithm=algorithm,
            champion=None if given is None else given.champion,
            parts=None if given is None else given.parts,
        )
    else:
        head, base = _model_to_tune(args, settings, data)
        challenger = _fine_tune(args, settings, data, head, now)
    model_id = args.model_id or f"{algorithm.lower()}_{now:%Y%m%d_%H%M%S}_{new_id[:8]}"
    folder = Path(args.output_dir) / safe_name(model_id)
    _write_sample(folder, challenger.model, data.features)
    result = _write(folder, challenger, settings) | {
        "status": "completed",
        "model_id": model_id,
        "algorithm": algorithm if strategy in {"from_scratch", "refit"} else _kind(challenger),
        "fine_tune": bool(args.fine_tune),
        "strategy": strategy,
        "dataset_size": len(data),
        "timestamp": now.isoformat(),
        "ignored": _ignored(args, strategy),
        "base": base,
        "learned_until": None if given is None else given.learned_until,
    }
    _write_json(folder / RESULT_FILE, result)
    return result


def _kind(challenger: Any) -> str:  # noqa: ANN401 - a Challenger
    base = challenger.model.base_
    return type(base.steps[-1][1] if hasattr(base, "steps") else base).__name__


def safe_name(model_id: str) -> str:
    """The id, if it can be the name of a folder. Raises PipelineError."""
    if not model_id.replace("-", "").replace("_", "").replace(".", "").isalnum() or (
        model_id.startswith(".")
    ):
        raise PipelineError(
            f"{model_id!r} is no name for a model.", hint="Use letters, digits, - _ and dots."
        )
    return model_id


def read_rows(dataset: str, settings: Settings) -> Any:  # noqa: ANN401 - a Dataset
    """Rows of a training CSV, or of the file of labelled rows that a run writes."""
    from ml_pipeline import datasets

    if dataset == datasets.BUILTIN:
        return datasets.read_dataset(dataset, settings.data)
    frame = datasets.read_csv(Path(dataset))
    data = settings.data
    if {"event_id", "known_at"} <= set(frame.columns):
        data = settings.changed(
            {"data.time_column": "known_at", "data.group_column": "match_id"}
        ).data
    return datasets.from_frame(frame, data, source=dataset)


def _model_to_tune(
    args: argparse.Namespace,
    settings: Settings,
    data: Any,  # noqa: ANN401
) -> tuple[Any, dict[str, Any]]:
    if args.model_path:
        model = load_any(Path(args.model_path), args.model_digest, settings, data)
        return model, {"kind": "model_path", "path": args.model_path}
    if config.is_store_configured(args.local):
        found = _champion_of_store(args, settings)
        if found is not None:
            return found
    from ml_pipeline.datasets import read_dataset
    from ml_pipeline.strategies import train_base

    source = settings.data.training_dataset
    log.warning("No model to fine-tune was given: training a base on %s first", source)
    training_data = read_dataset(source, settings.data)
    challenger = train_base(training_data, settings, algorithm=settings.training.algorithm)
    return challenger.model, {"kind": "training_data", "dataset": source}


def _champion_of_store(
    args: argparse.Namespace, settings: Settings
) -> tuple[Any, dict[str, Any]] | None:
    from ml_pipeline.model_registry import load_model_version
    from ml_pipeline.wiring import open_store

    store = open_store(config.load_store_settings(args.local))
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
    from ml_pipeline import artifacts
    from ml_pipeline.adaptive import AdaptiveClassifier
    from ml_pipeline.strategies import new_model

    if path.suffix in artifacts.PICKLE_SUFFIXES:
        model = artifacts.load_local_pickle(path)
    else:
        model = artifacts.load_model(path, expected_digest=digest or artifacts.digest_file(path))
    if not isinstance(model, AdaptiveClassifier):
        if not hasattr(model, "predict_proba") or not hasattr(model, "classes_"):
            raise DataError(f"{path} holds a {type(model).__name__}, not a fitted classifier.")
        classes = [str(label) for label in model.classes_]
        model = new_model(model, data.features, classes, settings)
    check_fits(model, settings)
    return model


def check_fits(model: Any, settings: Settings) -> None:  # noqa: ANN401 - AdaptiveClassifier
    """Raise DataError when a model expects other features or classes than the config names."""
    expected = list(model.feature_names_) or settings.data.features
    if expected != settings.data.features or model.n_features_in_ != len(settings.data.features):
        raise DataError(
            f"The model was trained on the features {', '.join(expected)} "
            f"({model.n_features_in_}), the config names {', '.join(settings.data.features)}.",
            hint="Set data.features to the model's, or train a new base.",
        )
    classes = [str(label) for label in model.classes_]
    if settings.data.classes is not None and set(classes) != set(settings.data.classes):
        raise DataError(
            f"The model knows the classes {', '.join(classes)}, "
            f"the config names {', '.join(settings.data.classes)}.",
            hint="Set data.classes to the model's, or train a new base.",
        )


def _fine_tune(
    args: argparse.Namespace,
    settings: Settings,
    data: Any,  # noqa: ANN401
    head: Any,  # noqa: ANN401
    now: datetime,
) -> Any:  # noqa: ANN401
    from ml_pipeline import strategies
    from ml_pipeline.datasets import read_dataset

    champion_model = head
    if args.champion_path:
        champion_model = load_any(Path(args.champion_path), args.champion_digest, settings, data)
    champion = strategies.Serving(model_id=args.champion_id or "", model=champion_model)
    strategy = settings.training.strategy
    today = date.fromisoformat(args.today) if args.today else now.date()
    if args.new_base:
        return strategies.base_in_shadow(
            data, head, today, settings, carry_heads=args.new_base == "carried"
        )
    if strategy == "adaptive":
        if data.times is None or "event_id" not in data.frame.columns:
            return strategies.fine_tune_rows(head, data, settings)
        return strategies.adapt(head, champion, data, today, settings, other_base=args.other_base)
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
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    rows = features[-SAMPLE_ROWS:]
    np.savez_compressed(
        folder / SAMPLE_FILE, features=rows, probabilities=model.predict_proba(rows)
    )


def _write(folder: Path, challenger: Any, settings: Settings) -> dict[str, Any]:  # noqa: ANN401
    from ml_pipeline import artifacts
    from ml_pipeline.scoring_file import write_scoring

    model_path = folder / MODEL_FILE
    artifacts.save_model(challenger.model, model_path)
    write_scoring(challenger.model, folder / SCORING_FILE)
    evidence_path = folder / EVIDENCE_FILE
    challenger.evidence.save(evidence_path)
    result: dict[str, Any] = {
        "model_path": str(model_path),
        "model_digest": artifacts.digest_file(model_path),
        "evidence_path": str(evidence_path),
        "training_rows": challenger.rows_learned,
        "training_digest": challenger.training_digest,
        "metrics": {},
        "cross_validation": challenger.cross_validation,
        "library_versions": artifacts.library_versions(),
    }
    if len(challenger.evidence):
        result |= _reports(challenger.evidence, ordered=settings.data.ordered)
    if challenger.line is not None:
        result["line"] = {
            "ledger": challenger.line.ledger.tolist(),
            "champions": list(challenger.line.champions),
            "vote": challenger.line.memory.vote.tolist(),
            "votes": [
                None if any(map(math.isnan, vote)) else vote
                for vote in challenger.line.votes.tolist()
            ],
            "half_lives": list(challenger.model.rates_().half_lives),
        }
    if challenger.prior is not None:
        result["prior"] = challenger.prior.tolist()
    settled = challenger.model.line_ or {}
    result["settled_night"] = settled.get("night")
    result["first_night"] = settled.get("first_night")
    result["open_event_ids"] = list(settled.get("open_event_ids", ()))
    return result


def _reports(evidence: Any, *, ordered: bool) -> dict[str, Any]:  # noqa: ANN401 - Evidence
    from ml_pipeline.evaluation import evaluate

    actual = evidence.actual_labels()
    report = evaluate(actual, evidence.challenger, evidence.labels, ordered=ordered)
    result: dict[str, Any] = {"metrics": report.summary(), "holdout_rows": report.rows}
    if evidence.champion is not None:
        rival = evaluate(actual, evidence.champion, evidence.labels, ordered=ordered)
        result["champion_metrics"] = rival.summary()
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


def end_with_parent() -> None:
    """End this process when the one that holds the other end of standard input is gone."""
    os.read(0, 1)
    os._exit(1)


def limit_memory(megabytes: int) -> None:
    """Make allocations past the limit fail in this process instead of taking the machine."""
    size = megabytes * 1024 * 1024
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        size = min(size, hard)
    resource.setrlimit(resource.RLIMIT_AS, (size, hard))


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return commands.main(
        "train",
        __doc__,
        add_arguments,
        lambda args: run(args, now=datetime.now(UTC), new_id=uuid4().hex),
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
