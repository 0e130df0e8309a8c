"""The logged answers of a classifier that is not ours."""
