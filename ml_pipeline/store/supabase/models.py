"""What a look over all registered models needs of them, on Supabase."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ml_pipeline.errors import StoreCorrupt
from ml_pipeline.store.records import ModelBrief
from ml_pipeline.store.rows import brief_from_row
from ml_pipeline.store.supabase.transport import Project

_IN_BRIEF: Final = (
    "model_id, anchor_id, created_at, state, run_id, shadow_since:lineage->>shadow_since, "
    "settled_night:lineage->settled_night, rebuilds:lineage->rebuilds"
)


class SupabaseModels:
    """The part of `ModelRegistry` that leaves out the rows."""

    _project: Project

    def list_models_in_brief(
        self, *, model_name: str, anchor_id: str | None = None
    ) -> list[ModelBrief]:
        """Every registered model, newest first, or every one of a lineage, without its row."""
        chosen = {"model_name": model_name} | ({"anchor_id": anchor_id} if anchor_id else {})
        models: list[ModelBrief] = []
        after: str | None = None
        # Page by page: the server cuts long answers.
        while page := self._briefs(chosen, after):
            models += map(brief_from_row, page)
            if after == models[-1].model_id:
                raise StoreCorrupt("model_metadata answered with rows that were read already.")
            after = models[-1].model_id
        return sorted(models, key=lambda model: (model.created_at, model.model_id), reverse=True)

    def _briefs(self, chosen: Mapping[str, str], after: str | None) -> list[Mapping[str, Any]]:
        return self._project.select(
            "model_metadata",
            lambda rows: (
                (rows if after is None else rows.gt("model_id", after))
                .match(chosen)
                .order("model_id")
            ),
            columns=_IN_BRIEF,
        )

    def list_model_ids(self, *, model_name: str, anchor_id: str) -> list[str]:
        """The ids of a lineage's models."""
        ids = self._project.call("list_model_ids", p_model_name=model_name, p_anchor_id=anchor_id)
        if not isinstance(ids, list) or not all(isinstance(found, str) for found in ids):
            raise StoreCorrupt("list_model_ids answered something else than ids.")
        return ids
