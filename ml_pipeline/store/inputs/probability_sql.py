"""The probabilities of a logged answer in SQL of DuckDB, by the rules of `probabilities`."""

from __future__ import annotations

from ml_pipeline.config.data import DataSettings
from ml_pipeline.store.event_row import UNCERTAIN
from ml_pipeline.store.inputs.label_sql import NO_LABEL, UNKNOWN_LABEL, LabelCodes, listing
from ml_pipeline.store.inputs.labels import Labels
from ml_pipeline.store.inputs.probabilities import CONFIDENCE_WITHIN, SUM_WITHIN
from ml_pipeline.store.sql_text import literal


def by_class(x: str) -> str:
    """The map from each name to its number; NULL where the text is no such object."""
    return f"CASE WHEN json_valid({x}) THEN TRY_CAST({x}::JSON AS MAP(VARCHAR, DOUBLE)) END"


def probability_fault(data: DataSettings) -> str:
    """Why the probabilities of a row are bad, or NULL.

    Over `probabilities` (text), `chances` (`by_class` of it), `p` (the code of `prediction`) and
    `confidence`. Most rows name the classes as they are called, which is cheap to see.
    """
    names, values = "map_keys(chances)", "map_values(chances)"
    code = LabelCodes(data).code("k", is_prediction=False)
    classes = listing(Labels.of(data).names)
    is_plain = f"list_has_all({classes}::VARCHAR[], {names})"
    unknown = f"[k FOR k IN {names} IF {code} IN ({NO_LABEL}, {UNKNOWN_LABEL})]"
    number = "list_extract(map_extract(chances, {}), 1)"
    mine = f"""CASE WHEN prediction = {literal(UNCERTAIN)} THEN list_max({values})
        WHEN {is_plain} THEN {number.format("prediction")}
        ELSE list_sum([{number.format("k")} FOR k IN {names} IF {code} = p]) END"""
    return f"""CASE WHEN probabilities IS NULL THEN NULL
        WHEN chances IS NULL OR list_count({values}) < len({values})
            THEN 'probabilities are not a JSON object of numbers'
        WHEN isnan(list_sum({values})) THEN 'probabilities hold NaN'
        WHEN list_min({values}) < -{SUM_WITHIN:f} THEN 'probabilities are negative'
        WHEN list_max({values}) > 1 + {SUM_WITHIN:f} THEN 'probabilities are over 1 (percent?)'
        WHEN coalesce(abs(list_sum({values}) - 1), 1) > {SUM_WITHIN:f}
            THEN 'probabilities do not sum to 1 (within {SUM_WITHIN:f})'
        WHEN CASE WHEN {is_plain} THEN false ELSE len({unknown}) > 0 END
            THEN 'probabilities name an unknown label'
        WHEN p = {NO_LABEL} THEN NULL
        WHEN {mine} IS NULL THEN 'probabilities do not name the prediction'
        WHEN abs(confidence - {mine}) > {CONFIDENCE_WITHIN!r}::DOUBLE
            THEN 'confidence contradicts probabilities' END"""
