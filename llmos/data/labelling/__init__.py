"""Asking people for labels: which rows are worth most, and what becomes of the answers."""
