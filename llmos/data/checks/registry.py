"""All checks by name, and running them in order: what makes figures wrong first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from llmos.data.checks import (
    balance,
    contradictions,
    control_tokens,
    duplicates,
    labels,
    languages,
    leaks,
    length,
    personal_data,
    placeholders,
    unknown_text,
)
from llmos.data.checks.finding import CheckFinding
from llmos.data.checks.subject import Subject

Check = Callable[[Subject], Iterator[CheckFinding]]
CHECKS: Mapping[str, Check] = {
    "leaks": leaks.find,
    "contradictions": contradictions.find,
    "labels": labels.find,
    "duplicates": duplicates.find,
    "placeholders": placeholders.find,
    "length": length.find,
    "unknown-text": unknown_text.find,
    "control-tokens": control_tokens.find,
    "personal-data": personal_data.find,
    "languages": languages.find,
    "balance": balance.find,
}
KINDS = (
    leaks.KIND,
    contradictions.KIND,
    contradictions.NEAR,
    labels.KIND,
    duplicates.KIND,
    duplicates.NEAR,
    placeholders.KIND,
    length.KIND,
    unknown_text.KIND,
    control_tokens.KIND,
    personal_data.KIND,
    languages.KIND,
    balance.KIND,
)


def run_checks(
    subject: Subject, without: Sequence[str] = (), on_start: Callable[[str], None] = lambda name: None
) -> list[CheckFinding]:
    """The findings of all checks but these, the worst first."""
    findings: list[CheckFinding] = []
    for name, find in CHECKS.items():
        if name not in without:
            on_start(name)
            findings += find(subject)
    return sorted(findings, key=lambda one: -one.severity)
