"""Further types that model files may hold, by the settings that this process read last.

A list in code says which types a model may be made of (`registry.archive_schema`). What a person
names beside it counts wherever this process loads a model, and never travels with one.
"""

from __future__ import annotations

from collections.abc import Iterable

_named: frozenset[str] = frozenset()


def allow(types: Iterable[str]) -> None:
    """Allow these types from now on, and no other further ones."""
    global _named  # noqa: PLW0603 - the settings of a process are one
    _named = frozenset(types)


def allowed() -> frozenset[str]:
    """The further types, as `module.Class`."""
    return _named
