"""Registered models: who serves, who served, and changes that are verified first."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ml_pipeline.commands import common
from ml_pipeline.config.environment import load_store_settings
from ml_pipeline.config.settings import Settings, load_settings
from ml_pipeline.errors import ArtifactError, NotFound, PromotionRefused
from ml_pipeline.store.contract import Store
from ml_pipeline.store.json_values import event_json, model_json
from ml_pipeline.store.records import ModelVersion

if TYPE_CHECKING:
    from ml_pipeline.reports.terminal import Part

log = logging.getLogger("models")

OTHER_DOORS = "`ml-pipeline serve` and `ml-pipeline predict` answer with it."

EXAMPLES = (
    "models list",
    "models show MODEL_ID",
    'models rollback --reason "wrong on Mondays"',
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `models`."""
    common.add_common(parser, *EXAMPLES)
    actions = common.add_actions(parser)
    common.add_action(actions, "list", "registered models, newest first", "models list")
    show = common.add_action(actions, "show", "one model and its history", "models show MODEL_ID")
    show.add_argument("model_id")
    compare = common.add_action(
        actions,
        "compare",
        "two models on rows neither has learned",
        "models compare MODEL_ID OTHER_ID",
    )
    compare.add_argument("model_id")
    compare.add_argument("other_id")
    _add_changes(actions)
    export = common.add_action(
        actions,
        "export",
        "write the registry as model_registry.json",
        "models export --with-artifacts --output-dir exported",
    )
    export.add_argument("--output-dir", default="./models", help="(default: %(default)s)")
    export.add_argument("--with-artifacts", action="store_true", help="the models' bytes as well")
    _add_register(actions)
    common.add_action(
        actions,
        "publish",
        "let the database answer with the champion, for `rpc('predict')`",
        "models publish",
    )
    imported = common.add_action(
        actions,
        "import",
        "register the models of an exported file",
        "models import exported/model_registry.json",
    )
    imported.add_argument("file")


def _add_changes(actions: Any) -> None:  # noqa: ANN401 - argparse has no public name
    promote = common.add_action(
        actions,
        "promote",
        "make a model champion",
        "models promote MODEL_ID",
        'models promote MODEL_ID --force --reason "agreed with sales"',
    )
    promote.add_argument("model_id")
    promote.add_argument("--reason", default="", help="why (required with --force)")
    promote.add_argument(
        "--force", action="store_true", help="promote it although the gate rejected it"
    )
    back = common.add_action(
        actions,
        "rollback",
        "roll back to an earlier champion",
        'models rollback --reason "wrong on Mondays"',
        'models rollback --to MODEL_ID --reason "wrong on Mondays"',
    )
    back.add_argument("--to", metavar="ID", help="which (default: the champion before)")
    back.add_argument("--reason", required=True, help="why")
    prune = common.add_action(
        actions,
        "prune",
        "remove the bytes of old models, the logs of old runs, old requests",
        "models prune --keep 20",
        "models prune --keep 20 --older-than-days 90 --apply",
    )
    prune.add_argument("--keep", type=_count, required=True, help="how many of the newest stay")
    prune.add_argument(
        "--older-than-days", type=_count, default=30, help="younger ones stay (default: 30)"
    )
    prune.add_argument("--apply", action="store_true", help="do it (default: only show what)")


def _add_register(actions: Any) -> None:  # noqa: ANN401 - argparse has no public name
    register = common.add_action(
        actions,
        "register",
        "judge a classifier of your own (skops, ONNX) and let it serve",
        "models register classifier.onnx --fitted-until 2026-10-31",
        "models register classifier.skops --dataset rows.csv --dry-run",
    )
    add = register.add_argument
    add("file", help="a fitted classifier, .skops or .onnx")
    add("--model-id", help="its name here (default: made from its kind and the time)")
    add("--dataset", help="labelled CSV or Parquet to judge it on (default: the log's results)")
    add(
        "--fitted-until",
        metavar="TIME",
        help="when the last row that it was fitted on became known: it is judged on later ones, "
        "and a better one serves at once (default: a person decides)",
    )
    add("--dry-run", action="store_true", help="check and judge it, register nothing")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number over 0")
    return int(text)


def run(args: argparse.Namespace, *, now: datetime, new_id: str) -> int:
    """List, show, promote or roll back."""
    from ml_pipeline.store.opening import open_store

    settings = load_settings(common.path_or_none(args.config))
    store = open_store(load_store_settings(args.local))
    try:
        result = _act(store, args, settings, now=now, new_id=new_id)
    finally:
        store.close()
    common.answer(args, result, lambda: _view(args.action, result))
    return 1 if result.get("status") == "failed" else 0


def _view(action: str, result: Mapping[str, Any]) -> Iterable[Part]:
    from ml_pipeline.commands import models_view

    return models_view.view(action, result)


def _act(
    store: Store, args: argparse.Namespace, settings: Settings, *, now: datetime, new_id: str
) -> dict[str, Any]:
    name = settings.model_name
    actions: Mapping[str, Callable[[], dict[str, Any]]] = {
        "list": lambda: _list(store, name),
        "show": lambda: _show(store, args, name),
        "compare": lambda: _compare(store, args, settings, now=now),
        "promote": lambda: _promote(store, args, settings, now=now, new_id=new_id),
        "rollback": lambda: _rollback(store, args, settings, now=now, new_id=new_id),
        "export": lambda: _export(store, args, settings, now=now),
        "prune": lambda: _prune(store, args, settings, now=now),
        "register": lambda: _register(store, args, settings, now=now, new_id=new_id),
        "publish": lambda: _publish(store, settings),
        "import": lambda: _import(store, args, settings, now=now, new_id=new_id),
    }
    return actions[args.action]()


def _list(store: Store, model_name: str) -> dict[str, Any]:
    models = [model_json(model) for model in store.list_models(model_name=model_name)]
    if models:
        return {"models": models}
    others = store.served_names()
    if others:
        log.warning(
            "The store holds no model of the name %s, but of %s: set model_name in the settings, "
            "or name their file with --config",
            model_name,
            ", ".join(others),
        )
    return {"models": models, "other_names": others}


def _show(store: Store, args: argparse.Namespace, model_name: str) -> dict[str, Any]:
    model = store.get_model(model_name, args.model_id)
    events = store.promotion_events(model_name=model_name)
    return model_json(model) | {
        "history": [event_json(e) for e in events if e.to_model_id == model.model_id],
        "memories": _memories(store, model),
    }


def _memories(store: Store, model: ModelVersion) -> dict[str, Any] | None:
    """Which memory of a model is winning; None where there is none, or its bytes are deleted."""
    from ml_pipeline.registry.votes.stored import stored_vote
    from ml_pipeline.reports.memories import NOTHING_LEARNED, Say, Voters

    lineage = model.lineage
    if lineage.rates is None or model.pruned_at is not None:
        return None
    has_learned = lineage.first_night is not None or lineage.shadow_heads == "carried"
    try:
        vote = stored_vote(store, model)
        say = Say.of(Voters.of({**lineage.rates, "experts": vote.experts}), vote.weights)
    except (ArtifactError, NotFound, ValueError) as error:
        # What the row says of the model is shown all the same.
        return {"sentence": f"Which memory is winning cannot be told: {error}"}
    return say.as_json() if has_learned else say.as_json() | {"sentence": NOTHING_LEARNED}


def _compare(
    store: Store, args: argparse.Namespace, settings: Settings, *, now: datetime
) -> dict[str, Any]:
    # Here, for a cold start: it needs the libraries that the other actions do without.
    from ml_pipeline.commands.models_comparison import compare

    return compare(store, settings, args.model_id, args.other_id, now=now)


def _export(
    store: Store, args: argparse.Namespace, settings: Settings, *, now: datetime
) -> dict[str, Any]:
    from ml_pipeline.registry.exchange.export import export

    folder = Path(args.output_dir)
    return export(store, settings, folder, now=now, with_artifacts=args.with_artifacts)


def _prune(
    store: Store, args: argparse.Namespace, settings: Settings, *, now: datetime
) -> dict[str, Any]:
    from ml_pipeline.registry import retention

    rule = retention.Retention(models=args.keep, window=timedelta(days=args.older_than_days))
    found = retention.plan(store, settings.model_name, rule, now=now)
    if args.apply:
        retention.carry_out(store, found, now=now)
        retention.prune_requests(store, settings, now=now)
    return {"dry_run": not args.apply, **found.as_json()}


def _register(
    store: Store, args: argparse.Namespace, settings: Settings, *, now: datetime, new_id: str
) -> dict[str, Any]:
    from ml_pipeline.commands.models_registration import register

    return register(store, settings, args, now=now, new_id=new_id)


def _publish(store: Store, settings: Settings) -> dict[str, Any]:
    from ml_pipeline.registry.in_database.publishing import publish

    published = publish(store, settings)
    if published is None:
        raise NotFound(
            f"No model serves {settings.model_name} yet, so there is nothing to publish.",
            hint="Register one with `ml-pipeline train --register`, or run `ml-pipeline run`.",
        )
    if published.trouble is None:
        return {"status": "completed", "model_id": published.model_id}
    message = f"The database cannot answer with {published.model_id}: {published.trouble}."
    common.say(f"{message} {OTHER_DOORS}")
    return {"status": "failed", "model_id": published.model_id, "error": message}


def _import(
    store: Store, args: argparse.Namespace, settings: Settings, *, now: datetime, new_id: str
) -> dict[str, Any]:
    from ml_pipeline.registry.exchange.importing import import_file

    return import_file(store, settings, Path(args.file), now=now, event_id=new_id)


def _promote(
    store: Store, args: argparse.Namespace, settings: Settings, *, now: datetime, new_id: str
) -> dict[str, Any]:
    if args.force and not args.reason:
        raise PromotionRefused(
            "Nothing was promoted: --force needs a --reason, which is kept in the history."
        )
    from ml_pipeline.registry.champion import Decision, approve, who_answers_then

    decision = Decision(settings=settings, reason=args.reason, now=now, event_id=new_id)
    promoted = model_json(approve(store, args.model_id, decision, force=args.force))
    if not settings.incumbent.serves:
        return promoted
    meant = who_answers_then(args.model_id, decision)
    common.say(meant)
    return promoted | {"next": meant}


def _rollback(
    store: Store, args: argparse.Namespace, settings: Settings, *, now: datetime, new_id: str
) -> dict[str, Any]:
    from ml_pipeline.registry.champion import Decision, roll_back

    decision = Decision(settings=settings, reason=args.reason, now=now, event_id=new_id)
    return model_json(roll_back(store, args.to, decision))


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main(
        "models",
        __doc__,
        add_arguments,
        lambda args: run(args, now=datetime.now(UTC), new_id=str(uuid4())),
        argv,
    )
