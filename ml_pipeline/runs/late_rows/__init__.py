"""Rows of days that a lineage has learned, which turned up or changed since."""
