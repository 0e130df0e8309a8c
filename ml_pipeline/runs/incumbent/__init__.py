"""Runs beside a classifier of the person's own, whose answers people see."""
