"""Rows as a model sees them: features, texts, ground truth, SQL helpers."""
