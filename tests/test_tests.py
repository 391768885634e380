"""Tests keep to what is said of them: they use public names and details of errors, and have short names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import tests


@pytest.mark.slow
def test_no_test_reaches_into_a_private_attribute():
    assert len(tests.private_accesses()) <= tests.MOST_PRIVATE, "\n".join(tests.private_accesses())


@pytest.mark.slow
def test_no_test_matches_the_words_of_an_error_unless_it_is_about_them():
    assert len(tests.sentence_matches()) <= tests.MOST_MATCHES, "\n".join(tests.sentence_matches())


@pytest.mark.slow
def test_every_test_has_a_name_under_80_characters():
    assert tests.long_names() == []


def test_a_private_attribute_or_name_of_another_is_found(tmp_path: Path):
    lines = [
        "from llmos.thing import _part, whole",
        "import os",
        "os._exit(1)",
        "class Fake:",
        "    def own(self): return self._mine + self.engine._models",
        "box._table.ledger",
    ]
    (tmp_path / "test_thing.py").write_text("\n".join(lines))
    found = [line.split(": ", 1)[1] for line in tests.private_accesses(tmp_path)]
    assert sorted(found) == ["box._table", "import _part", "self.engine._models"]


def test_a_matched_sentence_is_found_unless_the_name_of_its_test_says_sentence(tmp_path: Path):
    lines = [
        "def test_one():",
        "    def act():",
        "        with pytest.raises(ValueError, match='words'): ...",
        "def test_two_is_a_sentence():",
        "    def act():",
        "        with pytest.raises(ValueError, match='more words'): ...",
        "def test_three():",
        "    with pytest.raises(ValueError): ...",
    ]
    (tmp_path / "test_thing.py").write_text("\n".join(lines))
    assert tests.sentence_matches(tmp_path) == ["test_thing.py:3: 'words'"]


def test_a_long_name_is_found_where_it_is_a_tests(tmp_path: Path):
    long = "x" * 75
    (tmp_path / "test_thing.py").write_text(f"def test_{long}(): ...\nasync def help_{long}(): ...\n")
    assert tests.long_names(tmp_path) == [f"test_thing.py:1: 80 test_{long}"]


def test_lines_that_turn_a_rule_off_are_counted(tmp_path: Path):
    (tmp_path / "thing.py").write_text("import os  # noqa: E402\nname = 'noqa'\nimport re  #noqa\n")
    assert tests.noqa_count(tmp_path) == 2
