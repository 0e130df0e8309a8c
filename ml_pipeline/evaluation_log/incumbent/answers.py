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
from ml_pipeline.evaluation_log.answering.registered import MOST_ASKED, is_called_like_ours
from ml_pipeline.evaluation_log.answering.sentences import UNNAMED
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


def whose_are_theirs(stage: Stage, settings: Settings, is_registered: Callable[[str], bool]) -> str:
    """SQL over `model_id`: whether such an answer is the incumbent's.

    As `LoggedModels` tells them apart: those that the settings name; without, all that no model of
    ours gave. `is_registered` is asked of as few ids as there.
    """
    named = settings.incumbent.model_ids
    if named is not None:
        return _is_among([name for name in named if not is_registered(name)])
    found = stage.run("""SELECT model_id FROM kept WHERE original IS NULL AND model_id IS NOT NULL
        GROUP BY model_id ORDER BY max(known) DESC, count(*) DESC, model_id""")
    like, others = list[str](), list[str]()
    for (name,) in found:
        (like if is_called_like_ours(name) else others).append(name)
    return f"NOT {_is_among([*like, *filter(is_registered, others[:MOST_ASKED])])}"


def _is_among(model_ids: Sequence[str]) -> str:
    return f"list_contains({listing(model_ids)}::VARCHAR[], coalesce(model_id, {literal(UNNAMED)}))"


def answer_text(is_theirs: str) -> str:
    """SQL of the answer as JSON: by class, or the label and its confidence; NULL where none is."""
    label = f"CASE WHEN prediction = {literal(UNCERTAIN)} THEN guess ELSE prediction END"
    alone = f"json_object('prediction', {label}, 'confidence', confidence)::VARCHAR"
    return f"""CASE WHEN original IS NOT NULL THEN original
        WHEN NOT {is_theirs} THEN NULL
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
