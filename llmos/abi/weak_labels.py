"""Weak labels: how votes of rules are combined, the column in which a row keeps them, and where answers are kept."""

from __future__ import annotations

import hashlib

DAWID_SKENE, MAJORITY = "dawid-skene", "majority"
COMBINES = (DAWID_SKENE, MAJORITY)  # the first is the default (docs/log.md)
WEAK_LABEL = "weak_label"  # the name of a row's other column that has the probabilities and the votes
ENDPOINTS = "endpoints"  # of a dataset's operation: the names of the answers that its labels were made of


def answers_name(url: str, model: str) -> str:
    """The name of the file that keeps the answers of this model at this address."""
    return hashlib.sha256(f"{url}#{model}".encode()).hexdigest()[:16]
