"""WordNet's dictionary files: which synonyms are read from them, and what is said where there are none."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.augmentation import Augmentation
from llmos.abi.error import BadInput
from llmos.data.augmentation.added import add_rows
from llmos.data.augmentation.augmenter import Material
from llmos.data.augmentation.wordnet import WordNet, find_wordnet
from llmos.data.row import LabelRow
from llmos.testing.errors import fails_with

KINDS = {"noun": "n1", "verb": "v2", "adj": "a3", "adv": "r4"}
HEAD = "  1 This dictionary was written for a test.  \n"
Synsets = Sequence[Sequence[str]]


def write_wordnet(folder: Path, parts: Mapping[str, Synsets], counts: Mapping[str, int] | None = None) -> WordNet:
    """A dictionary of these synsets, those of a word by frequency; `counts` are of `part word number`."""
    folder.mkdir(exist_ok=True)
    keys = []
    for part, (kind, number) in KINDS.items():
        data, senses = HEAD, dict[str, list[int]]()
        for words in parts.get(part, ()):
            for word in words:
                senses.setdefault(word.partition("(")[0].lower(), []).append(len(data))
            named = " ".join(f"{word} 0" for word in words)
            data += f"{len(data):08} 03 {kind} {len(words):02x} {named} 000 | what it means  \n"
        (folder / f"data.{part}").write_text(data)
        lines = [
            f"{word} {kind} {len(at)} 1 @ {len(at)} 0 {' '.join(f'{one:08}' for one in at)}  \n"
            for word, at in senses.items()
        ]
        (folder / f"index.{part}").write_text(HEAD + "".join(sorted(lines)))
        for key, count in (counts or {}).items():
            if key.startswith(f"{part} "):
                _, word, nth = key.split()
                keys.append(f"{word}%{number}:03:00:: {nth} {count}\n")
    if counts is not None:
        (folder / "cntlist.rev").write_text("".join(sorted(keys)))
    return find_wordnet([folder])


def synonyms(source: WordNet, word: str) -> tuple[str, ...]:
    (((found,),),) = (source.propose([word], [[(0, len(word))]]),)
    return found


def test_synonyms_are_those_of_the_most_frequent_sense(tmp_path: Path):
    source = write_wordnet(tmp_path, {"noun": [["film", "movie", "motion_picture"], ["film", "layer"]]})
    assert synonyms(source, "film") == ("movie",)
    assert synonyms(source, "Movie") == ("film",)
    assert (synonyms(source, "movies"), source.offers("movies"), source.offers("film")) == ((), False, True)


def test_counts_choose_the_part_of_speech_and_leave_out_rare_words(tmp_path: Path):
    parts = {"noun": [["order", "decree"]], "verb": [["order", "request", "bespeak"]]}
    source = write_wordnet(tmp_path, parts, {"noun order 1": 3, "verb order 1": 9, "verb request 1": 2})
    assert synonyms(source, "order") == ("request",)


def test_marks_of_adjectives_names_and_phrases_are_no_synonyms(tmp_path: Path):
    source = write_wordnet(tmp_path, {"adj": [["galore(ip)", "abounding", "Plenty", "more_than_enough", "rich-ish"]]})
    assert synonyms(source, "abounding") == ("galore",)
    assert synonyms(source, "galore") == ("abounding",)


@pytest.mark.parametrize("word", ["will", "have", "can", "naïve", "", "3000"])
def test_small_words_and_others_that_are_not_in_it_have_none(tmp_path: Path, word: str):
    source = write_wordnet(tmp_path, {"noun": [["will", "volition"], ["can", "tin"]], "verb": [["have", "own"]]})
    assert not source.offers(word)


WORDS = st.text("abcz", min_size=4, max_size=7)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(WORDS, min_size=1, max_size=3, unique=True), max_size=12), WORDS)
def test_every_word_is_found_and_no_other(synsets: list[list[str]], other: str):
    with tempfile.TemporaryDirectory() as folder:
        source = write_wordnet(Path(folder), {"noun": synsets})
        for word in {other, *(word for words in synsets for word in words)}:
            first = next((words for words in synsets if word in words), [])
            assert synonyms(source, word) == tuple(one for one in first if one != word)


def test_copies_have_synonyms_where_a_dictionary_is_here(tmp_path: Path):
    source = write_wordnet(tmp_path, {"noun": [["film", "movie"]]})
    rows = [LabelRow({"text": f"This Film is good {i}"}, ("good",), "f", i) for i in range(3)]
    found = add_rows(Material("classify", rows, {"synonym": source}), Augmentation(("synonym",)), ()).rows
    assert [one.row.input["text"] for one in found] == [f"This Movie is good {i}" for i in range(3)]


def test_without_a_dictionary_the_error_says_what_lacks(tmp_path: Path):
    with fails_with(BadInput, value="synonym", lacks="wordnet"):
        find_wordnet([tmp_path])


def test_files_that_do_not_belong_together_are_said_to_be_damaged(tmp_path: Path):
    source = write_wordnet(tmp_path, {"noun": [["film", "movie"]]})
    data = tmp_path / "data.noun"
    data.write_text(data.read_text().replace("This dictionary", "That other dictionary"))
    with fails_with(BadInput, reason="damaged_wordnet"):
        source.offers("film")
