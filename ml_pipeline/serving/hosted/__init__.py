"""Predictions of a process that stays: many callers, one model at a time, a log behind them."""
