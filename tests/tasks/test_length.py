"""How long an input may be: a text far beyond that is refused or cut alike, and little of it is tokenized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmos.abi.error import TooLong
from llmos.tasks import Encoded, EncodedPair, Settings, task, writer
from llmos.tasks.answer import MOST_PASSAGE_CHARS
from llmos.tasks.text import LEAST_PROBE, PROBE_CHARS, encode_within, fit_length, most_chars, part_of
from llmos.testing.errors import fails_with
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
@example([(" " * 9, 3000), (" " * 9, 3000), (" " * 9, 1281), ("word ", 2)])
def test_a_text_is_cut_as_if_all_that_is_ever_read_of_it_were_tokenized(pieces: list[tuple[str, int]]) -> None:
    text, tokenizer = "".join(piece * times for piece, times in pieces), PieceTokenizer()
    whole = fit_length(tokenizer.encode([text[: most_chars(tokenizer, LIMIT)]]), "The text", tokenizer, CUT)
    assert [one.ids for one in encode_within([text], "The text", tokenizer, CUT)] == [one.ids for one in whole]


@given(st.lists(PIECES, min_size=1, max_size=6), st.booleans())
@example([(" " * 9, 1282), (" " * 9, 3000), (" " * 9, 3000)], False)
def test_a_part_is_the_whole_or_too_long_or_all_that_is_ever_read(pieces: list[tuple[str, int]], is_end: bool) -> None:
    text, tokenizer = "".join(piece * times for piece, times in pieces), PieceTokenizer()
    part = part_of(text, "The text", tokenizer, LIMIT, CUT, cuts=True, is_end=is_end)
    assert text.endswith(part) if is_end else text.startswith(part)
    if part != text and len(part) < most_chars(tokenizer, LIMIT):
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
    with fails_with(TooLong, size=..., limit=...):
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


UNITS = ["a", " ", "\U0001f600", "日", "[UNK] ", "<|im_end|>", "\n", "e\N{COMBINING ACUTE ACCENT}"]


class Blind(Counting):
    """All of a text is one unknown word: nothing that it counts bounds what it reads."""

    def encode(self, texts: Sequence[str], *, special: bool = True) -> list[Encoded]:
        super().encode(["" for _ in texts], special=special)
        self.chars += sum(map(len, texts))
        return [Encoded([1, 2]) for _ in texts]

    def encode_words(self, sentences: Sequence[Sequence[str]], *, special: bool = True) -> list[Encoded]:
        self.chars += sum(len(word) for sentence in sentences for word in sentence)
        return [Encoded([1, 2], [0, None]) for _ in sentences]


class Noting(Blind):
    """It notes the sizes of the conversations that its template wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.rendered: list[int] = []

    def encode(self, texts: Sequence[str], *, special: bool = True) -> list[Encoded]:
        return PieceTokenizer.encode(self, texts, special=special)

    def encode_words(self, sentences: Sequence[Sequence[str]], *, special: bool = True) -> list[Encoded]:
        return PieceTokenizer.encode_words(self, sentences, special=special)

    def chat_whole(self, messages: Sequence[dict[str, Any]], tools: Sequence[Any] = ()) -> str:  # Any: JSON
        text = super().chat_whole(messages, tools)
        self.rendered.append(len(text))
        return text


HUGE = 3_000_000
MOST = most_chars(Blind(), LIMIT)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("labels", [(), ("relevance",)], ids=["base", "trained"])
def test_a_text_of_few_tokens_is_refused_for_its_characters(name: str, labels: tuple[str, ...], unit: str) -> None:
    tokenizer, text = Blind(), unit * (HUGE // len(unit))
    with fails_with(TooLong, size=..., most_chars=MOST):
        task(name).render([_with(INPUTS[name], text)], tokenizer, Settings(labels, {}, LIMIT))
    assert tokenizer.chars <= MOST


@pytest.mark.parametrize("name", ["classify", "tag", "similarity", "generate"])
def test_of_a_text_of_few_tokens_that_may_be_cut_no_more_is_read_than_ever_is(name: str) -> None:
    tokenizer = Blind()
    (made,) = task(name).render([_with(INPUTS[name], "a" * HUGE)], tokenizer, CUT)
    assert all(len(ids) <= LIMIT for ids in made.sequences)
    assert tokenizer.chars <= 4 * MOST


def test_one_text_is_read_up_to_the_last_character_that_may_be() -> None:
    tokenizer, settings = Blind(), Settings((), {}, LIMIT)
    assert [one.ids for one in encode_within(["a" * MOST], "The text", tokenizer, settings)] == [[1, 2]]
    with pytest.raises(TooLong) as refused:
        encode_within(["a" * (MOST + 1)], "The text", tokenizer, settings)
    assert refused.value.detail == {"size": MOST + 1, "limit": LIMIT, "most_chars": MOST}


def test_of_a_conversation_that_may_be_cut_what_cannot_fit_is_never_rendered() -> None:
    tokenizer, last = Noting(), {"role": "user", "content": "the last"}
    old = [{"role": "user", "content": "a" * MOST}, {"role": "system", "content": "be kind"}]
    (made,) = task("chat").render([{"messages": [*old, last]}], tokenizer, Settings(("a",), {"truncate": True}, 64))
    assert max(tokenizer.rendered) < MOST
    assert made.ids == tokenizer.encode(["<system> be kind <user> the last <assistant> "], special=False)[0].ids
    with fails_with(TooLong, size=..., limit=LIMIT, most_chars=MOST):
        task("chat").render([{"messages": [{**last, "content": "a" * HUGE}]}], tokenizer, CUT)


@pytest.mark.parametrize("name", ["generate", "chat"])
def test_an_example_of_few_tokens_is_refused_as_a_call_would_be(name: str) -> None:
    tokenizer, settings = Blind(), Settings(("a",), {}, LIMIT)
    for asked, answer in ((_with(INPUTS[name], "a" * HUGE), "short"), (_with(INPUTS[name], "short"), "a" * HUGE)):
        with fails_with(TooLong, size=..., most_chars=MOST):
            writer(name).teach(asked, answer, tokenizer, settings)
    assert tokenizer.chars <= 2 * MOST


def test_a_passage_is_bounded_for_what_its_windows_would_take() -> None:
    asked = {"question": "who?", "passage": "a" * (MOST_PASSAGE_CHARS + 1)}
    with fails_with(TooLong, size=MOST_PASSAGE_CHARS + 1, most_chars=MOST_PASSAGE_CHARS):
        task("answer").render([asked], Blind(), Settings((), {}, LIMIT))


def _with(data: Any, text: str) -> Any:  # Any: JSON
    """The same input with this text in place of the long one."""
    if isinstance(data, dict):
        return {key: _with(one, text) for key, one in data.items()}
    if isinstance(data, list):
        return [_with(one, text) for one in data]
    return text if data is LONG else data
