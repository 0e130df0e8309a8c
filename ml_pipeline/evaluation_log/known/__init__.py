"""The rows that are learned beside those that a model has not seen."""
