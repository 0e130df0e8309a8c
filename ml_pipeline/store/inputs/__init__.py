"""What callers hand over, read once: labels, and values of Python."""
