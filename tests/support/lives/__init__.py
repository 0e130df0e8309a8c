"""Whole lives of a model, invented from a seed and checked against a ledger of their own.

`python -m tests.support.lives --seed 1 --lives 1` repeats one.
"""
