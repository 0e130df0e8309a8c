"""The registry as a file that goes from one store to another."""
