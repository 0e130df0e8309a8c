"""What a warm process has imported before it becomes a command."""

from __future__ import annotations

import duckdb
import sklearn.ensemble
import sklearn.linear_model
import sklearn.preprocessing
import skops.io
import supabase

from ml_pipeline import (
    artifacts,
    data_loader,
    doctor,
    machine_checks,
    model_registry,
    night,
    project_checks,
    store_checks,
    supabase_client,
    supabase_facts,
)

__all__ = [
    "artifacts",
    "data_loader",
    "doctor",
    "duckdb",
    "machine_checks",
    "model_registry",
    "night",
    "project_checks",
    "sklearn",
    "skops",
    "store_checks",
    "supabase",
    "supabase_client",
    "supabase_facts",
]
