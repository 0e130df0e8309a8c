"""Classifiers in the ONNX format: what a file may hold, and how one answers."""
