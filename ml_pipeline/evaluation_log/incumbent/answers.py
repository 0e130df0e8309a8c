"""What an incumbent answered of a logged event, in SQL of DuckDB.

People see its own answer, which stands in the event's columns; or the one that `correct` made of
it, and then the incumbent's stands in the event's metadata. What a model of ours answered on its
own tells nothing of the incumbent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ml_pipeline.config.data import DataSettings
from ml_pipeline.config.settings import Settings
from ml_pipeline.evaluation_log.stage import Stage
from ml_pipeline.store.event_row import UNCERTAIN
from ml_pipeline.store.inputs.incumbent_columns import classes_read, own_features
from ml_pipeline.store.inputs.label_sql import NO_LABEL, UNKNOWN_LABEL, LabelCodes, listing
from ml_pipeline.store.inputs.probability_sql import by_class, shares_fault
from ml_pipeline.store.sql_text import literal

NO_ANSWER: Final = "no answer of the incumbent"
_THEIRS: Final = "the incumbent's"


def own_settings(settings: Settings) -> Settings:
    """The settings without the features that hold the incumbent's answer: no event has those."""
    data = settings.data
    if not classes_read(data.features):
        return settings
    own = data.with_features({name: data.kind(name) for name in own_features(data.features)})
    return settings.model_copy(update={"data": own})


def answering_models(stage: Stage, is_ours: Callable[[str], bool]) -> tuple[str, ...]:
    """Those of the logged models that are ours, of rows that do not tell an incumbent's answer."""
    found = stage.run(
        "SELECT DISTINCT model_id FROM kept WHERE original IS NULL AND model_id IS NOT NULL"
    )
    return tuple(sorted(model_id for (model_id,) in found if is_ours(model_id)))


def answer_text(ours: Sequence[str]) -> str:
    """SQL of the answer as JSON: by class, or the label and its confidence; NULL where none is."""
    label = f"CASE WHEN prediction = {literal(UNCERTAIN)} THEN guess ELSE prediction END"
    alone = f"json_object('prediction', {label}, 'confidence', confidence)::VARCHAR"
    return f"""CASE WHEN original IS NOT NULL THEN original
        WHEN coalesce(list_contains({listing(ours)}::VARCHAR[], model_id), false) THEN NULL
        WHEN probabilities IS NOT NULL THEN probabilities
        WHEN {label} IS NOT NULL THEN {alone} END"""


def answer_columns() -> str:
    """SQL of what `answer_fault` asks for, over the column `incumbent`."""
    named = "json_extract_string(incumbent, '$.prediction')"
    is_label = "json_valid(incumbent) AND json_type(incumbent, '$.prediction') = 'VARCHAR'"
    return (
        f", CASE WHEN {is_label} THEN {named} END AS incumbents_label, "
        f"{by_class('incumbent')} AS incumbents_shares"
    )


def answer_fault(data: DataSettings) -> str:
    """The branches of a CASE that say why the incumbent's answer is of no use."""
    code = LabelCodes(data).code("incumbents_label", is_prediction=False)
    confidence = "TRY_CAST(json_extract_string(incumbent, '$.confidence') AS DOUBLE)"
    shares = f"CASE {shares_fault(data, 'incumbents_shares', f'{_THEIRS} probabilities')} END"
    return f"""WHEN incumbent IS NULL THEN {literal(NO_ANSWER)}
        WHEN incumbents_label IS NOT NULL AND {code} IN ({NO_LABEL}, {UNKNOWN_LABEL})
            THEN {literal(f"{_THEIRS} prediction is no label")}
        WHEN incumbents_label IS NOT NULL AND coalesce({confidence} NOT BETWEEN 0 AND 1, true)
            THEN {literal(f"{_THEIRS} confidence is no number from 0 to 1")}
        WHEN incumbents_label IS NULL AND ({shares}) IS NOT NULL THEN {shares}"""
