"""Tuning: what a search tries next, as pure functions of what its trials have shown. It trains nothing. No torch."""
