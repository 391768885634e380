"""Names: a class name means one thing in the whole tree, and a function's says what it does or returns."""

from __future__ import annotations

import pytest

from tools import names


@pytest.mark.slow
def test_no_class_name_is_used_for_two_things():
    assert names.classes_of_two_things() == {}
    shared = {name: len(files) for name, files in names.classes().items() if name in names.OF_ONE_THING}
    assert shared == dict.fromkeys(names.OF_ONE_THING, 2), "one that is no longer shared is to be taken out"


@pytest.mark.slow
def test_few_functions_are_named_by_a_bare_participle():
    assert len(names.participles()) <= names.MOST_PARTICIPLES, "\n".join(names.participles())


@pytest.mark.parametrize("name", ["told", "_held", "computed", "verified", "written"])
def test_a_bare_participle_is_found(name: str):
    assert names.is_participle(name)


@pytest.mark.parametrize(
    "name", ["tell", "need", "feed", "is_held", "read", "cut", "with_params", "_seed", "bytes_held"]
)
def test_a_verb_a_noun_or_a_phrase_is_no_participle(name: str):
    assert not names.is_participle(name)


def test_a_class_of_two_things_and_a_participle_are_found_in_a_tree(tmp_path):
    (tmp_path / "one.py").write_text("class Job: ...\nclass _Own: ...\n")
    (tmp_path / "two.py").write_text("class Job:\n    async def told(self): ...\nclass _Own: ...\n")
    assert names.classes_of_two_things(tmp_path) == {"Job": ["one.py", "two.py"]}
    assert names.participles(tmp_path) == ["two.py:2: told"]
