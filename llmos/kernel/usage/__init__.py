"""Usage: calls, errors and tokens by key, model and day, counted in memory and added to a file every few seconds."""
