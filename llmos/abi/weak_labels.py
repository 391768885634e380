"""Weak labels: how votes of rules are combined, and the column in which a row keeps them."""

from __future__ import annotations

DAWID_SKENE, MAJORITY = "dawid-skene", "majority"
COMBINES = (DAWID_SKENE, MAJORITY)  # the first is the default (docs/log.md)
WEAK_LABEL = "weak_label"  # the name of a row's other column that has the probabilities and the votes
