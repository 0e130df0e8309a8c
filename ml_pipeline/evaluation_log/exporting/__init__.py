"""Labelled rows of the log as files for what trains elsewhere."""
