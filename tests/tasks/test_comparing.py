"""rerank and similarity: what they take, how they read and cut two texts, and how they answer."""

from __future__ import annotations

from array import array

import pytest

from llmos.abi.error import BadInput, TooLong
from llmos.tasks import EncodedPair, Rendered, Settings, task
from llmos.tasks.pair import fitted_pairs, second_of
from llmos.testing.errors import fails_with
from llmos.testing.tokenizer import PieceTokenizer

BASE = Settings((), {}, 64)
TRAINED = Settings(("relevance",), {}, 64)
ASKED = {"query": "where is it", "documents": ["on its way", "returns", "hours"]}


def vector(*numbers: float) -> bytes:
    return array("f", numbers).tobytes()


@pytest.mark.parametrize(
    ("name", "data", "detail"),
    [
        ("rerank", "hello", {"expected": ["query", "documents"]}),
        ("rerank", {"query": "hello"}, {"expected": ["query", "documents"]}),
        ("rerank", {"query": "hello", "documents": []}, {"field": "documents"}),
        ("rerank", {"query": "hello", "documents": "one"}, {"field": "documents"}),
        ("rerank", {"query": "hello", "documents": ["one", " "]}, {"at": "documents[1]"}),
        ("rerank", {"query": "", "documents": ["one"]}, {"field": "query"}),
        ("similarity", "hello", {"expected": ["text", "other"]}),
        ("similarity", {"text": "hello"}, {"expected": ["text", "other"]}),
        ("similarity", {"text": "hello", "other": ""}, {"field": "other"}),
        ("similarity", ["a", "b", "c"], {"expected": ["text", "other"]}),
    ],
)
def test_an_input_that_cannot_be_compared_says_in_its_sentence_what_to_send(
    name: str, data: object, detail: dict[str, object]
) -> None:
    with fails_with(BadInput, **detail) as refused:
        task(name).check(data)
    assert "Send" in refused.value.message or "Every document" in refused.value.message


def test_a_base_reads_query_and_documents_apart_and_a_trained_model_pairs() -> None:
    checked = task("rerank").check(ASKED)
    (apart,) = task("rerank").render([checked], PieceTokenizer(), BASE)
    (together,) = task("rerank").render([checked], PieceTokenizer(), TRAINED)
    assert apart.parts == tuple(one.ids for one in PieceTokenizer().encode(["where is it", *ASKED["documents"]]))
    assert together.parts == tuple(
        one.ids for one in PieceTokenizer().encode_pairs([("where is it", d) for d in ASKED["documents"]])
    )
    assert together.size == sum(map(len, together.sequences))


def test_documents_are_answered_best_first_as_many_as_asked() -> None:
    rendered = Rendered([], ["a", "b", "c"], ([1], [2], [3]))
    raw = [[-1.0], [2.0], [0.0]]
    answer = task("rerank").parse(raw, rendered, TRAINED, {})
    assert [one["index"] for one in answer] == [1, 2, 0]
    assert answer[1]["score"] == 0.5
    short = task("rerank").parse(raw, rendered, TRAINED, {"top_n": 1, "return_documents": True})
    assert [(one["index"], one["document"]) for one in short] == [(1, "b")]
    vectors = [vector(1, 0), vector(0, 1), vector(0.6, 0.8)]
    apart = task("rerank").parse(vectors, Rendered([], ["a", "b"], ([1], [2], [3])), BASE, {})
    assert [(one["index"], round(one["score"], 4)) for one in apart] == [(1, 0.6), (0, 0.0)]
    logits = task("rerank").parse(raw, rendered, TRAINED, {"raw_scores": True})
    assert [one["score"] for one in logits] == [2.0, 0.0, -1.0]
    for bad in ({"top_n": 0}, {"top_n": True}, {"top_n": "two"}, {"return_documents": 1}, {"raw_scores": "yes"}):
        with fails_with(BadInput, key=next(iter(bad))):
            task("rerank").parse(raw, rendered, TRAINED, bad)


def test_equal_documents_keep_their_order() -> None:
    answer = task("rerank").parse([[1.0], [1.0]], Rendered([], ["a", "a"], ([1], [2])), TRAINED, {})
    assert [one["index"] for one in answer] == [0, 1]


def test_similarity_is_the_cosine_and_never_beyond_one() -> None:
    (rendered,) = task("similarity").render([{"text": "a b", "other": "c"}], PieceTokenizer(), BASE)
    assert [len(part) for part in rendered.parts] == [4, 3]
    assert task("similarity").parse([vector(1, 0), vector(0, -1)], rendered, BASE, {}) == {"score": 0.0}
    assert task("similarity").parse([vector(1, 1e-3), vector(1, 1e-3)], rendered, BASE, {}) == {"score": 1.0}


def test_the_second_text_is_cut_and_the_first_stays_whole() -> None:
    pair = ("a query of six words here", " ".join(f"w{i}" for i in range(40)))
    (whole,) = PieceTokenizer().encode_pairs([pair])
    first, after = second_of(whole)
    assert [pair[1][slice(*span)] for span in whole.offsets[first:after] if span] == pair[1].split()
    with fails_with(TooLong, size=51, limit=24):
        fitted_pairs([whole], "The pair", Settings((), {}, 24))
    (cut,) = fitted_pairs([whole], "The pair", Settings((), {"truncate": True}, 24))
    assert (cut[:first], len(cut), cut[-1]) == (whole.ids[:first], 24, whole.ids[-1])
    with pytest.raises(TooLong):
        fitted_pairs([whole], "The pair", Settings((), {"truncate": True}, 12))
    assert second_of(EncodedPair([1, 2], [None, None])) == (2, 2)
