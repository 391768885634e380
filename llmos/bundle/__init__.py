"""Offline bundles: wheels, models and an installer, verified by digests, for a machine without a network."""
