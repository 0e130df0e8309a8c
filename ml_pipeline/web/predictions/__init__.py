"""Predictions over HTTP, for applications in any language."""
