"""What a watchdog reads of single events in the embedded store: their order, and a few of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from zlib import crc32

from ml_pipeline.store.alerts import SAMPLED_FROM, LabelDelays
from ml_pipeline.store.embedded.database import Database
from ml_pipeline.store.embedded.tables import CHOSEN, IN_WINDOW, chosen, within
from ml_pipeline.store.inputs.labels import ANY_LABEL, Labels
from ml_pipeline.store.records import UNCERTAIN, LookbackWindow

if TYPE_CHECKING:
    import pandas as pd

_IN_ORDER: Final = f"""
    SELECT accuracy = 1 OR agree(prediction, actual_result) AS is_right FROM evaluation_log
    WHERE actual_result IS NOT NULL AND {CHOSEN}
      AND prediction <> '{UNCERTAIN}' AND confidence IS NOT NULL
    ORDER BY timestamp DESC, event_id DESC LIMIT :rows
"""  # noqa: S608 - constants
_DELAYS: Final = f"""
    WITH delays AS (
        SELECT julianday(known_at) - julianday(timestamp) AS delay FROM evaluation_log
        WHERE actual_result IS NOT NULL AND {IN_WINDOW} AND known_at > timestamp
    ), placed AS (
        SELECT delay, row_number() OVER (ORDER BY delay) AS place, count(*) OVER () AS total
        FROM delays
    )
    SELECT count(*) AS "rows", max(delay) FILTER (WHERE place = (total + 1) / 2) AS median,
           max(delay) FILTER (WHERE place = (9 * total + 9) / 10) AS most
    FROM placed
"""  # noqa: S608 - constants
_SAMPLE: Final = """
    SELECT event_id, timestamp, known_at, model_id, prediction, actual_result, confidence,
           iif(:with_features, features, NULL) AS features
    FROM evaluation_log WHERE event_id IN (
        SELECT event_id FROM (
            SELECT event_id FROM evaluation_log WHERE actual_result {known} AND {chosen}
            ORDER BY known_at DESC, event_id DESC LIMIT :sampled_from
        ) ORDER BY spread(event_id), event_id LIMIT :rows
    ) ORDER BY known_at, event_id
"""


class LocalSamples:
    """The part of `WatchLedger` that reads single events."""

    _database: Database

    def label_delays(self, window: LookbackWindow, *, model_name: str) -> LabelDelays:
        """Of labelled events that became known in the window, after their prediction."""
        with self._database.reading() as db:
            return LabelDelays(**dict(db.execute(_DELAYS, within(window, model_name)).fetchone()))

    def answers_in_order(
        self,
        window: LookbackWindow,
        *,
        model_name: str,
        model_ids: Sequence[str] | None,
        labels: Labels = ANY_LABEL,
        rows: int,
    ) -> list[bool]:
        """Whether each answer was right, in the order of their predictions: the last `rows`."""
        values = chosen(window, model_name, model_ids) | {"rows": rows}
        with self._database.reading() as db:
            db.create_function("agree", 2, labels.agree, deterministic=True)
            found = [bool(row["is_right"]) for row in db.execute(_IN_ORDER, values)]
        return found[::-1]

    def sample_events(  # noqa: PLR0913 - which events, and what of them
        self,
        window: LookbackWindow,
        *,
        model_name: str,
        model_ids: Sequence[str] | None,
        labelled: bool,
        rows: int,
        with_features: bool = True,
    ) -> pd.DataFrame:
        """At most `rows` events of the window, ordered by time and id."""
        from ml_pipeline.store.event_frames import sample_frame

        query = _SAMPLE.format(known="IS NOT NULL" if labelled else "IS NULL", chosen=CHOSEN)
        values = chosen(window, model_name, model_ids) | {
            "rows": rows,
            "with_features": with_features,
            "sampled_from": SAMPLED_FROM,
        }
        with self._database.reading() as db:
            # Ids of one machine may be in the order of time; their checksums are in none.
            db.create_function("spread", 1, lambda text: crc32(text.encode()), deterministic=True)
            return sample_frame([tuple(row) for row in db.execute(query, values)])
