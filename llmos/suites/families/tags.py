"""Tests of tags: the spans that a text must have, marked in its template, and that they move with a change of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from llmos.abi.json_type import Json
from llmos.data.noise import move
from llmos.data.row import TagRow
from llmos.data.yaml_source import Node, Scalar, YamlSource
from llmos.suites.drafted import Draft, DraftedTest, as_template
from llmos.suites.form import TEXT, Edits, Form
from llmos.tasks.tag import spans_of

noisy_field = TEXT
uses_marks = True
has_scores = False
repeats_itself = True
has_drafts = True
TEXTS_OF_LABEL = 10
MENTIONS = 20  # of a label, in its lexicon
NO_SPACE_BEFORE = frozenset({",", ".", "!", "?", ";", ":", ")", "]", "%", "'s", "n't", "'m", "'re", "'ve", "'ll", "'d"})
NO_SPACE_AFTER = frozenset({"(", "[", "#", "$", "€", "£"})
EXAMPLE = "expect: marked, expect: none, or expect: with spans: exactly or at_least, of: LABELS, not: LABELS"


@dataclass(frozen=True, slots=True)
class TagExpectation:
    """The marked spans: all of them, and no others if it is exact; of these labels alone, where some are named."""

    is_exact: bool = True
    of: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    spans: tuple[LabelledSpan, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class LabelledSpan:
    """A span by its place and label, and its text to show."""

    start: int
    end: int
    label: str
    text: str = ""

    @property
    def place(self) -> tuple[int, int, str]:
        return self.start, self.end, self.label


@dataclass(frozen=True, slots=True)
class TagAnswer:
    """The spans that were given, and the least of their scores."""

    spans: tuple[LabelledSpan, ...]
    least_score: float | None


def read_expectation(node: Node, source: YamlSource) -> TagExpectation:
    if isinstance(node, Scalar):
        if node.text not in ("marked", "none"):
            raise source.error(node.line, f"expect is {node.text!r}", EXAMPLE)
        return TagExpectation()
    given = source.fields(node, "expect", ("spans", "of", "not"), EXAMPLE).of
    spans = given.get("spans")
    if spans is not None and (not isinstance(spans, Scalar) or spans.text not in ("exactly", "at_least")):
        raise source.error(spans.line, "expect: spans is neither exactly nor at_least", EXAMPLE)
    texts = {key: source.texts(given[key], f"expect: {key}", EXAMPLE) for key in ("of", "not") if key in given}
    is_exact = spans.text == "exactly" if isinstance(spans, Scalar) else "of" in given
    return TagExpectation(is_exact, texts.get("of", ()), texts.get("not", ()))


def labels_in(expectation: TagExpectation) -> Sequence[str]:
    return (*expectation.of, *expectation.excludes)


def fill(expectation: TagExpectation, form: Form, filled: Callable[[str], str]) -> TagExpectation:
    text = dict(form.fields)[TEXT]
    spans = tuple(LabelledSpan(one.start, one.end, one.label, text[one.start : one.end]) for one in form.marks)
    return replace(expectation, spans=spans)


def read_answer(output: Json) -> TagAnswer:
    spans = [LabelledSpan(one["start"], one["end"], one["label"], one["text"]) for one in output["spans"]]
    return TagAnswer(tuple(spans), min((float(one["score"]) for one in output["spans"]), default=None))


def show(answer: TagAnswer) -> str:
    return _show(answer.spans)


def show_expected(expectation: TagExpectation) -> str:
    wanted = _show(expectation.spans) if expectation.is_exact or expectation.spans else ""
    only = f" (of {', '.join(expectation.of)})" if expectation.of else ""
    more = "" if expectation.is_exact or not wanted else ", at least"
    excluded = f"no {', '.join(expectation.excludes)}" if expectation.excludes else ""
    return "; ".join(part for part in (f"{wanted}{only}{more}" if wanted else "", excluded) if part)


def _show(spans: Sequence[LabelledSpan]) -> str:
    return ", ".join(f"[{one.text}]({one.label})" for one in sorted(spans)) or "no span"


def score(answer: TagAnswer) -> float | None:
    return answer.least_score


def is_met(expectation: TagExpectation, answer: TagAnswer) -> bool:
    def places(spans: Sequence[LabelledSpan]) -> set[tuple[int, int, str]]:
        return {one.place for one in spans if not expectation.of or one.label in expectation.of}

    wanted, given = places(expectation.spans), places(answer.spans)
    is_right = wanted == given if expectation.is_exact else wanted <= given
    return is_right and not any(one.label in expectation.excludes for one in answer.spans)


def is_same(before: TagAnswer, after: TagAnswer, edits: Edits) -> bool:
    moved = {(*move(one.start, one.end, edits.get(TEXT, ())), one.label) for one in before.spans}
    return moved == {one.place for one in after.spans}


def move_expectation(expectation: TagExpectation, edits: Edits) -> TagExpectation:
    here = edits.get(TEXT, ())
    places = [(*move(one.start, one.end, here), one) for one in expectation.spans]
    return replace(expectation, spans=tuple(replace(one, start=start, end=end, text="") for start, end, one in places))


def form_of(row: TagRow) -> tuple[Form, TagExpectation]:
    words = row.input["tokens"]
    starts, at = [], 0
    for word in words:
        starts.append(at)
        at += len(word) + 1
    spans = tuple(
        LabelledSpan(starts[first], starts[after - 1] + len(words[after - 1]), label, " ".join(words[first:after]))
        for label, first, after in spans_of(row.tags)
    )
    return Form(((TEXT, " ".join(words)),)), TagExpectation(spans=spans)


def draft(rows: Sequence[TagRow], labels: Sequence[str]) -> Draft:
    """A test of each label by sentences that have it, and one in which other mentions stand in its place."""
    mentions: dict[str, Counter[str]] = {}
    for row in rows:
        for label, text in _mentions(row):
            mentions.setdefault(label, Counter())[text] += 1
    lexicons = {
        _lexicon_name(label): [text for text, _ in found.most_common(MENTIONS)] for label, found in mentions.items()
    }
    tests = []
    for label in sorted(mentions):
        texts = [_mark_entities(row) for row in rows if any(label == one for one, _, _ in spans_of(row.tags))]
        about = f"Sentences with {label}. Which of them must never go wrong?"
        tests.append(DraftedTest(f"finds {label}", about, {"texts": texts[:TEXTS_OF_LABEL], "expect": "marked"}))
        entries = lexicons[_lexicon_name(label)]
        known = [row for row in rows if any(one == label and text in entries for one, text in _mentions(row))]
        if len(entries) > 1 and known:
            about = f"Another {label} in its place is one as well. Mentions that do not fit there: take them out."
            keys = {
                "texts": [_mark_entities(row) for row in known[:TEXTS_OF_LABEL]],
                "unchanged_by": [{"lexicon": _lexicon_name(label)}],
            }
            tests.append(DraftedTest(f"finds any {label}", about, keys))
    texts = [_mark_entities(row) for row in rows[: 2 * TEXTS_OF_LABEL]]
    about = "None of these changes what a sentence speaks of, so the spans stay."
    changes = ("case", "punctuation", "sentence", "name")
    tests.append(DraftedTest("a change that says nothing", about, {"texts": texts, "unchanged_by": changes}))
    return Draft(tuple(tests), lexicons)


def _lexicon_name(label: str) -> str:
    name = re.sub(r"\W+", "_", label.lower())
    return f"{name}_" if name[-1:].isdecimal() else name if name[:1].isalpha() else f"label_{name}_"


def _mentions(row: TagRow) -> Iterator[tuple[str, str]]:
    words = row.input["tokens"]
    for label, first, after in spans_of(row.tags):
        yield label, _join_words(words[first:after])


def _mark_entities(row: TagRow) -> str:
    """The sentence as a template, its entities marked."""
    words, pieces, at = row.input["tokens"], [], 0
    for label, first, after in spans_of(row.tags):
        pieces += [as_template(word) for word in words[at:first]]
        pieces.append(f"[{as_template(_join_words(words[first:after]))}]({label})")
        at = after
    return _join_words([*pieces, *(as_template(word) for word in words[at:])])


def _join_words(words: Sequence[str]) -> str:
    """Words as they are written, by and large: no space before a comma, nor behind a bracket."""
    text = ""
    for i, word in enumerate(words):
        is_tight = not i or word in NO_SPACE_BEFORE or words[i - 1] in NO_SPACE_AFTER
        text += word if is_tight else f" {word}"
    return text
