"""Champions on Supabase, and what its functions answer predictions with."""

from __future__ import annotations

from collections.abc import Mapping

from ml_pipeline.errors import StoreCorrupt
from ml_pipeline.store.records import ModelVersion, PromotionEvent
from ml_pipeline.store.scoring.records import ModelScoring, PublishedScoring
from ml_pipeline.store.supabase.tables import from_json, to_json
from ml_pipeline.store.supabase.transport import Project


class SupabaseScoring:
    """The part of `ModelRegistry` in which champions change, by database functions."""

    _project: Project

    @property
    def answers(self) -> bool:
        """Yes: `predict` is a function of the database."""
        return True

    def promote(self, event: PromotionEvent, scoring: ModelScoring | None = None) -> ModelVersion:
        """Make `to_model_id` champion if `from_model_id` still is; keep the event.

        An older database does not look at `scoring`, and answers nothing itself.
        """
        made = {} if scoring is None else {"scoring": scoring.as_json()}
        row = self._project.call("promote_model", p_event={**to_json(event), **made})
        return from_json(ModelVersion, row)

    def publish(self, scoring: ModelScoring) -> str | None:
        """Answer with the champion from now on; return what is in its way."""
        function = "publish_model_scoring"
        answer = self._project.call(
            function,
            p_model_name=scoring.model_name,
            p_model_id=scoring.model_id,
            p_scoring=scoring.as_json(),
        )
        if not isinstance(answer, Mapping) or "trouble" not in answer:
            raise StoreCorrupt(f"{function} answered {answer!r:.100}.")
        return None if answer["trouble"] is None else str(answer["trouble"])

    def published(self, model_name: str) -> PublishedScoring | None:
        """What the functions answer with; None for nothing."""
        function = "read_model_scoring"
        rows = self._project.call(function, p_model_name=model_name)
        try:
            found = [
                PublishedScoring(
                    model_id=row["model_id"],
                    trouble=row["trouble"],
                    scoring_digest=row["scoring_digest"],
                    settings_digest=row["settings_digest"],
                    format=row["format"],
                )
                for row in rows
            ]
        except (KeyError, TypeError) as error:
            message = f"{function} answered something else than a model: {error}."
            raise StoreCorrupt(message) from error
        return found[0] if found else None
