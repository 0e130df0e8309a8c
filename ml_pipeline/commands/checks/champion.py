"""What is wrong with the champion: none serves, its libraries differ, its artifact is damaged."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from ml_pipeline.commands.checks.examined import Examined, time_in_utc
from ml_pipeline.commands.checks.findings import Finding, fault, fine, warning
from ml_pipeline.errors import ArtifactIncompatible, PipelineError


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


def champion_artifact(examined: Examined) -> Iterator[Finding]:
    """Whether the champion's bytes are there, are the registered ones, and load."""
    from ml_pipeline.registry import archive, models

    name = "champion_artifact"
    model = examined.champion()
    if model is None:
        return
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = models.fetch_model(examined.store, model, Path(folder))
            try:
                archive.check_library_versions(model.library_versions)
            except ArtifactIncompatible:
                yield fine(name, "The champion's artifact has its registered digest.")
                return
            archive.load_model(path, expected_digest=model.artifact.digest)
    except PipelineError as error:
        do = "Roll back to an earlier model: `ml-pipeline models rollback --reason …`."
        yield fault(name, f"The champion cannot be loaded: {error.message}", f"{error.hint} {do}")
        return
    yield fine(name, "The champion's artifact has its registered digest, and it loads.")
