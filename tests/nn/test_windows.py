"""Windows: a long text is cut into framed parts that hold all of its tokens, once."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given
from hypothesis import strategies as st

from llmos.nn.text.tokenizer import FastTokenizer
from llmos.nn.windows import cut_windows, frame_of
from llmos.testing import tiny

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> FastTokenizer:
    return FastTokenizer(tiny.write(tmp_path_factory.mktemp("bases") / "bert", "bert"))


@given(st.integers(1, 400), st.integers(8, 64))
def test_windows_hold_every_token_once_within_the_limit(tokenizer: FastTokenizer, size: int, limit: int) -> None:
    text = "".join(chr(97 + i % 26) for i in range(size))
    frame = frame_of(tokenizer)
    (windows,) = cut_windows(tokenizer, [text], limit)
    assert all(len(one) <= limit for one in windows)
    inner = [one[at] for one in windows for at in frame.places(len(one))]
    (whole,) = tokenizer.encode([text], special=False)
    assert inner == (whole.ids if size > 1 else [])
    assert max(map(len, windows), default=0) - min(map(len, windows), default=0) <= 1


def test_texts_keep_their_order_and_a_short_one_has_no_window(tokenizer: FastTokenizer) -> None:
    found = cut_windows(tokenizer, ["ab", "a", "abc"], 16)
    assert [len(one) for one in found] == [1, 0, 1]
    assert frame_of(tokenizer).size == 2


def test_a_decoder_that_frames_nothing_gets_its_bare_tokens(tmp_path: Path) -> None:
    made = FastTokenizer(tiny.write(tmp_path / "llama", "llama"))
    frame = frame_of(made)
    (windows,) = cut_windows(made, ["abc"], 16)
    (whole,) = made.encode(["abc"], special=True)
    assert windows == [whole.ids]
    assert frame.around([7]) == [*frame.opens, 7, *frame.closes]
