"""Constrained decoding: JSON schemas, regular expressions and grammars as masks over the next token."""
