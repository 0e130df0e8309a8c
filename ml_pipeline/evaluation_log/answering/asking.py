"""Why a person decides on a model that was trained here, where somebody else's answers people."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

from ml_pipeline.config.settings import Settings
from ml_pipeline.evaluation_log.answering.logged_models import logged_models
from ml_pipeline.evaluation_log.answering.sentences import proposal, shown
from ml_pipeline.store.contract import Store

# Whoever has not answered for so long answers no more.
WINDOW_DAYS: Final = 365.0


def why_a_person_decides(
    store: Store, settings: Settings, *, now: datetime, work_dir: Path | None = None
) -> str | None:
    """Why no model serves unasked; None where a registered one does, or nobody has answered.

    A first model is held to floors alone, and says nothing of those who answer already.
    """
    serves = settings.incumbent.serves
    if not serves and store.champion_id(model_name=settings.model_name) is not None:
        return None
    logged = logged_models(store, settings, now=now, days=WINDOW_DAYS, work_dir=work_dir)
    theirs = logged.theirs or tuple(settings.incumbent.model_ids or ())
    if serves:
        names = shown(theirs) if theirs else "A classifier of your own"
        return (
            f"Waiting for approval: {names} (yours) goes on answering until your application asks "
            "another one, and the settings say so. Approve it with `models promote ID`."
        )
    proposed = proposal(settings, logged.theirs, logged.rows)
    if proposed is None:
        return None
    return (
        "Waiting for approval: it was not compared with those who answer already. "
        f"{proposed} A run compares a model with them; without waiting, approve it with `models "
        "promote ID`."
    )
