"""Evaluation: predictions on labelled rows, metrics, evidence, and the gate of promotion."""
