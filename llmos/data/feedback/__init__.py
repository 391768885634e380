"""Rows of feedback: which are learned, which are held out, and which are left out."""
