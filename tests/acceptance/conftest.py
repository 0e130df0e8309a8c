"""What the tests of whole commands share."""

from __future__ import annotations

import sys

import pytest

from tests.support import warm


@pytest.fixture(autouse=True)
def warm_trainers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the trainers of runs in this process warm; those of `tests.support.shell` are cold."""
    monkeypatch.setattr(sys, "executable", str(warm.interpreter()))
