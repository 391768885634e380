"""Every augmenter, on every family that takes it: targets stay right, and what is made is repeatable."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmos.abi.augmentation import AUGMENTERS, Augmentation, ChangeKind
from llmos.abi.error import BadInput
from llmos.data.augmentation.added import DISAGREES, HELD_OUT, add_rows
from llmos.data.augmentation.augmenter import Material
from llmos.data.augmentation.families import augmenters_for
from llmos.data.augmentation.families.tags import entities_of, text_of
from llmos.data.augmentation.places import Place, words_in
from llmos.data.augmentation.registry import REGISTRY
from llmos.data.char_spans import CharSpan, tags_of
from llmos.data.row import LabelRow, PairRow, Row, SpanRow, TagRow, TextRow
from llmos.data.splits import key_of
from llmos.tasks.tag import spans_of

SIGNS = (
    *("refund", "Not", "don't", "naïve", "nai\u0308ve", "of", "the", "card", "U.S.", "3,000", "re-do", "STRASSE", "ß"),
    *(
        "退",
        "款",
        "没",
        "有",
        "ありがとう",
        "ไทย",
        "हिन्दी",
        "𝒳",
        "😀",
        "👩\u200d👧",
        "\u00ad",
        "\u200b",
        "ﬁn",
        "İ",
        "e\u0301",
    ),
    *(".", ",", "!", "“", "(", ")"),
)
GAPS = (" ", " ", "", "  ", "\n", "\u00a0")
TEXTS = st.lists(st.tuples(st.sampled_from(SIGNS), st.sampled_from(GAPS)), min_size=1, max_size=12).map(
    lambda parts: "".join(sign + gap for sign, gap in parts)
)
WORD_LISTS = st.lists(st.sampled_from(SIGNS), min_size=1, max_size=10)
LABELS = ("PER", "ORG")


@dataclass(frozen=True)
class Echo:
    """Proposes one word for every place, and says texts anew by their reverse: what models would do, at its worst."""

    word: str = "other 词"

    def offers(self, word: str) -> bool:
        return True

    def propose(self, texts: Sequence[str], places: Sequence[Sequence[Place]]) -> list[list[tuple[str, ...]]]:
        return [[(self.word, text[start:end]) for start, end in some] for text, some in zip(texts, places, strict=True)]

    def rewrite(self, texts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        return [text[::-1] for text in texts]


def material(task: str, rows: Sequence[Row]) -> Material:
    echo = Echo()
    substitutes = dict.fromkeys(("synonym", "neighbour", "masked"), echo)
    return Material(task, rows, substitutes, dict.fromkeys(("paraphrase", "back-translation"), echo))


def augmented(task: str, rows: Sequence[Row], name: str, seed: int = 7) -> list[tuple[Row, Row]]:
    """Each row that was made, behind the row that it was made of."""
    found = add_rows(material(task, rows), Augmentation((name,), copies=2, strength=0.4, seed=seed), ())
    return [(rows[one.parent], one.row) for one in found.rows]


@st.composite
def tagged_words(draw: st.DrawFn) -> TagRow:
    words = draw(WORD_LISTS)
    tags: list[str] = []
    for _ in words:
        follows = [f"I-{tags[-1][2:]}"] if tags and tags[-1] != "O" else []
        tags.append(draw(st.sampled_from(["O", "B-PER", "B-ORG", *follows])))
    return TagRow({"tokens": words}, tuple(tags), "f", 1)


@st.composite
def tagged_text(draw: st.DrawFn) -> TagRow:
    text = draw(TEXTS.filter(lambda one: words_in(one)))
    offsets = words_in(text)
    spans, at = [], 0
    while at < len(offsets):
        size = draw(st.integers(0, 2))
        if size and at + size <= len(offsets):
            spans.append(CharSpan(offsets[at][0], offsets[at + size - 1][1], draw(st.sampled_from(LABELS))))
        at += size + 1
    tags = tags_of(spans, offsets, Counter())
    places = tuple((one.start, one.end, one.label) for one in spans)
    return TagRow({"tokens": [text[s:e] for s, e in offsets]}, tuple(tags), "f", 1, text, places)


@st.composite
def answered(draw: st.DrawFn) -> SpanRow:
    passage = draw(TEXTS.filter(lambda one: words_in(one)))
    places = draw(st.lists(st.sampled_from(words_in(passage)), max_size=2, unique=True))
    answers = tuple(passage[start:end] for start, end in places)
    asked = {"question": draw(TEXTS.filter(str.strip)), "passage": passage}
    return SpanRow(asked, answers, tuple(start for start, _ in places), "f", 1)


@pytest.mark.parametrize("name", augmenters_for("tag"))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(st.one_of(tagged_words(), tagged_text()), min_size=1, max_size=4))
def test_every_tag_stays_with_its_word(name: str, rows: list[TagRow]):
    for before, after in augmented("tag", rows, name):
        assert isinstance(before, TagRow)
        assert isinstance(after, TagRow)
        assert len(after.tags) == len(after.input["tokens"])
        assert all(word.strip(" \t\r\n\f\v") for word in after.input["tokens"])
        old, new = entities_of(before), entities_of(after)
        assert [label for _, label in old] == [label for _, label in new]
        assert [label for label, _, _ in spans_of(after.tags)] == [label for _, label in new]
        if AUGMENTERS[name].kind is ChangeKind.WORDS:
            assert [text_of(before)[s:e] for (s, e), _ in old] == [text_of(after)[s:e] for (s, e), _ in new]
        if after.text is not None:
            assert [after.text[s:e] for s, e in after.offsets] == after.input["tokens"]
            assert all(after.text[s:e].strip() == after.text[s:e] != "" for (s, e), _ in new)


@pytest.mark.parametrize("name", augmenters_for("answer"))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(answered(), min_size=1, max_size=3))
def test_every_answer_stays_where_its_start_says(name: str, rows: list[SpanRow]):
    for before, after in augmented("answer", rows, name):
        assert isinstance(before, SpanRow)
        assert isinstance(after, SpanRow)
        assert after.answers == before.answers
        passage = after.input["passage"]
        assert [passage[s : s + len(a)] for s, a in zip(after.starts, after.answers, strict=True)] == [*after.answers]


@pytest.mark.parametrize("name", augmenters_for("classify"))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts=st.lists(TEXTS.filter(str.strip), min_size=1, max_size=4), many=st.booleans())
def test_labels_stay_and_the_text_is_another(name: str, texts: list[str], many: bool):
    rows = [LabelRow({"text": text}, ("a", "b") if many else ("a",), "f", i, many) for i, text in enumerate(texts)]
    for before, after in augmented("classify", rows, name):
        assert isinstance(after, LabelRow)
        assert replace(after, input=before.input) == before
        assert after.input["text"].strip()
        assert (after.input == before.input) == (name == "repeat")


@pytest.mark.parametrize("name", augmenters_for("similarity"))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts=st.tuples(TEXTS.filter(str.strip), TEXTS.filter(str.strip)), ranks=st.booleans())
def test_a_pair_keeps_its_score_and_its_fields(name: str, texts: tuple[str, str], ranks: bool):
    one, two = texts
    asked = {"query": one, "documents": [two]} if ranks else {"text": one, "other": two}
    row = PairRow(asked, 0.5, "f", 1)
    for _, after in augmented("rerank" if ranks else "similarity", [row], name):
        assert isinstance(after, PairRow)
        assert (after.score, [*after.input]) == (0.5, [*asked])
        assert all(text.strip() for text in after.texts)


def test_of_a_conversation_only_the_last_message_of_the_user_changes():
    talk = [{"role": "system", "content": "Be polite now."}, {"role": "user", "content": "Where is my parcel today?"}]
    row = TextRow({"messages": talk}, "On its way", "f", 1)
    ((_, after),) = {key_of(one): (row, one) for _, one in augmented("chat", [row], "keyboard")[:1]}.values()
    assert isinstance(after, TextRow)
    assert after.answer == "On its way"
    assert after.input["messages"][0] == talk[0]
    assert after.input["messages"][1]["content"] != talk[1]["content"]


@pytest.mark.parametrize(
    ("task", "name"),
    [("classify", "mention"), ("tag", "paraphrase"), ("answer", "shuffle"), ("generate", "swap"), ("chat", "token")],
)
def test_an_augmenter_that_would_spoil_a_target_is_refused(task: str, name: str):
    with pytest.raises(BadInput) as caught:
        add_rows(material(task, ()), Augmentation((name,)), ())
    assert caught.value.detail["value"] == name
    assert name not in caught.value.detail["expected"]


def rows_of(count: int = 40) -> list[Row]:
    chance = random.Random(1)
    words = ("where", "is", "my", "card", "why", "has", "the", "payment", "failed", "today", "after", "refund", "money")
    return [
        LabelRow({"text": " ".join(chance.choices(words, k=8)) + f" {i}"}, ("few" if i % 8 == 0 else "many",), "f", i)
        for i in range(count)
    ]


def texts_by_parent(rows: Sequence[Row], how: Augmentation) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in add_rows(material("classify", rows), how, ()).rows:
        found.setdefault(rows[one.parent].texts[0], []).append(one.row.texts[0])
    return found


def test_what_is_made_of_a_row_does_not_depend_on_the_order_of_rows():
    rows, how = rows_of(), Augmentation(("swap", "insert", "typo"), copies=3)
    mixed = random.Random(2).sample(rows, len(rows))
    assert texts_by_parent(rows, how) == texts_by_parent(mixed, how)
    assert texts_by_parent(rows, how) != texts_by_parent(rows, replace(how, seed=8))


def test_no_row_is_made_that_stands_in_validation_or_test():
    rows: list[Row] = [LabelRow({"text": "one two three"}, ("a",), "f", 1)]
    every = {key_of(one.row) for seed in range(40) for one in add_rows(
        material("classify", rows), Augmentation(("delete",), seed=seed), ()).rows}  # fmt: skip
    assert len(every) == 3
    found = add_rows(material("classify", rows), Augmentation(("delete",), copies=4), every)
    assert (found.rows, found.missing) == ((), {HELD_OUT: 4})


def test_no_row_is_made_twice_or_equals_another_training_row():
    rows: list[Row] = [
        LabelRow({"text": "card lost today"}, ("a",), "f", 1),
        LabelRow({"text": "card today"}, ("b",), "f", 2),
    ]
    found = add_rows(material("classify", rows), Augmentation(("delete",), copies=4), ())
    assert sorted(one.row.texts[0] for one in found.rows) == ["card lost", "lost today"]


def test_rows_that_the_model_asked_labels_otherwise_are_left_out():
    rows = rows_of()
    found = add_rows(
        material("classify", rows),
        Augmentation(("swap", "delete")),
        (),
        agrees={"swap": lambda some: [False] * len(some)},
    )
    assert set(found.counts) == {"delete"}
    everything = add_rows(
        material("classify", rows), Augmentation(("swap",)), (), {"swap": lambda some: [False] * len(some)}
    )
    assert everything.rows == ()
    assert everything.missing[DISAGREES] > 30


def test_balance_gives_every_label_as_many_rows():
    rows = rows_of()
    found = add_rows(material("classify", rows), Augmentation(("swap",), balance=True), ())
    kinds = [rows[one.parent].kinds for one in found.rows]
    assert kinds == [{"few"}] * 30
    again = add_rows(material("classify", rows), Augmentation(balance=True), ())
    assert again.counts == {"repeat": 30}


def test_only_rows_of_the_labels_named_are_copied():
    rows = rows_of()
    found = add_rows(material("classify", rows), Augmentation(("swap",), only_labels=("few",)), ())
    assert {kind for one in found.rows for kind in rows[one.parent].kinds} == {"few"}
    with pytest.raises(BadInput) as caught:
        add_rows(material("classify", rows), Augmentation(("swap",), only_labels=("fwe",)), ())
    assert caught.value.detail["key"] == "only_labels"


def test_a_share_of_rows_is_chosen_by_the_rows_themselves():
    rows, how = rows_of(), Augmentation(("swap",), share=0.5)
    chosen = set(texts_by_parent(rows, how))
    assert 10 <= len(chosen) <= 30
    assert set(texts_by_parent(rows[:20], how)) == chosen & {row.texts[0] for row in rows[:20]}


def test_the_names_of_settings_are_those_of_augmenters():
    assert set(REGISTRY) == set(AUGMENTERS)


@pytest.mark.parametrize("name", ["neighbour", "masked", "paraphrase", "back-translation"])
def test_an_augmenter_without_its_model_says_what_it_needs(name: str):
    with pytest.raises(BadInput) as caught:
        add_rows(Material("classify", rows_of()), Augmentation((name,)), ())
    assert caught.value.detail["lacks"] == AUGMENTERS[name].needs


def test_the_count_of_changed_rows_never_goes_back():
    rows = [LabelRow({"text": f"card {i} of mine is lost"}, ("lost",), "f", i) for i in range(150)]
    counts: list[tuple[int, int]] = []
    held = {key_of(row) for _, row in augmented("classify", rows, "masked")}
    add_rows(material("classify", rows), Augmentation(("masked",)), held, report=lambda n, of: counts.append((n, of)))
    assert len(counts) > 3
    assert counts == sorted(counts)
    assert {of for _, of in counts} == {150}


def test_words_without_substitutes_are_not_drawn():
    class OneWord(Echo):
        def offers(self, word: str) -> bool:
            return word == "card"

    rows = [LabelRow({"text": "please send this new card to another place soon"}, ("card",), "f", 1)]
    source = Material("classify", rows, {"neighbour": OneWord("ticket")})
    found = add_rows(source, Augmentation(("neighbour",)), ()).rows
    assert [one.row.input["text"] for one in found] == ["please send this new ticket to another place soon"]
