"""How long an input may be: a text far beyond that is refused or cut alike, and little of it is tokenized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import TooLong
from llmos.tasks import Encoded, EncodedPair, Settings, task
from llmos.tasks.length import LEAST_PROBE, PROBE_CHARS, encoded, fitted, part_of
from llmos.testing.tokenizer import PieceTokenizer

LIMIT = 16
CUT = Settings(("a", "b"), {"truncate": True}, LIMIT)
MOST_CHARS = 8 * PROBE_CHARS * LEAST_PROBE  # of a text whose words are short, whatever its length


class Counting(PieceTokenizer):
    """It counts the characters that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.chars = 0

    def encode(self, texts: Sequence[str], *, special: bool = True) -> list[Encoded]:
        self.chars += sum(map(len, texts))
        return super().encode(texts, special=special)

    def encode_words(self, sentences: Sequence[Sequence[str]], *, special: bool = True) -> list[Encoded]:
        self.chars += sum(len(word) for sentence in sentences for word in sentence)
        return super().encode_words(sentences, special=special)

    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[EncodedPair]:
        self.chars += sum(len(text) for pair in pairs for text in pair)
        return super().encode_pairs(pairs)


PIECES = st.tuples(st.sampled_from(["a", "word ", " " * 9, "longerword", "é\n"]), st.integers(1, 3000))


@given(st.lists(PIECES, min_size=1, max_size=6))
def test_a_text_of_any_length_is_cut_as_if_it_were_tokenized_whole(pieces: list[tuple[str, int]]) -> None:
    text, tokenizer = "".join(piece * times for piece, times in pieces), PieceTokenizer()
    whole = fitted(tokenizer.encode([text]), "The text", tokenizer, CUT)
    assert [one.ids for one in encoded([text], "The text", tokenizer, CUT)] == [one.ids for one in whole]


@given(st.lists(PIECES, min_size=1, max_size=6), st.booleans())
def test_a_part_is_the_whole_or_certainly_too_long(pieces: list[tuple[str, int]], is_end: bool) -> None:
    text, tokenizer = "".join(piece * times for piece, times in pieces), PieceTokenizer()
    part = part_of(text, tokenizer, LIMIT, is_end=is_end)
    assert text.endswith(part) if is_end else text.startswith(part)
    if part != text:
        assert len(tokenizer.encode([text], special=False)[0].ids) > LIMIT


LONG = "many words " * 300_000
INPUTS: dict[str, Any] = {  # Any: JSON
    "classify": {"text": LONG},
    "embed": {"text": LONG},
    "tag": {"text": LONG},
    "similarity": {"text": "short", "other": LONG},
    "rerank": {"query": "short", "documents": ["short", LONG]},
    "generate": {"prompt": LONG},
    "chat": {"messages": [{"role": "user", "content": LONG}]},
}


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("labels", [(), ("relevance",)], ids=["base", "trained"])
def test_a_text_far_too_long_is_refused_after_a_part_of_it(name: str, labels: tuple[str, ...]) -> None:
    tokenizer = Counting()
    with pytest.raises(TooLong, match="has more than"):
        task(name).render([INPUTS[name]], tokenizer, Settings(labels, {}, LIMIT))
    assert tokenizer.chars <= MOST_CHARS


@pytest.mark.parametrize("name", ["classify", "tag", "similarity", "generate"])
def test_a_text_far_too_long_that_may_be_cut_is_tokenized_as_far_as_it_counts(name: str) -> None:
    tokenizer = Counting()
    (made,) = task(name).render([INPUTS[name]], tokenizer, CUT)
    assert all(len(ids) <= LIMIT for ids in made.sequences)
    assert tokenizer.chars <= MOST_CHARS


def test_where_a_prompt_is_cut_its_end_is_kept() -> None:
    tokenizer = Counting()
    (made,) = task("generate").render([{"prompt": LONG + "the very end"}], tokenizer, CUT)
    assert made.ids[-3:] == tokenizer.encode(["the very end"])[0].ids[-3:]
    assert tokenizer.chars <= MOST_CHARS
