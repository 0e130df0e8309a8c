"""What a watchdog reads of single events on Supabase: their order, and a few of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ml_pipeline.errors import StoreCorrupt
from ml_pipeline.store.alerts import SAMPLE_COLUMNS, LabelDelays
from ml_pipeline.store.event_frames import sample_frame
from ml_pipeline.store.inputs.labels import ANY_LABEL, Labels
from ml_pipeline.store.records import LookbackWindow
from ml_pipeline.store.supabase.log import times
from ml_pipeline.store.supabase.tables import chosen, within
from ml_pipeline.store.supabase.transport import Project


class SupabaseSamples:
    """The part of `WatchLedger` that reads single events."""

    _project: Project

    def label_delays(self, window: LookbackWindow, *, model_name: str) -> LabelDelays:
        """Of labelled events that became known in the window, after their prediction."""
        answer = self._project.call("label_delays", **within(window, model_name))
        try:
            return LabelDelays(**answer)
        except TypeError:
            raise StoreCorrupt("label_delays answered something else than delays.") from None

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
        answer = self._project.call(
            "evaluations_in_order",
            **chosen(window, model_name, model_ids),
            p_labels=labels.tables(),
            p_rows=rows,
        )
        marks = answer[0] if isinstance(answer, list) and len(answer) == 1 else None
        if not isinstance(marks, str) or set(marks) - {"0", "1"}:
            raise StoreCorrupt(
                "evaluations_in_order answered something else than a text of 0 and 1."
            )
        return [mark == "1" for mark in marks]

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
        answer = self._project.call(
            "sample_evaluation_events",
            **chosen(window, model_name, model_ids),
            p_labelled=labelled,
            p_rows=rows,
            p_features=with_features,
        )
        found: list[Any] = answer if isinstance(answer, list) else [None]
        width = len(SAMPLE_COLUMNS)
        if not all(isinstance(row, list) and len(row) == width for row in found):
            raise StoreCorrupt("sample_evaluation_events answered something else than events.")
        return sample_frame(found, times)
