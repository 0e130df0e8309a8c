"""Ground truth on Supabase: labels that people gave, in a table of the project's own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pandas as pd

from ml_pipeline.errors import NotFound, StoreCorrupt
from ml_pipeline.local_truth import refuse_other_labels, truth_frame, truth_row
from ml_pipeline.supabase_transport import Project

# Few enough that the ids of one call fit into an address.
ADDED_AT_ONCE: Final = 100


class SupabaseTruth:
    """`GroundTruth` by plain table access: the app writes the same rows."""

    _project: Project

    def add_labels(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Add labels to `ml_data`; return how many were new.

        All of them are checked first, then written `ADDED_AT_ONCE` at a time.
        """
        written = [truth_row(row) for row in rows]
        parts = [written[n : n + ADDED_AT_ONCE] for n in range(0, len(written), ADDED_AT_ONCE)]
        known: dict[str, Any] = {}
        for part in parts:
            known |= self._known({row["id"] for row in part})
        refuse_other_labels(written, known)
        for part in parts:
            self._project.upsert("ml_data", [_as_json(row) for row in part], key="id")
        return len({row["id"] for row in written} - set(known))

    def _known(self, ids: set[str]) -> dict[str, Any]:
        rows = self._project.select("ml_data", lambda table: table.in_("id", sorted(ids)))
        return {str(row["id"]): row["label"] for row in rows}

    def read_table(self, table: str, *, key: str) -> Iterator[pd.DataFrame]:
        """Every row of a table in frames, ordered by its key; the count of rows is checked.

        Rows are read page by page, so the server's cap on rows cuts nothing.
        """
        total = self._project.count(table)
        after: object = None
        read = 0
        while page := self._page(table, key, after):
            last = page[-1].get(key)
            if key not in page[0]:
                raise NotFound(
                    f"{table} has no column {key}; it has {', '.join(page[0])}.",
                    hint="Set ground_truth.id_column.",
                )
            if last is None or last == after:
                raise StoreCorrupt(f"{table}.{key} is no key: pages cannot be told apart.")
            yield truth_frame(page)
            read, after = read + len(page), last
        # Rows that were added meanwhile may or may not have been met; none may have been missed.
        if read < total:
            raise StoreCorrupt(
                f"{table} has {total} rows, {read} were read.",
                hint=f"Is {key} unique and never empty? Set ground_truth.id_column.",
            )

    def _page(self, table: str, key: str, after: object) -> list[Mapping[str, Any]]:
        return self._project.select(
            table,
            lambda rows: (rows if after is None else rows.gt(key, after)).order(key),
            named=True,
        )


def _as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    objects = {
        name: json.loads(row[name]) for name in ("features", "metadata") if row[name] is not None
    }
    return dict(row) | objects
