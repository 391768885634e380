"""The objectives on preferences: a file for each, with its declaration as `OBJECTIVE`."""
