"""A home's daemon as a systemd unit: its text, and its installation for the machine or for one user."""
