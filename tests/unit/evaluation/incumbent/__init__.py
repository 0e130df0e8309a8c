"""Tests of challengers beside a classifier that nobody here trained."""
