"""Registered models: who serves, who served, and changes that are verified first."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from ml_pipeline import commands, config, scoring
from ml_pipeline.config import Settings
from ml_pipeline.domain import ArtifactRef, ModelState, ModelVersion, PromotionEvent, PromotionKind
from ml_pipeline.errors import ArtifactCorrupt, ArtifactIncompatible, PromotionRefused
from ml_pipeline.sample import Sample
from ml_pipeline.scoring import Scorer
from ml_pipeline.store import ArtifactShelf, ModelShelf, Store

MODEL_BUCKET = "ml-models"
REPRODUCED_WITHIN = 1e-12
SCORED_WITHIN = 1e-9


def artifact_path(model_name: str, model_id: str) -> str:
    """Where a model's artifact stands in its bucket."""
    return f"{model_name}/{model_id}/model.skops"


def scoring_path(model_name: str, model_id: str) -> str:
    """Where a model's scoring file stands in its bucket, beside the artifact."""
    return f"{model_name}/{model_id}/model.scoring"


def fetch_model(store: ArtifactShelf, version: ModelVersion, folder: Path) -> Path:
    """Bring a verified artifact into `folder`."""
    return store.fetch(version.artifact, folder / f"{version.model_id}.skops")


def load_model_version(store: ArtifactShelf, version: ModelVersion) -> Any:  # noqa: ANN401
    """Fetch, verify and load a registered model.

    Raises ArtifactCorrupt, ArtifactIncompatible.
    """
    from ml_pipeline import artifacts
    from ml_pipeline.adaptive import AdaptiveClassifier

    artifacts.check_library_versions(version.library_versions)
    with tempfile.TemporaryDirectory() as folder:
        path = fetch_model(store, version, Path(folder))
        model = artifacts.load_model(path, expected_digest=version.artifact.digest)
    if not isinstance(model, AdaptiveClassifier):
        message = f"Model {version.model_id} holds a {type(model).__name__}."
        raise ArtifactIncompatible(message, hint="Train and register it with this program.")
    return model


def verify(store: ArtifactShelf, version: ModelVersion, sample: Sample | None) -> None:
    """Load the stored bytes again and compare what artifact and scoring file predict.

    Raises ArtifactCorrupt when the stored model says something else than the trained one said.
    """
    import numpy as np

    model = load_model_version(store, version)
    scorer = load_scorer(store, version)
    if sample is None:
        return
    _compare_said(version, model.predict_proba(sample.features), sample, REPRODUCED_WITHIN)
    if scorer is not None:
        said = [scorer.probabilities(values, text) for values, text in sample.rows()]
        _compare_said(version, np.asarray(said), sample, SCORED_WITHIN)


def load_scorer(store: ArtifactShelf, version: ModelVersion) -> Scorer | None:
    """Fetch, verify and read a model's scoring file; None when it has none."""
    if "scoring" not in version.lineage:
        return None
    ref = ArtifactRef(**version.lineage["scoring"])
    with tempfile.TemporaryDirectory() as folder:
        path = store.fetch(ref, Path(folder) / "model.scoring")
        return scoring.load(str(path), digest=ref.digest, size=ref.size)


def _compare_said(version: ModelVersion, said: Any, sample: Sample, within: float) -> None:  # noqa: ANN401
    import numpy as np

    if said.shape != sample.probabilities.shape:
        raise ArtifactCorrupt(f"The stored model {version.model_id} answers in another shape.")
    worst = float(np.abs(said - sample.probabilities).max(initial=0.0))
    if worst > within:
        raise ArtifactCorrupt(
            f"The stored model {version.model_id} differs from the trained one by {worst:.3g}.",
            hint="It was not promoted. Run again; if it happens twice, report it.",
        )


def line_head(store: ModelShelf, champion: ModelVersion) -> ModelVersion:
    """The model from which the live line goes on: the judged member that has learned the most.

    A rollback is a person's word: the line goes on from the model they chose. Candidates were
    never judged; a run crashed between registering and judging them. Creation times decide only
    between equals, because the clocks of machines differ.
    """
    if is_rolled_back(store, champion) is not None:
        return champion
    members = store.list_models(model_name=champion.model_name, anchor_id=champion.anchor_id)
    judged = [model for model in members if model.state is not ModelState.CANDIDATE]
    return max(judged, key=_learned_until, default=champion)


def _learned_until(model: ModelVersion) -> tuple[int, datetime]:
    return model.lineage.get("settled_night") or 0, model.created_at


def is_rolled_back(store: ModelShelf, champion: ModelVersion) -> PromotionEvent | None:
    """The rollback that made the champion serve, if that is why it serves."""
    events = store.promotion_events(model_name=champion.model_name, limit=1)
    if events and events[0].kind is PromotionKind.ROLLBACK:
        return events[0]
    return None


def change_champion(  # noqa: PLR0913 - one event has that many parts
    store: Store,
    *,
    target: ModelVersion,
    expected: str | None,
    kind: PromotionKind,
    reason: str,
    actor: str,
    now: datetime,
    event_id: str,
    run_id: str | None = None,
    sample: Sample | None = None,
    verdict: Mapping[str, Any] | None = None,
) -> ModelVersion:
    """Verify the stored artifact, then make it champion if `expected` still is.

    Raises ArtifactError or PromotionRefused, and changes nothing then.
    """
    verify(store, target, sample)
    event = PromotionEvent(
        event_id=event_id,
        model_name=target.model_name,
        kind=kind,
        to_model_id=target.model_id,
        from_model_id=expected,
        reason=reason,
        actor=actor,
        created_at=now,
        run_id=run_id,
        verdict=verdict or {},
    )
    return store.promote(event)


# ---------------------------------------------------------------------------------- command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `models`."""
    commands.add_common(parser)
    actions = parser.add_subparsers(dest="action", required=True)
    commands.add_action(actions, "list", "registered models, newest first")
    show = commands.add_action(actions, "show", "one model and its history")
    show.add_argument("model_id")
    compare = commands.add_action(actions, "compare", "two models on rows neither has learned")
    compare.add_argument("model_id")
    compare.add_argument("other_id")
    promote = commands.add_action(actions, "promote", "make a model champion")
    promote.add_argument("model_id")
    promote.add_argument("--reason", default="", help="why (required with --force)")
    promote.add_argument("--force", action="store_true", help="although the gate rejected it")
    back = commands.add_action(actions, "rollback", "make an earlier champion serve again")
    back.add_argument("--to", metavar="ID", help="which (default: the champion before)")
    back.add_argument("--reason", required=True, help="why")
    export = commands.add_action(actions, "export", "write the registry as model_registry.json")
    export.add_argument("--output_dir", default="./models", help="(default: %(default)s)")
    export.add_argument("--with_artifacts", action="store_true", help="the models' bytes as well")
    prune = commands.add_action(actions, "prune", "give up old models' bytes and runs' logs")
    prune.add_argument("--keep", type=_count, required=True, help="how many of the newest stay")
    prune.add_argument(
        "--older_than_days", type=_count, default=30, help="younger ones stay (default: 30)"
    )
    prune.add_argument("--apply", action="store_true", help="do it (default: only say what)")
    imported = commands.add_action(actions, "import", "register the models of an exported file")
    imported.add_argument("file")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number over 0")
    return int(text)


def run(args: argparse.Namespace, *, now: datetime, new_id: str) -> int:
    """List, show, promote or roll back; prints JSON."""
    from ml_pipeline.wiring import open_store

    settings = config.load_settings(commands.path_or_none(args.config))
    store = open_store(config.load_store_settings(args.local))
    try:
        result = _act(store, args, settings, now=now, new_id=new_id)
    finally:
        store.close()
    commands.print_json(result)
    return 0


def _act(
    store: Store, args: argparse.Namespace, settings: Settings, *, now: datetime, new_id: str
) -> dict[str, Any]:
    name = settings.model_name
    actions: Mapping[str, Callable[[], dict[str, Any]]] = {
        "list": lambda: {"models": [as_json(m) for m in store.list_models(model_name=name)]},
        "show": lambda: _show(store, args, name),
        "compare": lambda: _compare(store, args, settings, now=now),
        "promote": lambda: _promote(store, args, name, now=now, new_id=new_id),
        "rollback": lambda: _rollback(store, args, name, now=now, new_id=new_id),
        "export": lambda: _export(store, args, settings, now=now),
        "prune": lambda: _prune(store, args, name, now=now),
        "import": lambda: _import(store, args, settings, now=now, new_id=new_id),
    }
    return actions[args.action]()


def _show(store: Store, args: argparse.Namespace, model_name: str) -> dict[str, Any]:
    model = store.get_model(model_name, args.model_id)
    events = store.promotion_events(model_name=model_name)
    return as_json(model) | {
        "history": [event_json(e) for e in events if e.to_model_id == model.model_id]
    }


def _compare(
    store: Store, args: argparse.Namespace, settings: Settings, *, now: datetime
) -> dict[str, Any]:
    from ml_pipeline.comparison import compare

    return compare(store, settings, args.model_id, args.other_id, now=now)


def _export(
    store: Store, args: argparse.Namespace, settings: Settings, *, now: datetime
) -> dict[str, Any]:
    from ml_pipeline.registry_file import export

    folder = Path(args.output_dir)
    return export(store, settings, folder, now=now, with_artifacts=args.with_artifacts)


def _prune(
    store: Store, args: argparse.Namespace, model_name: str, *, now: datetime
) -> dict[str, Any]:
    from ml_pipeline import retention

    rule = retention.Retention(models=args.keep, window=timedelta(days=args.older_than_days))
    found = retention.plan(store, model_name, rule, now=now)
    if args.apply:
        retention.carry_out(store, found, now=now)
    return {"dry_run": not args.apply, **found.as_json()}


def _import(
    store: Store, args: argparse.Namespace, settings: Settings, *, now: datetime, new_id: str
) -> dict[str, Any]:
    from ml_pipeline.registry_file import import_file

    return import_file(store, settings, Path(args.file), now=now, event_id=new_id)


def _promote(
    store: Store, args: argparse.Namespace, model_name: str, *, now: datetime, new_id: str
) -> dict[str, Any]:
    if args.force and not args.reason:
        raise PromotionRefused("--force needs a --reason; it is kept in the history.")
    from ml_pipeline.approvals import Word, approve

    word = Word(model_name=model_name, reason=args.reason, now=now, event_id=new_id)
    return as_json(approve(store, args.model_id, word, force=args.force))


def _rollback(
    store: Store, args: argparse.Namespace, model_name: str, *, now: datetime, new_id: str
) -> dict[str, Any]:
    from ml_pipeline.approvals import Word, roll_back

    word = Word(model_name=model_name, reason=args.reason, now=now, event_id=new_id)
    return as_json(roll_back(store, args.to, word))


def as_json(model: ModelVersion) -> dict[str, Any]:
    """A registered model as plain JSON values."""
    return {
        "model_id": model.model_id,
        "model_name": model.model_name,
        "state": str(model.state),
        "algorithm": model.algorithm,
        "created_at": model.created_at.isoformat(),
        "parent_id": model.parent_id,
        "anchor_id": model.anchor_id,
        "run_id": model.run_id,
        "confidence_threshold": model.confidence_threshold,
        "artifact_path": f"{model.artifact.bucket}/{model.artifact.path}",
        "artifact_digest": model.artifact.digest,
        "metrics": dict(model.metrics),
        "library_versions": dict(model.library_versions),
        "pruned_at": None if model.pruned_at is None else model.pruned_at.isoformat(),
    }


def event_json(event: PromotionEvent) -> dict[str, Any]:
    """A change of champion as plain JSON values."""
    return {
        "at": event.created_at.isoformat(),
        "kind": str(event.kind),
        "from": event.from_model_id,
        "actor": event.actor,
        "reason": event.reason,
        "run_id": event.run_id,
    }


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return commands.main(
        "models",
        __doc__,
        add_arguments,
        lambda args: run(args, now=datetime.now(UTC), new_id=str(uuid4())),
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
