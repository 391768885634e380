"""Feedback: rows that people give on answers, kept durably, and the standing orders by which models learn from them."""
