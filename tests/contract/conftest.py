"""The fixtures of the contract tests."""

from __future__ import annotations

from tests.support.supabase.fixtures import bench, supabase

__all__ = ["bench", "supabase"]
