"""The queue of requests for a run."""
