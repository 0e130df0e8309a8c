"""The levels of categories."""
