"""Who answers, and how to say so in the settings, in sentences for people."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from ml_pipeline.config.settings import Settings

# The id under which answers without one are summed.
UNNAMED: Final = "unknown"
_SHOWN: Final = 3
_LONGEST: Final = 60


def shown(model_ids: Sequence[str]) -> str:
    """Ids for a sentence, a few of them."""
    names = [
        (name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…")
        if name != UNNAMED
        else "a model that is not named"
        for name in model_ids
    ]
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def yours(settings: Settings, theirs: Collection[str]) -> str | None:
    """Who answers, where that is a classifier of the person's own: `theirs` as the log has them."""
    if not settings.incumbent.serves:
        return None
    known = list(theirs) or settings.incumbent.model_ids or []
    return f"{shown(known) if known else 'a classifier of your own'} (yours)"


def answering(settings: Settings, theirs: Collection[str]) -> str | None:
    """The same as a sentence."""
    name = yours(settings, theirs)
    return None if name is None else f"Answering: {name}."


def proposal(settings: Settings, theirs: Sequence[str], rows: int) -> str | None:
    """That somebody else's answers stand in the log, and the setting that says so; None if told."""
    if settings.incumbent.serves or not theirs:
        return None
    results = "1 result of the log was" if rows == 1 else f"{rows:,} results of the log were"
    return (
        f"{results} answered by {shown(theirs)}, which the registry does not know. "
        "If that is a classifier of your own that goes on answering people, say so in the "
        "settings: `incumbent: {serves: true}`. It is watched then, and no model replaces it "
        "unasked."
    )
