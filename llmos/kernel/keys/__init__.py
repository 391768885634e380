"""Keys: kept in a file of the home, the limits of each, and the key that this user's own commands call with."""
