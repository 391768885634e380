"""Whether answers agree, and whether the texts they were made from are read right."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bench.data import conll, iob2, need, ragged_texts
from bench.equality import least_cosine, share_begun
from bench.stop import Stop


def test_the_least_cosine_is_that_of_the_row_that_agrees_least() -> None:
    assert least_cosine([[1.0, 0.0], [0.0, 2.0]], [[3.0, 0.0], [1.0, 1.0]]) == pytest.approx(math.sqrt(0.5))


def test_length_does_not_matter_to_a_cosine() -> None:
    assert least_cosine([[1.0, 2.0, 3.0]], [[10.0, 20.0, 30.0]]) == pytest.approx(1.0)


@pytest.mark.parametrize("row", [[0.0, 0.0], [math.nan, 1.0]])
def test_an_answer_without_direction_is_no_number(row: list[float]) -> None:
    assert math.isnan(least_cosine([row], [[1.0, 1.0]]))


def test_answers_to_different_inputs_are_not_compared() -> None:
    with pytest.raises(AssertionError):
        least_cosine([[1.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]])


def test_what_two_texts_share_is_counted_from_their_beginning() -> None:
    assert share_begun(["abcd", "ab", ""], ["abxd", "ab", ""]) == pytest.approx((0.5 + 1 + 1) / 3)
    assert share_begun(["abcd"], ["ab"]) == pytest.approx(0.5)
    assert share_begun(["xbcd"], ["abcd"]) == 0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("I-PER I-PER O", "B-PER I-PER O"),
        ("I-PER B-PER I-PER", "B-PER B-PER I-PER"),
        ("I-PER I-LOC", "B-PER B-LOC"),
        ("B-ORG I-ORG O O I-MISC", "B-ORG I-ORG O O B-MISC"),
        ("O I-LOC", "O B-LOC"),
    ],
)
def test_iob1_becomes_iob2(before: str, after: str) -> None:
    assert iob2(before.split()) == after.split()


def test_sentences_are_read_without_document_lines(tmp_path: Path) -> None:
    file = tmp_path / "eng"
    file.write_text("-DOCSTART- -X- O O\n\nEU NNP I-NP I-ORG\nrejects VBZ I-VP O\n\n\nPeter NNP I-NP I-PER")
    assert conll(file) == [(["EU", "rejects"], ["B-ORG", "O"]), (["Peter"], ["B-PER"])]


def test_a_missing_data_set_s_sentence_names_it_and_the_folder_it_was_sought_in(tmp_path: Path) -> None:
    with pytest.raises(Stop, match=r"'agnews'.*no folder .*agnews.*--data"):
        need(tmp_path, "agnews")


def test_the_texts_of_a_seed_are_always_the_same(tmp_path: Path) -> None:
    for name, file, rows in (
        ("agnews", "test.csv", '"1","Title","Some  news"\n"2","Other","More"\n'),
        ("banking77", "test.csv", "text,category\nWhere is my card?,card\nWhy?,top_up\n"),
        ("conll2003", "eng.testa", "EU NNP I-NP I-ORG\nsays VBZ I-VP O\n"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(rows)
    drawn = ragged_texts(tmp_path, 50)
    assert drawn == ragged_texts(tmp_path, 50)
    assert set(drawn) == {"Title. Some news", "Other. More", "Where is my card?", "Why?", "EU says"}
