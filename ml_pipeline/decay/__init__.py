"""Is the champion still good, and what is done when it is not."""
