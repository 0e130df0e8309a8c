"""Give a store that answers predictions itself what its champion's answers are made of."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate
from pathlib import Path

from ml_pipeline.config.settings import Settings
from ml_pipeline.errors import ArtifactError, NotFound, StoreError
from ml_pipeline.registry import scoring
from ml_pipeline.registry.in_database.compiling import compile_scoring
from ml_pipeline.registry.in_database.program import PROGRAM_FORMAT, Inexpressible
from ml_pipeline.store.contract import Store
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.records import ModelVersion
from ml_pipeline.store.scoring.records import AnswerRules, ModelScoring, ScoringProgram

log = logging.getLogger("registry")


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """Which model the database answers with, or why it does not."""

    model_id: str
    trouble: str | None


def rules_of(settings: Settings) -> AnswerRules:
    """What answers take from the settings."""
    labels = Labels.of(settings.data)
    return AnswerRules(
        conflict_margin=settings.prediction.conflict_margin,
        imputes=settings.prediction.missing == "impute",
        labels=labels.tables(),
        is_open=labels.is_open,
        tolerance=timedelta(minutes=settings.log.future_tolerance_minutes),
        shares_labels=settings.ground_truth.model_column is not None,
    )


def scoring_of(store: Store, version: ModelVersion, settings: Settings) -> ModelScoring | None:
    """The model as the store's database runs it, or what is in its way.

    None where the store does not answer itself.
    """
    if not store.answers:
        return None
    ref, trouble, program = version.lineage.scoring, None, None
    try:
        if ref is None:
            trouble = f"it has no scoring file, as models of the kind {version.algorithm} have none"
        else:
            with tempfile.TemporaryDirectory() as folder:
                content = store.fetch(ref, Path(folder) / "model.scoring").read_bytes()
            program = _program(content)
    except (NotFound, ArtifactError) as error:
        trouble = f"its scoring file cannot be read: {error.message.rstrip('.')}"
    except Inexpressible as what:
        trouble = f"the database has no words for {what}"
    return ModelScoring(
        model_name=version.model_name,
        model_id=version.model_id,
        scoring_digest=None if ref is None else ref.digest,
        confidence_threshold=version.confidence_threshold,
        rules=rules_of(settings),
        program=program,
        trouble=trouble,
    )


def _program(content: bytes) -> ScoringProgram:
    """Raises Inexpressible, ArtifactCorrupt."""
    scorer = scoring.parse(content)
    compiled = compile_scoring(content)
    mean, scale = scorer.spread()
    return ScoringProgram(
        format=PROGRAM_FORMAT,
        features=compiled.features,
        kinds=compiled.kinds,
        classes=compiled.classes,
        base_classes=compiled.base_classes,
        members=compiled.members,
        mean=mean,
        scale=scale,
        level_features=[place + 1 for place, _ in scorer.known_levels],
        level_ends=list(accumulate(len(levels) for _, levels in scorer.known_levels)),
        known_levels=[level for _, levels in scorer.known_levels for level in levels],
        places=compiled.places,
        numbers=compiled.numbers,
        probe=mean,
        expected=scorer.probabilities(mean),
    )


def publish(store: Store, settings: Settings) -> Published | None:
    """Write what the champion's answers are made of; None where nobody serves.

    Raises PromotionRefused when another champion serves by now, StoreError.
    """
    champion = store.champion(model_name=settings.model_name)
    if champion is None:
        return None
    made = scoring_of(store, champion, settings)
    if made is None:
        what = "the embedded store is a file, which answers nothing itself"
        return Published(model_id=champion.model_id, trouble=what)
    return Published(model_id=champion.model_id, trouble=store.publish(made))


def refresh(store: Store, settings: Settings) -> None:
    """Publish the champion where the database has another one, or other settings.

    So has one that served before there was this. That a database cannot take it stops nothing: it
    is logged.
    """
    if not store.answers:
        return
    try:
        champion = store.champion(model_name=settings.model_name)
        if champion is None or _is_current(store, champion, settings):
            return
        published = publish(store, settings)
    except StoreError as error:
        log.warning("The database does not answer predictions itself: %s", error)
        return
    if published is not None and published.trouble is not None:
        log.info("The database cannot answer for %s: %s", published.model_id, published.trouble)


def _is_current(store: Store, champion: ModelVersion, settings: Settings) -> bool:
    known = store.published(champion.model_name)
    wanted = (champion.model_id, rules_of(settings).digest, PROGRAM_FORMAT)
    return known is not None and wanted == (known.model_id, known.settings_digest, known.format)
