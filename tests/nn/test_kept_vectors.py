"""Vectors are computed once: a later process reads them from the file, and computes those of new texts alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from llmos.nn.kept_vectors import KeptVectors

pytestmark = pytest.mark.torch
KEY = b"k" * 32


class Counts:
    """An encoder that gives a text's length and first letter, and remembers which it was asked for."""

    def __init__(self) -> None:
        self.texts_asked: list[str] = []

    def texts(self, texts: Any, *, on_done: Any) -> Any:
        self.texts_asked += texts
        on_done(len(texts))
        return np.array([[len(one), ord(one[0])] for one in texts], np.float32)


def kept(path: Path, encoder: Any, key: bytes = KEY) -> KeptVectors:
    return KeptVectors(lambda: encoder, path, key)


def test_only_new_texts_are_computed_and_the_order_is_that_of_the_texts(tmp_path):
    path, done = tmp_path / "rows" / "tiny.npz", []
    first, second, third = Counts(), Counts(), Counts()
    assert kept(path, first).texts(["aa", "b"]).tolist() == [[2, 97], [1, 98]]
    assert kept(path, second).texts(["ccc", "b", "aa"], on_done=done.append).tolist() == [[3, 99], [1, 98], [2, 97]]
    assert (second.texts_asked, done) == (["ccc"], [2, 3])
    assert kept(path, third).texts(["aa", "aa"]).tolist() == [[2, 97], [2, 97]]
    assert third.texts_asked == []
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_no_model_is_loaded_where_nothing_is_new(tmp_path):
    kept(tmp_path / "tiny.npz", Counts()).texts(["aa"])
    again = KeptVectors(lambda: pytest.fail("loaded"), tmp_path / "tiny.npz", KEY)
    assert again.texts(["aa"]).shape == (1, 2)


@pytest.mark.parametrize("spoiled", [b"", b"PK", b"nonsense"])
def test_a_damaged_file_is_computed_anew(tmp_path, spoiled):
    path = tmp_path / "tiny.npz"
    path.write_bytes(spoiled)
    assert kept(path, Counts()).texts(["aa"]).tolist() == [[2, 97]]
    assert kept(path, Counts()).texts(["aa"]).tolist() == [[2, 97]]


def test_another_homes_key_finds_nothing(tmp_path):
    other = Counts()
    kept(tmp_path / "tiny.npz", Counts()).texts(["aa"])
    kept(tmp_path / "tiny.npz", other, b"o" * 32).texts(["aa"])
    assert other.texts_asked == ["aa"]
