"""Answers: the engine, files of rows, one row."""
