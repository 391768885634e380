"""The head on words knows labels by words, in any script, and its probabilities are held out."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from llmos.evaluation.word_head import cross_validated_words

WORDS = ("the parcel is late again", "the card was charged twice", "the screen of my phone broke")
SENTENCES = ("酒店房间很干净", "前台态度非常差", "早餐的味道一般")


def rows(texts, count=60):
    y = np.arange(count) % len(texts)
    return [f"{texts[label]} {i}" for i, label in enumerate(y)], y


@pytest.mark.parametrize("texts", [WORDS, WORDS[:2], SENTENCES])
def test_labels_are_known_by_their_words(texts):
    lines, y = rows(texts)
    found = cross_validated_words(lines, y, classes=len(texts))
    assert (found.argmax(axis=1) == y).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_a_class_of_one_row_is_held_out_and_unlikely():
    lines, y = rows(WORDS)
    y = np.where(np.arange(len(y)) == 7, 3, y)
    found = cross_validated_words(lines, y, classes=4)
    assert found[7, 3] < 0.5
    assert np.isfinite(found).all()


def test_a_single_class_and_texts_without_a_common_word_are_no_error():
    lines, y = rows(WORDS)
    assert cross_validated_words(lines, y * 0, classes=1).shape == (60, 1)
    assert cross_validated_words([f"w{i}" for i in range(60)], y, classes=3) is None
