"""Whose answers the log holds: those of registered models, or of a classifier of your own."""
