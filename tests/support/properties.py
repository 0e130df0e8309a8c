"""How many examples a property is tried on: `everyday`, or `large` in a step of its own.

`pytest -m "long or hypothesis" --hypothesis-profile large` is that step; Hypothesis marks its
tests itself.
"""

from __future__ import annotations

from hypothesis import settings

EVERYDAY, LARGE = 25, 200
settings.register_profile("everyday", max_examples=EVERYDAY, deadline=None)
settings.register_profile("large", max_examples=LARGE, deadline=None)
settings.load_profile("everyday")


def tries(everyday: int) -> int:
    """So many every day, and in proportion more in another profile."""
    profile = settings.default
    assert profile is not None
    return everyday * profile.max_examples // EVERYDAY
