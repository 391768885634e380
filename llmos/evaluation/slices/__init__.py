"""Slices: parts of the test rows by label, length, source, language or any column, each with its metric."""
