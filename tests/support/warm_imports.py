"""What a warm process has imported before it becomes a command or a trainer.

Not `ml_pipeline.cli` and `ml_pipeline.train_model`, which it runs.
"""

from __future__ import annotations

from importlib import import_module

NAMES = (
    "duckdb",
    "email.policy",
    "joblib",
    "scipy.special",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.preprocessing",
    "skops.io",
    "sqlite3",
    "supabase",
    "ml_pipeline.commands.checks.content",
    "ml_pipeline.commands.checks.machine",
    "ml_pipeline.commands.checks.project",
    "ml_pipeline.commands.doctor",
    "ml_pipeline.commands.run",
    "ml_pipeline.commands.train",
    "ml_pipeline.datasets.labelled_file",
    "ml_pipeline.evaluation_log.loading",
    "ml_pipeline.registry.archive",
    "ml_pipeline.registry.models",
    "ml_pipeline.registry.scoring_writer",
    "ml_pipeline.runs.attempt",
    "ml_pipeline.runs.run_log",
    "ml_pipeline.store.embedded.store",
    "ml_pipeline.store.supabase.facts",
    "ml_pipeline.store.supabase.store",
    "ml_pipeline.training.adaptive",
    "ml_pipeline.training.algorithms",
    "ml_pipeline.training.online_training",
    "ml_pipeline.training.parallel",
    "ml_pipeline.training.strategies",
)

for name in NAMES:
    import_module(name)
