"""answer: what it takes, how it cuts a passage, and which piece of it it gives."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.error import BadInput, TooLong
from llmos.tasks import Rendered, Settings, task
from llmos.tasks.answer import NOWHERE, Passage, Window, place_in
from llmos.testing.errors import fails_with
from llmos.testing.tokenizer import PieceTokenizer

ROOM = Settings(("start", "end"), {}, 128)
TEXT = "Ada Lovelace lived in London"


def rendered(passage: str, settings: Settings, question: str = "who is it") -> Rendered:
    checked = task("answer").check({"question": question, "passage": passage})
    (one,) = task("answer").render([checked], PieceTokenizer(), settings)
    return one


def pointing(one: Rendered, *spans: tuple[int, int] | None) -> list[list[list[float]]]:
    """Logits that say, for each window, these first and last tokens; nowhere, where there are none."""
    raw = []
    for part, span in zip(one.parts, spans, strict=True):
        logits = [[0.0, 0.0] for _ in part]
        start, end = span or (NOWHERE, NOWHERE)
        logits[start][0] = logits[end][1] = 9.0
        raw.append(logits)
    return raw


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        ("hello", {"expected": ["question", "passage"]}),
        ({"question": "hello"}, {"expected": ["question", "passage"]}),
        ({"question": "hello", "passage": " "}, {"field": "passage"}),
        ({"question": 3, "passage": "text"}, {"field": "question"}),
    ],
)
def test_an_input_without_question_or_passage_is_named_by_what_it_lacks(
    data: object, detail: dict[str, object]
) -> None:
    with fails_with(BadInput, **detail):
        task("answer").check(data)


def test_an_answer_is_a_piece_of_the_passage_with_its_characters() -> None:
    one = rendered(TEXT, ROOM)
    (window,) = one.context.windows
    pieces = [TEXT[a:b] for a, b in window.offsets]
    assert "".join(pieces) == TEXT.replace(" ", "")
    start, end = window.first + pieces.index("Lond"), window.first + pieces.index("on")
    given_answer = task("answer").parse(pointing(one, (start, end)), one, ROOM, {})
    assert (given_answer["text"], given_answer["start"], given_answer["end"]) == ("London", 22, 28)
    assert given_answer["score"] > 0.9 > given_answer["no_answer"]
    assert place_in(window, 22, 28) == (start, end)


def test_a_passage_that_does_not_say_is_answered_so() -> None:
    one = rendered(TEXT, ROOM)
    said = task("answer").parse(pointing(one, None), one, ROOM, {})
    assert (said["text"], said["start"], said["end"]) == ("", None, None)
    assert said["no_answer"] > 0.9 > said["score"]


def test_the_threshold_asks_for_surer_answers() -> None:
    one = rendered(TEXT, ROOM)
    first = one.context.windows[0].first
    raw = pointing(one, (first, first))
    assert task("answer").parse(raw, one, ROOM, {"threshold": 0.9})["text"] == "Ada"
    assert task("answer").parse(raw, one, ROOM, {"threshold": 1})["text"] == ""
    for bad in ({"threshold": 2}, {"threshold": True}, {"max_answer_tokens": 0}, {"max_answer_tokens": "x"}):
        with fails_with(BadInput, key=next(iter(bad))):
            task("answer").parse(raw, one, ROOM, bad)


def test_every_token_of_a_long_passage_is_in_a_window_and_neighbours_overlap() -> None:
    words = [f"w{i}" for i in range(100)]
    one = rendered(" ".join(words), Settings((), {"stride": 6}, 24))
    assert all(len(part) <= 24 for part in one.parts)
    question = one.context.windows[0].first
    assert all(part[:question] == one.parts[0][:question] and part[-1] == one.parts[0][-1] for part in one.parts)
    spans = [window.offsets for window in one.context.windows]
    assert [span for i, some in enumerate(spans) for span in some[6 if i else 0 :]] == sorted(
        {span for some in spans for span in some}
    )
    assert all(a[-6:] == b[:6] for a, b in pairwise(spans))
    say = " ".join(words)
    assert [say[a:b] for a, b in sorted({span for some in spans for span in some})] == words


def test_the_best_window_answers_and_all_must_say_nowhere() -> None:
    one = rendered(" ".join(f"w{i}" for i in range(60)), Settings((), {"stride": 4}, 32))
    count = len(one.parts)
    assert count > 2
    first = one.context.windows[1].first
    spans = [None, (first + 2, first + 3), *[None for _ in range(count - 2)]]
    text = " ".join(f"w{i}" for i in range(60))
    said = task("answer").parse(pointing(one, *spans), one, ROOM, {})
    assert said["text"] == text[said["start"] : said["end"]] != ""
    (a, _), (_, b) = one.context.windows[1].offsets[2:4]
    assert (said["start"], said["end"]) == (a, b)


def test_an_answer_cut_by_a_window_is_nowhere_in_it() -> None:
    window = Window(5, ((0, 3), (4, 8), (9, 12)))
    assert place_in(window, 4, 8) == (6, 6)
    assert place_in(window, 4, 12) == (6, 7)
    assert place_in(window, 9, 15) == (NOWHERE, NOWHERE)
    assert place_in(window, 20, 25) == (NOWHERE, NOWHERE)


def test_a_question_that_leaves_no_room_is_refused_with_the_numbers() -> None:
    with fails_with(TooLong, size=33, limit=24):
        rendered("a passage of many words, so many that it needs some room", Settings((), {}, 24), "why " * 30)


LOGITS = st.floats(-20, 20)


@settings(max_examples=60)
@given(st.lists(st.tuples(LOGITS, LOGITS), min_size=2, max_size=14), st.integers(1, 6))
def test_the_span_is_the_likeliest_of_all_that_are_short_enough(pairs: list[tuple[float, float]], longest: int) -> None:
    size = len(pairs) - 1
    text = "abcdefghijklmnop"[:size]
    window = Window(1, tuple((i, i + 1) for i in range(size)))
    one = Rendered([], Passage(text, (window,)), (list(range(len(pairs))),))
    said = task("answer").parse([[list(pair) for pair in pairs]], one, ROOM, {"max_answer_tokens": longest})
    total = [math.fsum(math.exp(pair[side]) for pair in pairs) for side in (0, 1)]
    chances = {
        (i, j): math.exp(pairs[i + 1][0] + pairs[j + 1][1]) / (total[0] * total[1])
        for i in range(size)
        for j in range(i, min(size, i + longest))
    }
    best = max(chances.values())
    assert said["score"] == pytest.approx(best, rel=1e-9)
    if said["text"]:
        assert chances[said["start"], said["end"] - 1] == pytest.approx(best, rel=1e-9)
        assert said["score"] >= said["no_answer"]
    else:
        assert said["no_answer"] > said["score"]
