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
    code, is_plain = _code(data), _is_plain(data, names)
    number = "list_extract(map_extract(chances, {}), 1)"
    mine = f"""CASE WHEN prediction = {literal(UNCERTAIN)} THEN list_max({values})
        WHEN {is_plain} THEN {number.format("prediction")}
        ELSE list_sum([{number.format("k")} FOR k IN {names} IF {code} = p]) END"""
    unsound = shares_fault(data, "chances", "probabilities")
    return f"""CASE WHEN probabilities IS NULL THEN NULL {unsound}
        WHEN p = {NO_LABEL} THEN NULL
        WHEN {mine} IS NULL THEN 'probabilities do not name the prediction'
        WHEN abs(confidence - {mine}) > {CONFIDENCE_WITHIN!r}::DOUBLE
            THEN 'confidence contradicts probabilities' END"""


def shares_fault(data: DataSettings, chances: str, what: str) -> str:
    """The branches of a CASE that say why these are no probabilities of classes.

    `chances` is a column made by `by_class`, `what` how the faults call them.
    """
    names, values = f"map_keys({chances})", f"map_values({chances})"
    unknown = f"[k FOR k IN {names} IF {_code(data)} IN ({NO_LABEL}, {UNKNOWN_LABEL})]"
    faults = {
        f"{chances} IS NULL OR list_count({values}) < len({values})":
            "are not a JSON object of numbers",
        f"isnan(list_sum({values}))": "hold NaN",
        f"list_min({values}) < -{SUM_WITHIN:f}": "are negative",
        f"list_max({values}) > 1 + {SUM_WITHIN:f}": "are over 1 (percent?)",
        f"coalesce(abs(list_sum({values}) - 1), 1) > {SUM_WITHIN:f}":
            f"do not sum to 1 (within {SUM_WITHIN:f})",
        f"CASE WHEN {_is_plain(data, names)} THEN false ELSE len({unknown}) > 0 END":
            "name an unknown label",
    }  # fmt: skip
    return " ".join(
        f"WHEN {condition} THEN {literal(f'{what} {fault}')}" for condition, fault in faults.items()
    )


def _code(data: DataSettings) -> str:
    return LabelCodes(data).code("k", is_prediction=False)


def _is_plain(data: DataSettings, names: str) -> str:
    """Whether all names are classes as they are called."""
    return f"list_has_all({listing(Labels.of(data).names)}::VARCHAR[], {names})"
