"""Challengers beside a classifier that nobody here trained, on what it was logged to answer."""
