"""What is wrong with the champion: none serves, its libraries differ, its artifact is damaged."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from ml_pipeline.commands.checks.examined import Examined, time_in_utc
from ml_pipeline.commands.checks.findings import Finding, fault, fine, warning
from ml_pipeline.config.defaults import INCUMBENT_BASE
from ml_pipeline.errors import ArtifactIncompatible, PipelineError
from ml_pipeline.store.records import ModelVersion


def champion(examined: Examined) -> Iterator[Finding]:
    """Whether a champion serves, by a row that can be read and libraries that can load it."""
    from ml_pipeline.registry import archive

    model = examined.champion()
    if model is None:
        needed = examined.settings.training.min_training_samples
        what = f"No model serves {examined.model_name} yet, so nothing can be predicted."
        do = (
            f"Run `ml-pipeline train --register`, or wait for the first run that finds {needed} "
            "labelled rows."
        )
        yield warning("champion", what, do)
        return
    registered = time_in_utc(model.created_at)
    yield fine("champion", f"The champion is {model.model_id}, registered {registered}.")
    try:
        archive.check_library_versions(model.library_versions)
    except ArtifactIncompatible as error:
        yield fault("champion_versions", error.message, error.hint)
    else:
        yield fine("champion_versions", "The libraries installed here can load the champion.")


def champion_bytes(examined: Examined) -> Iterator[Finding]:
    """Whether the champion's files are there, by their names alone: quick enough for every look."""
    from ml_pipeline.registry import models

    model = examined.champion()
    if model is None:
        return
    refs = [model.artifact, *([model.lineage.scoring] if model.lineage.scoring else [])]
    folders = {(ref.bucket, ref.path.rpartition("/")[0]) for ref in refs}
    there = {
        f"{folder}/{name}"
        for bucket, folder in folders
        for name in examined.store.names(bucket, folder)
    }
    name = "champion_artifact"
    if model.artifact.path not in there:
        what = f"The bytes of the champion {model.model_id} are gone: {model.artifact.path}."
        yield fault(name, what, models.ways_out(examined.store, model))
    elif any(ref.path not in there for ref in refs):
        yield _without_scoring(f"The scoring file of the champion {model.model_id} is gone.")
    else:
        yield fine(name, "The champion's files are there.")


def database_answers(examined: Examined) -> Iterator[Finding]:
    """Whether the database answers an app's call with the champion, where it can at all."""
    from ml_pipeline.registry.in_database.publishing import rules_of

    name, model = "database_answers", examined.champion()
    if model is None or not examined.store.answers:
        return
    published = examined.store.published(examined.model_name)
    publish = "If an app calls it, run `ml-pipeline models publish`; the next run does it, too."
    if published is None:
        yield fine(name, "The database has nothing to answer an app with.", publish)
    elif published.model_id != model.model_id:
        what = f"The database has {published.model_id} to answer with, and the champion is another."
        yield warning(name, what, "Run `ml-pipeline models publish`.")
    elif published.settings_digest != rules_of(examined.settings).digest:
        what = "The database answers by other settings than these (labels, prediction, log)."
        yield warning(name, what, "Run `ml-pipeline models publish`; the next run does it, too.")
    elif published.trouble is not None:
        what = f"The database cannot answer with the champion: {published.trouble}."
        yield fine(name, what, "Let the app ask `ml-pipeline serve`.")
    else:
        asked = "correct" if model.algorithm == INCUMBENT_BASE else "predict"
        yield fine(name, f"The database answers rpc('{asked}') with the champion.")


def _without_scoring(what: str) -> Finding:
    return warning(
        "champion_scoring",
        f"{what} Predictions are scored from its artifact, more slowly.",
        "Put it back from an export: `ml-pipeline models import FILE`. The next promotion brings "
        "one, too.",
    )


def champion_artifact(examined: Examined) -> Iterator[Finding]:
    """Whether the champion's bytes are the registered ones and load, and those it goes back to."""
    from ml_pipeline.registry import models

    name = "champion_artifact"
    model = examined.champion()
    if model is None:
        return
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = models.fetch_model(examined.store, model, Path(folder))
            loads = _loads(model, path)
    except PipelineError as error:
        yield fault(name, f"The champion cannot be loaded: {error.message}", error.hint)
        return
    what = "it loads" if loads else "other libraries load it"
    yield fine(name, f"The champion's artifact has its registered digest, and {what}.")
    try:
        models.load_scorer(examined.store, model)
    except PipelineError as error:
        yield _without_scoring(error.message)
    yield from _lineage_bytes(examined, model)


def _loads(model: ModelVersion, path: Path) -> bool:
    """False when it needs other libraries, which is a finding of its own."""
    from ml_pipeline.registry import archive, models

    try:
        archive.check_library_versions(model.library_versions)
    except ArtifactIncompatible:
        return False
    models.load_classifier(path, model.artifact.digest, source=models.source_of(model))
    return True


def _lineage_bytes(examined: Examined, model: ModelVersion) -> Iterator[Finding]:
    """Whether the models that the next run needs can be fetched: the head, the approved base."""
    from ml_pipeline.registry import models
    from ml_pipeline.registry.serving_state import lineage_head

    store, name = examined.store, "lineage_bytes"
    needed = {lineage_head(store, model).model_id, model.anchor_id} - {model.model_id}
    for model_id in sorted(needed):
        try:
            with tempfile.TemporaryDirectory() as folder:
                version = store.get_model(model.model_name, model_id)
                models.fetch_model(store, version, Path(folder))
        except PipelineError as error:
            yield fault(name, f"The next run needs {model_id}. {error.message}", error.hint)
            return
    yield fine(name, "The models that the next run goes on from are there.")
