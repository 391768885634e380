"""Drift: whether calls differ from a model's reference rows, with few false alarms however often one looks."""
