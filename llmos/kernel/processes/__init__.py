"""Processes: their table, who starts when, what fits into memory, and what gives way."""
