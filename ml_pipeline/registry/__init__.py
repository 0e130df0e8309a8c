"""Registered models: bytes, rows, who serves, scoring files."""
