"""The command line; it knows the sdk only."""
