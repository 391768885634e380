"""The draft of a suite: what a model's labels and rows suggest to test, as YAML for a person to read and correct."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from llmos.abi.error import BadInput
from llmos.suites.drafted import Draft, DraftedTest
from llmos.suites.families import suite_family
from llmos.suites.form import TEXT, Form
from llmos.suites.plan import edits_of
from llmos.suites.suite import SEED, TextChange
from llmos.suites.templates import MARK, seeded_rng

MAY_FAIL = 0.1  # of the cases of a drafted test: rows are not chosen with care
LONGEST = 300  # characters of a row's text that a person still reads
WORDS_OF_YAML = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
BARE = re.compile(r"[^\W\d]\w*")


def draft_suite(task: str, model: str, rows: Sequence[Any], labels: Sequence[str]) -> str:
    """A suite in YAML from these rows of the task's family; BadInput if they suggest nothing."""
    family = suite_family(task)
    if not family.has_drafts:
        raise BadInput(
            f"What a model of {task} should write, rows do not say in a way that a test can check. Write the suite "
            "by hand: texts, and expect: with contains, matches, json or not_contains (docs/testing.md)"
        )
    readable = [row for row in rows if max(map(len, row.texts)) <= LONGEST]
    if not readable:
        raise BadInput(f"There is no row of at most {LONGEST} characters to draft tests from. Give others: --data FILE")
    draft = family.draft(frequent_first(readable), labels)
    tests = [test for one in draft.tests if (test := _applying(one, family.noisy_field)) is not None]
    return _write_yaml(task, model, replace(draft, tests=tuple(tests)))


def frequent_first(rows: Iterable[Any]) -> list[Any]:
    """Each row once: the most frequent first, then those of usual length, long and short ones last."""
    counted: Counter[str] = Counter()
    first: dict[str, Any] = {}
    for row in rows:
        counted[row.identity] += 1
        first.setdefault(row.identity, row)
    sizes = sorted(len(row.texts[0]) for row in first.values())
    middle = sizes[len(sizes) // 2]
    return sorted(first.values(), key=lambda row: (-counted[row.identity], abs(len(row.texts[0]) - middle)))


def _applying(test: DraftedTest, noisy_field: str) -> DraftedTest | None:
    """The test with only those changes that change one of its texts; None where none does."""
    changes = test.keys.get("unchanged_by")
    if changes is None:
        return test
    given = test.keys.get("inputs") or [{TEXT: MARK.sub(r"\1", text)} for text in test.keys["texts"]]
    forms = [Form(tuple(one.items())) for one in given]

    def applies(noise: str) -> bool:
        change = TextChange(noise, 0, noise)
        return any(edits_of(change, form, noisy_field, {}, seeded_rng(SEED, noise)) for form in forms)

    kept = [one for one in changes if not isinstance(one, str) or applies(one)]
    return replace(test, keys={**test.keys, "unchanged_by": kept}) if kept else None


def _write_yaml(task: str, model: str, draft: Draft) -> str:
    name = model.partition(":")[0]
    lines = [
        f"# Drafted from the rows that {model} was measured on. Read every test: keep what you would promise a user,",
        "# correct what is wrong, and delete the rest. How to write tests: docs/testing.md",
        f"suite: {quote(f'{name}: drafted')}",
        f"task: {task}",
        f"model: {quote(name)}",
        f"seed: {SEED}",
        f"max_failures: {MAY_FAIL}  # the share of a test's cases that may fail; 0 for what must never fail",
    ]
    if draft.lexicons:
        lines += ["", "lexicons:"]
        for key, entries in draft.lexicons.items():
            lines += [f"  {key}:", *(f"    - {quote(one)}" for one in entries)]
    lines += ["", "tests:"]
    for test in draft.tests:
        lines += [f"  - test: {quote(test.name)}", f"    about: {quote(test.about)}"]
        for key, value in test.keys.items():
            lines += _lines(key, value, "    ")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _lines(key: str, value: Any, indent: str) -> list[str]:
    if isinstance(value, str):
        return [f"{indent}{key}: {quote(value)}"]
    if isinstance(value, Mapping):
        return [f"{indent}{key}:", *(line for k, v in value.items() for line in _lines(k, v, indent + "  "))]
    lines = [f"{indent}{key}:"]
    for one in value:
        if isinstance(one, str):
            lines.append(f"{indent}  - {quote(one)}")
            continue
        inside = [line for k, v in one.items() for line in _lines(k, v, indent + "    ")]
        lines += [f"{indent}  - {inside[0].lstrip()}", *inside[1:]]
    return lines


def quote(text: str) -> str:
    """A text as a YAML scalar: bare where it is one word, else in double quotes with the escapes of JSON."""
    if BARE.fullmatch(text) and text.isascii() and text.lower() not in WORDS_OF_YAML:
        return text
    return "".join(one if one.isprintable() else _escape(one) for one in json.dumps(text, ensure_ascii=False))


def _escape(sign: str) -> str:
    return f"\\U{ord(sign):08x}" if ord(sign) > 0xFFFF else f"\\u{ord(sign):04x}"
