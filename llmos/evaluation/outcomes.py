"""What outcomes by row have in common: the names of errors, and the digest by which a row without an id is known."""

from __future__ import annotations

import hashlib

from llmos.data.row import Row

HIT, MISSED, INVENTED, BOUNDARY, TYPE = "hit", "missed", "invented", "boundary", "type"
PARTIAL, WRONG, NO_ANSWER, EMPTY = "partial", "wrong", "no answer", "empty"
TOO_HIGH, TOO_LOW = "too high", "too low"
NONE = "(none)"
LEAST_LIKELY = 1e-12  # of a true answer: its loss stays a number


def row_digest(row: Row) -> str:
    """The id of a row that has none of its own: of input and target, 16 hex signs."""
    return hashlib.sha256(row.identity.encode(errors="surrogatepass")).hexdigest()[:16]
