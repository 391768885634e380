"""Audit: an append-only log of what changed state: each entry signed with the one before it, the head apart."""
