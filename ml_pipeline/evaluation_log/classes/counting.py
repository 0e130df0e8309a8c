"""Count the results that a load found by day and class."""

# ruff: noqa: S608 - every value in a statement is a number or quoted

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from ml_pipeline.evaluation_log.classes.counts import ClassCount
from ml_pipeline.evaluation_log.rules import instant
from ml_pipeline.evaluation_log.stage import Stage
from ml_pipeline.store.records import UNCERTAIN
from ml_pipeline.store.sql_text import literal

# Older days are not counted, whatever the log's length.
DAYS: Final = 120


def count_by_class(stage: Stage, now: datetime) -> tuple[ClassCount, ...]:
    """The results to learn of the last `DAYS` days as they were answered, by day and class."""
    since = instant(now - timedelta(days=DAYS))
    is_answer = f"prediction <> {literal(UNCERTAIN)}"
    rows = stage.run(f"""WITH recent AS (SELECT day, outcome, prediction FROM events
            WHERE to_learn AND known >= {since}), counted AS (
        SELECT day, outcome AS label, count(*) AS results,
            count(*) FILTER ({is_answer}) AS answered, 0 AS named,
            count(*) FILTER (prediction = outcome) AS hits FROM recent GROUP BY ALL
        UNION ALL SELECT day, prediction, 0, 0, count(*), 0 FROM recent WHERE {is_answer}
            GROUP BY ALL)
        SELECT DATE '1970-01-01' + day::INTEGER, label, sum(results)::BIGINT,
            sum(answered)::BIGINT, sum(named)::BIGINT, sum(hits)::BIGINT FROM counted
        GROUP BY ALL ORDER BY ALL""")
    names = ("day", "label", "results", "answered", "named", "right")
    return tuple(ClassCount(**dict(zip(names, row, strict=True))) for row in rows)
