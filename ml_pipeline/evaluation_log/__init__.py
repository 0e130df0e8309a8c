"""What was predicted and what happened: written, read, compared."""
