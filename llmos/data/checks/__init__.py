"""Checks of a dataset's rows: a file for each, found by a registry. They need no torch."""
