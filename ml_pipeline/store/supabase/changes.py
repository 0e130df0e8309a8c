"""Corrected and erased events on Supabase."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date
from typing import Any

from ml_pipeline.errors import StoreCorrupt
from ml_pipeline.store.supabase.transport import Project


class SupabaseChanges:
    """`LogChanges` by database functions."""

    _project: Project

    def count_changes(self, *, model_name: str) -> dict[date, int]:
        """How often labelled events were changed, per first UTC day that it touched."""
        function = "count_evaluation_changes"
        days = self._project.call(function, p_model_name=model_name)
        try:
            return {date.fromisoformat(row["day"]): int(row["changes"]) for row in days}
        except (KeyError, TypeError, ValueError) as error:
            message = f"{function} answered something else than days: {error}."
            raise StoreCorrupt(message) from error

    def erase_events(
        self,
        *,
        model_name: str,
        event_ids: Collection[str],
        match_ids: Collection[str],
        dry_run: bool = False,
    ) -> dict[str, int]:
        """Erase events and labels; return how many rows of which table."""
        function = "erase_evaluation_events"
        counts = self._project.call(
            function,
            p_model_name=model_name,
            p_event_ids=sorted(event_ids),
            p_match_ids=sorted(match_ids),
            p_dry_run=dry_run,
        )
        if not isinstance(counts, dict):
            message = f"{function} answered {type(counts).__name__}, not counts."
            raise StoreCorrupt(message)
        return {str(name): int(count) for name, count in counts.items()}

    def erased_events(self) -> frozenset[str]:
        """The hashes of all erased ids."""
        return frozenset(self._texts("list_erased_events"))

    def runs_that_name(self, *, model_name: str, ids: Collection[str]) -> list[str]:
        """The runs in whose rows one of the ids stands somewhere."""
        return self._texts("list_runs_that_name", p_model_name=model_name, p_ids=sorted(ids))

    def redact_run(
        self,
        run_id: str,
        *,
        details: Mapping[str, Any],
        error_message: str | None,
        outcome_reason: str | None,
    ) -> None:
        """Write what a run's row says anew."""
        self._project.call(
            "redact_retraining_run",
            p_run_id=run_id,
            p_details=dict(details),
            p_error_message=error_message,
            p_outcome_reason=outcome_reason,
        )

    def _texts(self, function: str, **parameters: Any) -> list[str]:  # noqa: ANN401 - JSON values
        found = self._project.call(function, **parameters)
        if not isinstance(found, list):
            message = f"{function} answered {type(found).__name__}, not a list."
            raise StoreCorrupt(message)
        return [str(item) for item in found]
