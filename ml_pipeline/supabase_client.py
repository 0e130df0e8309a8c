"""The store in a Supabase project: `SupabaseStore`."""

from __future__ import annotations

from ml_pipeline.store.supabase.store import SupabaseStore

__all__ = ["SupabaseStore"]
