"""Backups of a home: taken while its daemon runs, verified by digests, and restored to an empty home."""
