"""A command that makes a new version of what answers, and how that one does."""
