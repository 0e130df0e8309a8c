"""Tests of whose answers the log holds."""
