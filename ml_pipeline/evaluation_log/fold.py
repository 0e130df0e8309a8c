"""From scanned rows to events: faults, rows of one id folded into one event, and the counts.

The same id may stand several times: a prediction, later its outcome, either repeated. Ids are
compared by their 64-bit hashes; among ten million, two equal ones are a chance of 1 in 400,000.
"""

# ruff: noqa: S608 - every value in a statement is a number or quoted by RowRules

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Final

import numpy as np

from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.kinds import resolved
from ml_pipeline.evaluation_log.feature_rules import (
    NO_FEATURES,
    feature_fault,
    feature_frame,
    feature_lists,
    written_features,
)
from ml_pipeline.evaluation_log.incumbent.answers import (
    answer_columns,
    answer_fault,
    answer_text,
    whose_are_theirs,
)
from ml_pipeline.evaluation_log.rules import (
    LogRequest,
    RowRules,
    day_number,
    instant,
)
from ml_pipeline.evaluation_log.stage import SETTLED, WAITING, Scanned, Stage
from ml_pipeline.store.inputs.label_sql import NO_LABEL, OTHER_MODEL, listing
from ml_pipeline.store.inputs.probability_sql import by_class
from ml_pipeline.store.inputs.times import time_sql
from ml_pipeline.store.records import UNCERTAIN
from ml_pipeline.store.sql_text import literal

# Ids are counted in slices of about this many rows, so that memory does not grow with the log.
_SLICE: Final = 1_500_000
_HASHES: Final = 2**64 - 1
# Rows by which the kinds of features are told that nobody names.
_SAMPLED: Final = 20_000
# What an event takes from the first of its rows that has it.
_FOLDED: Final = ("outcome", "features", "probabilities", "model_id", "match_id")
# The same where the answers of an incumbent are asked for.
_FOLDED_WITH_ANSWERS: Final = (*_FOLDED, "original")
UNUSABLE: Final = "unusable: "
TWO_OUTCOMES: Final = "conflicting outcomes"
NO_CLASS: Final = "outcome is no class of the model"


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """How many rows of a log became what; see `LoadReport`."""

    rows: int
    bad: int
    folded: int
    other_model: int
    pending: int
    outside: int
    labelled: int
    unusable: int
    errors: int
    reasons: dict[str, int]
    examples: dict[str, str]


def fold(
    stage: Stage,
    scanned: Scanned,
    settings: Settings,
    request: LogRequest,
    is_registered: Callable[[str], bool],
) -> Counts:
    """Make the relations `bad_rows` (row_no, reason) and `events` (one row per labelled event).

    `is_registered` says of a model's id whether the registry knows it: it is asked for logged
    answers that may be an incumbent's.
    """
    rules = RowRules(settings, scanned.columns, scanned.column)
    stage.run(_kept_query(rules, request))
    _find_repeated(stage, scanned)
    folded = _FOLDED_WITH_ANSWERS if request.of_incumbent else _FOLDED
    _fold_repeated(stage, folded, unsure=settings.incumbent.serves)
    stage.run(_bad_rows_query())
    stage.run(f"""CREATE OR REPLACE TEMP TABLE days AS
        SELECT day, p = {OTHER_MODEL} AS is_other, count(*) AS n
        FROM scanned WHERE state = {SETTLED} GROUP BY ALL""")
    stage.run("""CREATE OR REPLACE TEMP VIEW sound AS
        SELECT * FROM kept WHERE fault IS NULL AND h NOT IN (SELECT h FROM folded)""")
    incumbent = "NULL::VARCHAR"
    if request.of_incumbent:
        incumbent = answer_text(whose_are_theirs(stage, settings, is_registered))
    stage.run(_events_query(settings, request, folded, incumbent))
    return _count(stage, scanned)


def with_kinds(stage: Stage, scanned: Scanned, settings: Settings) -> Settings:
    """The settings with the kinds of the features as the log's rows have them, if not said yet."""
    data = settings.data
    if data.kinds or not (data.features or data.is_auto):
        return settings
    rules = RowRules(settings, scanned.columns, scanned.column)
    query = f"SELECT {rules.features()} AS features FROM whole LIMIT {_SAMPLED}"
    frame = feature_frame([text for (text,) in stage.run(query)], data)
    if len(frame) < settings.training.min_training_samples:
        # Too few to tell levels from slips: all are numbers, as nobody says otherwise.
        return settings
    return settings.reading(resolved(data, frame, settings.log.source).kinds)


def _kept_query(rules: RowRules, request: LogRequest) -> str:
    """`kept`: rows to examine, as values, with what is wrong with them."""
    labels = rules.labels
    original = rules.original() if request.of_incumbent else "NULL::VARCHAR"
    return f"""CREATE OR REPLACE TEMP TABLE kept AS
        SELECT row_no, h, p, a, state, event_id, match_id, model_id, known, confidence,
            prediction, guess, outcome, features, probabilities, original, made, past,
            {rules.fault(request.today)} AS fault
        FROM (SELECT *, {time_sql("time_text")} AS known,
                {rules.best_guess("guess_text")} AS guess,
                {by_class("probabilities")} AS chances, {time_sql("made_text")} AS made,
                {rules.confidence("confidence_text")} AS confidence
            FROM (SELECT row_no, h, p, a, state,
                {rules.text("event_id")} AS event_id, {rules.text("match_id")} AS match_id,
                {rules.text("model_id")} AS model_id, {rules.time_text()} AS time_text,
                {rules.past()} AS past,
                {rules.confidence_text()} AS confidence_text, {rules.features()} AS features,
                {rules.text("probabilities")} AS probabilities, {rules.made_text()} AS made_text,
                {labels.name("p", rules.raw("prediction"))} AS prediction,
                {rules.guess_text()} AS guess_text, {original} AS original,
                {labels.name("a", rules.raw("actual_result"))} AS outcome
                FROM whole))"""


def _find_repeated(stage: Stage, scanned: Scanned) -> None:
    """`again`: sound rows of ids that stand several times or are incomplete on their own."""
    stage.run("CREATE OR REPLACE TEMP TABLE repeated (h UBIGINT)")
    # Sorting numbers is much cheaper than grouping them. Each part is one of equal ranges.
    slices = scanned.rows // _SLICE + 1
    bounds = [number * (_HASHES // slices) for number in range(slices)] + [_HASHES]
    for low, high in pairwise(bounds):
        _insert_repeated(stage, f"h >= {low}::UBIGINT AND h <= {high}::UBIGINT")
    stage.run(f"""INSERT INTO repeated SELECT DISTINCT h FROM kept
        WHERE fault IS NULL AND (p = {NO_LABEL} OR confidence IS NULL)
        AND h NOT IN (FROM repeated)""")
    stage.run(f"""CREATE OR REPLACE TEMP TABLE again AS
        SELECT s.row_no, s.h, s.p, s.a,
            k.row_no IS NULL AND s.state = {SETTLED} AS settled,
            k.row_no IS NULL AND s.state = {WAITING} AS waiting,
            coalesce(k.known, make_timestamptz(s.day * 86400000000)) AS known,
            coalesce(k.past, 0) AS past, k.confidence, k.outcome IS NOT NULL AS has_outcome,
            k.features IS NOT NULL AS has_features, k.original IS NOT NULL AS has_original,
            k.probabilities IS NOT NULL AS has_probabilities,
            k.model_id IS NOT NULL AS has_model_id, k.match_id IS NOT NULL AS has_match_id
        FROM scanned s LEFT JOIN kept k ON k.row_no = s.row_no
        WHERE s.h IN (FROM repeated) AND s.p <> {OTHER_MODEL} AND k.fault IS NULL""")


def _insert_repeated(stage: Stage, condition: str) -> None:
    query = f"SELECT h FROM scanned WHERE {condition}"
    hashes = np.sort(np.asarray(stage.connection.execute(query).fetchnumpy()["h"]))
    twice = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
    if len(twice):
        stage.connection.register("twice", {"h": twice})
        stage.run("INSERT INTO repeated SELECT h FROM twice WHERE h NOT IN (FROM repeated)")
        stage.connection.unregister("twice")


def _fold_repeated(stage: Stage, names: Sequence[str], *, unsure: bool) -> None:
    """`folded`: a line per id in `again`; `first_…`: what its event takes from its other rows.

    A classifier of the person's own may well say nothing of how sure it is (`unsure`).
    An outcome counts from the first time it was known, and one that was corrected as the last row
    says. Only numbers are aggregated: unlike texts, they spill to disk.
    """
    first = ", ".join(f"min(row_no) FILTER (has_{name}) AS {name}_row" for name in names[1:])
    stage.run(f"""CREATE OR REPLACE TEMP TABLE folded AS SELECT *, CASE
            WHEN predictions > 1 THEN 'conflicting predictions'
            WHEN outcomes > 1 THEN {literal(TWO_OUTCOMES)}
            WHEN base IS NULL AND h IN (SELECT h FROM scanned WHERE p = {OTHER_MODEL})
                THEN 'other model'
            WHEN base IS NULL THEN 'outcome without a prediction'
            WHEN confidence IS NULL AND NOT settled AND NOT waiting AND NOT {unsure}
                THEN 'confidence is empty' END AS fault
        FROM (SELECT h, count(*) AS n, bool_or(settled) AS settled,
            bool_or(waiting) AS waiting, CASE WHEN max(past) = 0 THEN min(known) FILTER (a > 0)
                ELSE arg_max(known, past) FILTER (a > 0) END AS known,
            CASE WHEN max(past) = 0 THEN min(row_no) FILTER (has_outcome)
                ELSE arg_max(row_no, past) FILTER (has_outcome) END AS outcome_row,
            CASE WHEN max(p) = 0 OR min(p) FILTER (p > 0) = max(p) THEN 1 ELSE 2 END AS predictions,
            CASE WHEN max(past) > 0 OR max(a) = 0 OR min(a) FILTER (a > 0) = max(a)
                THEN 1 ELSE 2 END AS outcomes,
            min(row_no) FILTER (p > 0) AS base, {first},
            arg_min(confidence, row_no) FILTER (confidence IS NOT NULL) AS confidence
            FROM again GROUP BY h)""")
    for name in names:
        stage.run(f"""CREATE OR REPLACE TEMP TABLE first_{name} AS SELECT g.base, k.{name}
            FROM kept k JOIN folded g ON k.row_no = g.{name}_row
            WHERE g.{name}_row <> g.base AND g.fault IS NULL AND NOT g.settled""")


def _bad_rows_query() -> str:
    return """CREATE OR REPLACE TEMP TABLE bad_rows AS
        SELECT row_no, fault AS reason FROM kept WHERE fault IS NOT NULL
        UNION ALL SELECT row_no, fault FROM again JOIN folded USING (h)
        WHERE fault IS NOT NULL AND fault <> 'other model'"""


def _events_query(
    settings: Settings, request: LogRequest, folded: Sequence[str], incumbent: str
) -> str:
    """`events`: those with an outcome, whether to learn them, whether they are error samples."""
    found, texts, numbers, input_text = feature_lists(settings)
    threshold, window = float(settings.run.confidence_threshold), request.window
    mine = (
        "true"
        if request.model_ids is None
        else f"coalesce(list_contains({listing(request.model_ids)}::VARCHAR[], model_id), false)"
    )
    others = "false" if None in {request.model_ids, request.anchor_id} else mine
    of_line = f"{others} AND model_id IS DISTINCT FROM {literal(request.anchor_id or '')}"
    start = "true" if request.learn_from is None else f"known >= {instant(request.learn_from)}"
    also = written_features(request.also)
    unanswered = answer_fault(settings.data) if request.of_incumbent else ""
    answered = answer_columns() if request.of_incumbent else ""
    return f"""CREATE OR REPLACE TEMP TABLE events AS SELECT * EXCLUDE (features, found),
            CASE WHEN NOT wanted THEN NULL {_class_fault(request)} {unanswered}
                ELSE {feature_fault(settings)} END AS fault
        FROM (SELECT *, {numbers} AS numbers
        FROM (SELECT * REPLACE (CASE WHEN wanted THEN features END AS features),
            CASE WHEN wanted THEN {found} END AS found, CASE WHEN wanted THEN {texts} END AS texts,
            CASE WHEN wanted THEN {input_text} END AS input_text,
            CASE WHEN wanted THEN {also} END AS also
        FROM (SELECT *, to_learn OR is_error AS wanted{answered}
        FROM (SELECT event_id, match_id, known, {day_number("known")} AS day, model_id, prediction,
            guess, outcome, confidence, features, probabilities, made, {of_line} AS of_line,
            {incumbent} AS incumbent,
            {start} AND known <= {instant(request.now)} AS to_learn,
            CASE WHEN prediction = {literal(UNCERTAIN)} THEN coalesce(guess <> outcome, false)
                ELSE prediction <> outcome END
                AND coalesce(confidence > {threshold!r}::DOUBLE, false)
                AND known >= {instant(window.start)}
                AND known < {instant(window.end)} AND {mine} AS is_error
        FROM ({_whole_events(folded)}) WHERE outcome IS NOT NULL))))"""


def _class_fault(request: LogRequest) -> str:
    if request.classes is None:
        return ""
    return f"WHEN NOT list_contains({listing(request.classes)}, outcome) THEN {literal(NO_CLASS)}"


def _whole_events(names: Sequence[str]) -> str:
    taken = ", ".join(f"coalesce({name}.{name}, k.{name}) AS {name}" for name in names)
    joins = " ".join(f"LEFT JOIN first_{name} {name} ON {name}.base = g.base" for name in names)
    return f"""SELECT event_id, known, made, prediction, guess, confidence, {", ".join(names)}
        FROM sound
        UNION ALL
        SELECT k.event_id, g.known, k.made, k.prediction, k.guess, g.confidence, {taken}
        FROM folded g JOIN kept k ON k.row_no = g.base {joins}
        WHERE g.fault IS NULL AND NOT g.settled"""


def _count(stage: Stage, scanned: Scanned) -> Counts:
    number = stage.number
    bad = number("SELECT count(*) FROM bad_rows") + scanned.malformed
    settled = number("SELECT sum(n) FROM days WHERE NOT is_other")
    alone = settled - number("SELECT count(*) FROM again WHERE settled")
    old = number("SELECT count(*) FROM folded WHERE settled AND fault IS NULL")
    labelled = number("SELECT count(*) FROM events WHERE to_learn")
    reasons = _reasons(stage)
    return Counts(
        rows=scanned.rows + scanned.malformed,
        bad=bad,
        folded=number("SELECT sum(n - 1) FROM folded WHERE fault IS NULL"),
        other_model=number("SELECT sum(n) FROM days WHERE is_other")
        + number("SELECT sum(n) FROM folded WHERE fault = 'other model'"),
        pending=number("SELECT count(*) FROM sound WHERE outcome IS NULL")
        + number(f"SELECT count(*) FROM scanned WHERE state = {WAITING}")
        - number(f"SELECT count(*) FROM kept WHERE state = {WAITING}")
        - number("SELECT count(*) FROM again WHERE waiting")
        + number("SELECT count(*) FROM folded WHERE fault IS NULL AND known IS NULL"),
        outside=alone + old + number("SELECT count(*) FROM events WHERE NOT to_learn"),
        labelled=labelled,
        unusable=number("SELECT count(*) FROM events WHERE to_learn AND fault IS NOT NULL"),
        errors=number("SELECT count(*) FROM events WHERE is_error"),
        reasons={reason: count for reason, count, _ in reasons},
        examples={reason: event_id for reason, _, event_id in reasons if event_id is not None},
    )


def _reasons(stage: Stage) -> list[tuple[str, int, str | None]]:
    """What is wrong with how many rows, the commonest first, and the event id of one of them."""
    return stage.run(f"""SELECT reason, sum(lines)::BIGINT, min(event_id) FROM (
        SELECT reason, NULL AS event_id, lines FROM malformed
        UNION ALL SELECT reason, event_id, 1 FROM bad_rows LEFT JOIN kept USING (row_no)
        UNION ALL SELECT {literal(UNUSABLE)} || fault, event_id, 1 FROM events
            WHERE to_learn AND fault IS NOT NULL)
        GROUP BY reason ORDER BY sum(lines) DESC, reason""")


def needs_metadata(stage: Stage, settings: Settings) -> bool:
    """Whether an event is wanted whose features or best guess may stand in metadata.

    Or there, which of its two outcomes corrects the other.
    """
    threshold = float(settings.run.confidence_threshold)
    condition = f"""fault = {literal(NO_FEATURES)} OR (prediction = {literal(UNCERTAIN)}
        AND guess IS NULL AND confidence > {threshold!r}::DOUBLE)"""
    wanted = stage.number(f"SELECT count(*) FROM events WHERE {condition}")
    unclear = f"SELECT count(*) FROM folded WHERE fault = {literal(TWO_OUTCOMES)}"
    return wanted > 0 or stage.number(unclear) > 0


def labelled_by_day(stage: Stage) -> dict[date, int]:
    """Labelled events of the whole log per UTC day on which they became known."""
    rows = stage.run(f"""SELECT DATE '1970-01-01' + day::INTEGER, sum(n) FROM (
        SELECT day, n FROM days WHERE NOT is_other
        UNION ALL SELECT {day_number("known")}, -count(*) FROM again WHERE settled GROUP BY 1
        UNION ALL SELECT {day_number("known")}, count(*) FROM folded
            WHERE settled AND fault IS NULL GROUP BY 1
        UNION ALL SELECT day, count(*) FROM events GROUP BY day)
        GROUP BY day HAVING sum(n) > 0 ORDER BY day""")
    return {day: int(count) for day, count in rows}
