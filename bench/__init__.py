"""Measurements of llmos beside its peers, in the same run and on the same data. Not part of the package."""
