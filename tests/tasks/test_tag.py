"""tag: words with offsets, IOB2 decoding, spans."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from llmos.abi.error import BadInput, TooLong
from llmos.tasks import Settings
from llmos.tasks.tag import LOCAL, TASK, WORD, fill_tokenless, spans_of, split
from llmos.testing.tokenizer import PieceTokenizer

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
SETTINGS = Settings(LABELS, {}, 64)


def logits(tag: str) -> list[float]:
    return [5.0 if label == tag else 0.0 for label in LABELS]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Peter's dog didn't bark.", ["Peter", "'s", "dog", "did", "n't", "bark", "."]),
        ("the U.S. all-rounder on 1996-08-30", ["the", "U.S.", "all-rounder", "on", "1996-08-30"]),
        ("$49.99 (2-1), order #A-1234...", ["$", "49.99", "(", "2-1", ")", ",", "order", "#", "A-1234", "..."]),
        ("我爱北京", ["我", "爱", "北", "京"]),
        ("AT&T and O’Brien: ada@x.org", ["AT&T", "and", "O’Brien", ":", "ada@x.org"]),
        ("The answer is no.", ["The", "answer", "is", "no", "."]),
        ("Jose\u0301 Nun\u0303ez E\u0301. Zola", ["Jose\u0301", "Nun\u0303ez", "E\u0301.", "Zola"]),
        ("Mira\u200b Hol\u00adt is\u200din", ["Mira\u200b", "Hol\u00adt", "is\u200din"]),
        ("सीता दिल्ली में है।", ["सीता", "दिल्ली", "में", "है", "।"]),
        ("อยู่ที่", ["อ", "ยู่", "ที่"]),
        ("か\u3099東京々", ["か\u3099", "東", "京", "々"]),
        ("مُحَمَّد في", ["مُحَمَّد", "في"]),
        ("a \u200b b", ["a", "\u200b", "b"]),
    ],
)
def test_text_is_cut_into_words_as_conll_does(text: str, words: list[str]) -> None:
    assert [text[start:end] for start, end in split(text)] == words


@given(st.text(max_size=200))
def test_words_cover_everything_but_space_in_order(text: str) -> None:
    spans = split(text)
    ends = [0, *(end for _, end in spans)]
    assert all(before <= start < end for before, (start, end) in zip(ends, spans, strict=False))
    assert "".join(text[a:b] for a, b in spans) == "".join(text.split())


@given(st.text("aéŁñ.'-@ Éçőヵガ각ัे", max_size=60))
@example("a.각.")  # a Hangul syllable is one letter before a full stop, or three that join
def test_composed_and_decomposed_texts_have_the_same_words(text: str) -> None:
    composed, apart = unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)
    assert [unicodedata.normalize("NFC", apart[a:b]) for a, b in split(apart)] == [
        composed[a:b] for a, b in split(composed)
    ]


@pytest.mark.parametrize("sign", ["_", "+", "-.", "._", "a_", "é"])
def test_the_signs_before_an_at_are_read_once_however_many_there_are(sign: str) -> None:
    text = sign * 500
    local = re.compile(LOCAL)
    read = sum(len(found.group()) for at in range(len(text)) if (found := local.match(text, at)))
    assert read == len(text)
    assert all(start < end for start, end in split(text))


@given(st.text("ab1_.+-@ (é中'", max_size=30))
def test_addresses_are_found_wherever_they_were_when_every_sign_might_start_one(text: str) -> None:
    slow = re.compile(WORD.pattern.replace(LOCAL, r"[\w.+-]+"), WORD.flags)
    assume(not re.search(r"@[^@]*@", text))  # an address that follows on another one starts where the first ends
    assert split(text) == [found.span() for found in slow.finditer(text)]


@given(st.lists(st.sampled_from(LABELS), max_size=12))
def test_spans_are_read_as_seqeval_reads_them_by_default(tags: list[str]) -> None:
    assert spans_of(tags) == [(label, first, last + 1) for label, first, last in get_entities(tags)]


def test_a_span_has_its_text_offsets_and_score() -> None:
    text = "Ada Lovelace, in London."
    (rendered,) = TASK.render([TASK.check(text)], PieceTokenizer(), SETTINGS)
    tags = ["I-PER", "I-PER", "O", "O", "B-LOC", "O"]  # an I- that starts nothing legal starts an entity
    raw = [logits("O") for _ in rendered.ids]
    for first, tag in zip(rendered.context.firsts, tags, strict=True):
        raw[first] = logits(tag)
    spans = TASK.parse(raw, rendered, SETTINGS, {})["spans"]
    assert [(s["text"], s["label"], s["start"], s["end"]) for s in spans] == [
        ("Ada Lovelace", "PER", 0, 12),
        ("London", "LOC", 17, 23),
    ]
    assert all(0.9 < s["score"] < 1 for s in spans)


@pytest.mark.parametrize(
    ("tags", "tokenless", "filled"),
    [
        (["B-PER", "O", "I-PER"], {1}, ["B-PER", "I-PER", "I-PER"]),
        (["B-PER", "O", "O", "I-PER"], {1, 2}, ["B-PER", "I-PER", "I-PER", "I-PER"]),
        (["B-PER", "I-PER", "B-PER"], {1}, ["B-PER", "O", "B-PER"]),
        (["B-PER", "I-PER"], {1}, ["B-PER", "O"]),
        (["B-LOC", "O", "I-PER"], {1}, ["B-LOC", "O", "I-PER"]),
        (["O", "I-PER"], {0}, ["O", "I-PER"]),
    ],
)
def test_a_word_without_a_token_continues_the_entity_around_it(
    tags: list[str], tokenless: set[int], filled: list[str]
) -> None:
    assert fill_tokenless(tags, [None if i in tokenless else i for i in range(len(tags))]) == filled


def test_tokens_are_taken_as_they_are() -> None:
    checked = TASK.check({"tokens": ["Ada", "Lovelace's"]})
    (rendered,) = TASK.render([checked], PieceTokenizer(), SETTINGS)
    assert TASK.check(checked) == checked
    assert rendered.context.text == "Ada Lovelace's"
    assert rendered.context.offsets == ((0, 3), (4, 14))
    assert rendered.context.firsts == (1, 2)


def test_a_long_text_is_refused_with_its_numbers_or_cut_where_asked() -> None:
    words = {"tokens": ["word"] * 100}
    with pytest.raises(TooLong) as refused:
        TASK.render([words], PieceTokenizer(), SETTINGS)
    assert refused.value.detail == {"size": 102, "limit": 64}
    (rendered,) = TASK.render([words], PieceTokenizer(), Settings(LABELS, {"truncate": True}, 64))
    assert len(rendered.ids) == 64
    assert rendered.ids[-1] == 1
    assert rendered.context.firsts[61:] == (62, *[None] * 38)
    assert TASK.parse([logits("O")] * 64, rendered, SETTINGS, {}) == {"spans": []}


def test_a_word_that_is_a_no_break_space_is_a_word() -> None:
    assert TASK.check({"tokens": ["Ada", "\u00a0", "left"]})["tokens"][1] == "\u00a0"


@pytest.mark.parametrize("bad", [None, 3, "", "  ", {"tokens": []}, {"tokens": ["a", ""]}, {"tokens": "a b"}, {}])
def test_what_is_no_text_is_refused_with_an_example(bad: object) -> None:
    with pytest.raises(BadInput):
        TASK.check(bad)
