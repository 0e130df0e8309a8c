"""Whole lives from random logs, with outages and crashes, checked against a ledger of their own.

`python -m tests.support.lives --seed 1 --lives 20000 --processes 2` lives as many as one likes.
"""

from __future__ import annotations

import pytest

from tests.support.lives.__main__ import lived
from tests.support.places import long_but

EVERYDAY, LIVES = 12, 200


@pytest.mark.parametrize("seed", long_but(range(EVERYDAY), range(LIVES)))
def test_every_result_is_learned_once_or_counted_with_its_reason(seed: int) -> None:
    assert not lived(seed)
