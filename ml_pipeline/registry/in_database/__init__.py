"""The champion inside of the database: its scoring file as a program that SQL runs."""
