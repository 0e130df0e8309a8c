"""What a warm process has imported before it becomes a command."""

from __future__ import annotations

import duckdb
import sklearn.ensemble
import sklearn.linear_model
import sklearn.preprocessing
import skops.io
import supabase

from ml_pipeline.commands import doctor
from ml_pipeline.commands.checks import content, machine, project
from ml_pipeline.evaluation_log import loading
from ml_pipeline.registry import archive, models
from ml_pipeline.runs import attempt
from ml_pipeline.store.supabase import facts
from ml_pipeline.store.supabase import store as supabase_store

__all__ = [
    "archive",
    "attempt",
    "content",
    "doctor",
    "duckdb",
    "facts",
    "loading",
    "machine",
    "models",
    "project",
    "sklearn",
    "skops",
    "supabase",
    "supabase_store",
]
