"""The registry of tasks: what is declared, and tasks of packages from outside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llmos.abi.error import BadInput
from llmos.abi.task import (
    BUILT_IN,
    Family,
    all_specs,
    find_spec,
    generative_tasks,
    is_generative,
    spec_of,
    task_names,
    tasks_in,
    trainable_tasks,
)
from llmos.testing.errors import fails_with

PLUGIN = """
from dataclasses import replace
from llmos.tasks.classify import Classify

print("loaded")

class Language(Classify):
    spec = replace(Classify.spec, name="language", primary_metric="least_recall")

TASK = Language()
WRITER = Classify()
BROKEN = object()
"""
ASK = "from llmos.abi.task import task_names, spec_of; print(*task_names()[10:]); print(*task_names()[10:])"


def plugin(folder: Path, *entries: str, code: str = PLUGIN) -> None:
    """A package with these entry points, as pip would install it."""
    info = folder / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(["[llmos.tasks]", *entries, ""]))
    (folder / "outside.py").write_text(code)


def ask(folder: Path, code: str = ASK) -> tuple[list[str], str]:
    """What a fresh interpreter that sees the package prints, and what it logs."""
    path = f"import sys; sys.path.append({str(folder)!r}); "
    done = subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines(), done.stderr


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_task_declares_its_own_name_and_an_input_that_it_takes(name: str):
    from llmos.tasks import task

    spec = spec_of(name)
    assert spec.name == name
    assert task(name).check(spec.example_input)
    assert spec.example_output


def test_an_unknown_task_is_refused_with_a_list_of_all():
    with fails_with(BadInput, task="guess", expected=list(task_names())):
        spec_of("guess")
    assert find_spec("guess") is None
    assert not is_generative("guess")


def test_tasks_are_found_by_what_they_declare():
    assert tasks_in(Family.LABELS, Family.TAGS, Family.VECTORS) == ("classify", "tag", "embed")
    assert tasks_in(Family.SPANS, Family.PAIRS) == ("answer", "rerank", "similarity")
    assert generative_tasks() == ("generate", "chat", "summarize", "translate")
    assert trainable_tasks() == tuple(name for name in task_names() if name != "embed")


def test_every_task_has_a_setting_of_one_kind_under_one_name():
    kinds: dict[str, set[tuple[type, object, bool]]] = {}
    for spec in all_specs():
        for one in spec.settings:
            kinds.setdefault(one.name, set()).add((one.kind, one.neutral, one.is_option))
    assert [name for name, several in kinds.items() if len(several) > 1] == []


def test_a_task_of_an_installed_package_follows_the_built_in_ones(tmp_path: Path):
    plugin(tmp_path, "language = outside:TASK")
    said, logged = ask(tmp_path)
    assert said == ["loaded", "language", "language"]
    assert logged == ""


def test_built_in_tasks_are_asked_for_without_loading_packages(tmp_path: Path):
    plugin(tmp_path, "language = outside:TASK")
    assert ask(tmp_path, "from llmos.abi.task import spec_of; print(spec_of('tag').family)") == (["tags"], "")


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("language = nowhere:TASK", "No module named 'nowhere'"),
        ("language = outside:NONE", "NONE"),
        ("language = outside:BROKEN", "its `spec` must be a TaskSpec named 'language'"),
        ("other = outside:TASK", "its `spec` must be a TaskSpec named 'other'"),
        ("classify = outside:WRITER", "there is a task of this name already"),
    ],
)
def test_a_broken_task_is_logged_and_the_others_work(tmp_path: Path, entry: str, why: str):
    plugin(tmp_path, entry, "zz = outside:BROKEN")
    said, logged = ask(tmp_path)
    assert "".join(said).replace("loaded", "") == ""
    assert why in logged
    assert "is not available" in logged
    assert "Traceback" not in logged
