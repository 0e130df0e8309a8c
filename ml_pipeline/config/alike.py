"""What somebody may have meant by a name that is not known."""

from __future__ import annotations

from collections.abc import Iterable

LEAST_ALIKE = 0.6


def meant(text: str, known: Iterable[str]) -> str:
    """` Did you mean …?` for the name that is most alike, or nothing where none is."""
    from difflib import get_close_matches

    by_folded = {name.lower(): name for name in known}
    found = get_close_matches(text.lower(), list(by_folded), n=1, cutoff=LEAST_ALIKE)
    return f" Did you mean {by_folded[found[0]]}?" if found else ""
