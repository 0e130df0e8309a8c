"""Challengers that wait for a verdict in vain."""
