"""Whose answers stand in the log, and whether the settings say so."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from ml_pipeline.commands.checks.examined import Examined
from ml_pipeline.commands.checks.findings import Finding, fine, warning
from ml_pipeline.errors import PipelineError

if TYPE_CHECKING:
    from ml_pipeline.evaluation_log.answering.logged_models import LoggedModels

DAYS: Final = 30
_NAME: Final = "answering"


def answering(examined: Examined) -> Iterator[Finding]:
    """Whether everybody who answered lately is a registered model, or one that the settings name.

    Named ones that are registered, or that have not answered, are told; so are ids that only look
    like those of our own training.
    """
    from ml_pipeline.evaluation_log.answering.logged_models import logged_models

    logging.getLogger("data_loader").setLevel(logging.ERROR)
    try:
        found = logged_models(
            examined.store, examined.settings, now=examined.now, days=DAYS, tell_apart=True
        )
    except PipelineError:  # which the check of the log tells
        return
    yield _answered(examined, found)
    named = examined.settings.incumbent.model_ids or ()
    yield from _registered([name for name in named if name in found.ours])
    yield from _resembling(found.resembling)


def _answered(examined: Examined, found: LoggedModels) -> Finding:
    from ml_pipeline.evaluation_log.answering import sentences

    settings = examined.settings
    proposed = sentences.proposal(settings, found.theirs, found.rows)
    if proposed is not None:
        what, _, do = proposed.partition(". ")
        return warning(_NAME, f"{what}.", do)
    if not settings.incumbent.serves:
        return fine(_NAME, f"The last {DAYS} days hold no answer of a classifier of your own.")
    if found.theirs:
        sentence = sentences.answering(settings, found.theirs)
        return fine(_NAME, f"{sentence} {found.rows:,} results of the last {DAYS} days are theirs.")
    what = f"incumbent.serves is set, and no result of the last {DAYS} days is of its answers."
    do = (
        "Log its answers with their model_id, and record outcomes; if the model_id is another one, "
        "name it in incumbent.model_ids."
    )
    return warning(_NAME, what, do)


def _registered(names: Sequence[str]) -> Iterator[Finding]:
    from ml_pipeline.evaluation_log.answering.sentences import shown

    if names:
        what = (
            f"incumbent.model_ids names {shown(names)}, which is registered here: its answers are "
            "not taken for those of a classifier of your own."
        )
        yield warning("incumbent_ids", what, "Take it out of incumbent.model_ids.")


def _resembling(names: Sequence[str]) -> Iterator[Finding]:
    from ml_pipeline.evaluation_log.answering.sentences import shown

    if names:
        what = (
            f"{shown(names)} answered, called as models are that are trained here, and the "
            "registry does not know it: it is of another store, or was never brought into this "
            "one. Its answers are taken for nobody's."
        )
        do = (
            "Bring it with `ml-pipeline models import FILE`; if a classifier of your own is called "
            "so, name it in incumbent.model_ids."
        )
        yield warning("unknown_models", what, do)
