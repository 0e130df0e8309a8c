"""A scoring file as both kinds of process read it."""

from __future__ import annotations

import sys
from unittest.mock import patch

from ml_pipeline.registry import scoring
from ml_pipeline.registry.heads.matrix import MatrixHeads
from ml_pipeline.registry.heads.plain import Heads


def scorers(content: bytes) -> tuple[scoring.Scorer, scoring.Scorer]:
    """Of a process with numpy, and of a cold one without."""
    warm = scoring.parse(content)
    with patch.dict(sys.modules):
        del sys.modules["numpy"]
        cold = scoring.parse(content)
    assert type(warm._heads) is MatrixHeads
    assert type(cold._heads) is Heads
    return warm, cold
