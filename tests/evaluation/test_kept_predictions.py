"""What a model predicts is computed once: a later process reads it from the file, and asks about new rows alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

from llmos.data.row import LabelRow, TagRow
from llmos.evaluation.families.labels import LabelPrediction
from llmos.evaluation.families.tags import TagPrediction
from llmos.evaluation.kept_predictions import KeptPredictions

pytestmark = pytest.mark.torch
KEY = b"k" * 32
LABELS = ("a", "b")
TAGS = ("O", "B-PER", "I-PER")


class Model:
    """Predicts from a row's length, and remembers which rows it was asked about."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def predict(self, rows: Any) -> list[Any]:
        self.asked += [" ".join(row.texts) for row in rows]
        return [self._one(row) for row in rows]

    def _one(self, row: Any) -> LabelPrediction | TagPrediction:
        if isinstance(row, TagRow):
            words = row.input["tokens"]
            bare = frozenset(at for at, word in enumerate(words) if word == "-")
            made = np.array([[len(word), 0.5, at] for at, word in enumerate(words)], np.float32)
            return TagPrediction(made.reshape(-1, 3), bare)
        return LabelPrediction(np.array([len(row.texts[0]), 1], np.float32))


def texts(*said: str, label: str = "a") -> list[LabelRow]:
    return [LabelRow({"text": text}, (label,), "f", at) for at, text in enumerate(said)]


def kept(path: Path, model: Any, task: str = "classify", key: bytes = KEY) -> KeptPredictions:
    return KeptPredictions(lambda: model, task, TAGS if task == "tag" else LABELS, path, key)


def shares(found: list[Any]) -> list[Any]:
    return [one.probabilities.tolist() for one in found]


def test_only_new_rows_are_asked_whatever_their_labels_are(tmp_path):
    path, first, second = tmp_path / "rows" / "tiny.npz", Model(), Model()
    with kept(path, first) as model:
        assert shares(model.predict(texts("aa", "b", "aa"))) == [[2, 1], [1, 1], [2, 1]]
        model.predict(texts("b", label=""))
    assert first.asked == ["aa", "b"]
    with kept(path, second) as model:
        assert shares(model.predict(texts("ccc", "b", label="b"))) == [[3, 1], [1, 1]]
    assert second.asked == ["ccc"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_no_model_is_loaded_and_nothing_written_where_nothing_is_new(tmp_path):
    path = tmp_path / "tiny.npz"
    with kept(path, Model()) as model:
        model.predict(texts("aa"))
    path.chmod(0o400)
    with KeptPredictions(lambda: pytest.fail("loaded"), "classify", LABELS, path, KEY) as model:
        assert shares(model.predict(texts("aa"))) == [[2, 1]]
    assert path.stat().st_mode & 0o777 == 0o400


@given(st.lists(st.lists(st.sampled_from(["Ada", "-", "x"]), max_size=4), min_size=1, max_size=8))
def test_tags_come_back_as_they_were_also_of_words_without_a_token(tmp_path_factory, sentences):
    path = tmp_path_factory.mktemp("kept") / "tiny.npz"
    rows = [TagRow({"tokens": words}, (), "f", at) for at, words in enumerate(sentences)]
    wanted = Model().predict(rows)
    with kept(path, Model(), "tag") as model:
        model.predict(rows)
    with KeptPredictions(lambda: pytest.fail("loaded"), "tag", TAGS, path, KEY) as model:
        found = model.predict(rows)
    assert shares(found) == shares(wanted)
    assert [one.tokenless for one in found] == [one.tokenless for one in wanted]


@pytest.mark.parametrize("spoiled", [b"", b"PK", b"nonsense"])
def test_a_damaged_file_is_made_anew(tmp_path, spoiled):
    path = tmp_path / "tiny.npz"
    path.write_bytes(spoiled)
    for asked in (["aa"], []):
        model = Model()
        with kept(path, model) as one:
            assert shares(one.predict(texts("aa"))) == [[2, 1]]
        assert model.asked == asked


def test_another_key_or_other_labels_find_nothing(tmp_path):
    path = tmp_path / "tiny.npz"
    with kept(path, Model()) as one:
        one.predict(texts("aa"))
    model = Model()
    with kept(path, model, key=b"other") as one:
        one.predict(texts("aa"))
    assert model.asked == ["aa"]
    more = KeptPredictions(lambda: pytest.fail("loaded"), "tag", TAGS, path, KEY)
    assert more.predict([]) == []


def test_of_many_the_last_ones_stay(tmp_path):
    path, again = tmp_path / "tiny.npz", Model()
    with KeptPredictions(Model, "classify", LABELS, path, KEY, most=2) as one:
        one.predict(texts("a", "bb", "ccc"))
    with kept(path, again) as one:
        one.predict(texts("bb", "ccc", "a"))
    assert again.asked == ["a"]
