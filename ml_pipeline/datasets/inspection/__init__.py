"""A file that a person brings, looked at before anything is made of it."""
