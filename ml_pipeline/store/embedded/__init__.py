"""The store in one folder: SQLite and files."""
