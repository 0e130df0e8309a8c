"""Whether a logged model is one of ours."""

from __future__ import annotations

import re
from typing import Final

from ml_pipeline.errors import NotFound
from ml_pipeline.store.contract import ModelRegistry

# As many ids are asked for in the registry; of a log that names more the newest.
MOST_ASKED: Final = 100
# How runs (`adaptive-20260314-020000-0f3a5c7e`) and `train` (`logisticregression_20260314_…`) name
# the models that they make.
_OF_OUR_SHAPE: Final = re.compile(
    r"[a-z]+(?:[-_][a-z]+)*[-_][0-9]{8}[-_][0-9]{6}[-_][0-9a-f]{8}", re.IGNORECASE
)


def is_called_like_ours(model_id: str) -> bool:
    """Whether a model is called as our own training calls its models."""
    return bool(_OF_OUR_SHAPE.fullmatch(model_id))


def is_registered(store: ModelRegistry, model_name: str, model_id: str) -> bool:
    """Whether the registry knows a model of that id."""
    try:
        store.get_model(model_name, model_id)
    except NotFound:
        return False
    return True
