"""A task is added, not woven in: outside of llmos/tasks no code decides by a task's name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import llmos
from llmos.abi.task import BUILT_IN

ROOT = Path(llmos.__file__).parent
OWN = ("tasks/", "testing/")  # tasks may know each other; fakes are made for certain tasks


def is_task(node: ast.expr) -> bool:
    """Whether an expression is a task's name by the look of it: `task`, `recipe.task`, `task_name`."""
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name in ("task", "task_name")


def literals(node: ast.AST) -> set[object]:
    """The constants in an expression."""
    return {one.value for one in ast.walk(node) if isinstance(one, ast.Constant)}


def is_constant(node: ast.expr) -> bool:
    """Whether an expression is a literal, or a name for one: GENERATIVE, ranking.TASKS."""
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name.isupper() or bool(literals(node) and not any(isinstance(one, ast.Name) for one in ast.walk(node)))


def names_a_task(node: ast.expr) -> bool:
    """Whether an expression is the name of a task as a literal, or a literal collection of such."""
    parts = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]
    return any(isinstance(one, ast.Constant) and one.value in BUILT_IN for one in parts)


def decides(node: ast.AST) -> bool:
    """Whether a node decides by a task's name: it compares or matches one with a literal or a constant."""
    if isinstance(node, ast.Compare):
        if all(isinstance(one, ast.Is | ast.IsNot) for one in node.ops):
            return False
        sides = [node.left, *node.comparators]
        return any(map(names_a_task, sides)) or (any(map(is_task, sides)) and any(map(is_constant, sides)))
    if isinstance(node, ast.Match):
        return is_task(node.subject) or bool(literals(node.subject) & {*BUILT_IN})
    if isinstance(node, ast.MatchValue):
        return names_a_task(node.value)
    return isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node).endswith(("GENERATIVE", "ONNX_TASKS"))


def offenders(root: Path) -> Iterator[str]:
    for path in sorted(root.rglob("*.py")):
        inside = path.relative_to(root).as_posix()
        if not inside.startswith(OWN):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if decides(node):
                    yield f"{inside}:{getattr(node, 'lineno', 0)}: {ast.unparse(node).splitlines()[0]}"


@pytest.mark.slow
def test_no_code_outside_of_tasks_decides_by_the_name_of_a_task():
    found = [*offenders(ROOT)]
    assert found == [], "ask the task's declaration (llmos/abi/task.py):\n" + "\n".join(found)


@pytest.mark.parametrize(
    "code",
    [
        "x = task == 'classify'",
        "x = 'tag' != name",
        "x = recipe.task in ('answer', 'rerank')",
        "x = task not in GENERATIVE",
        "x = task in ranking.TASKS",
        "x = 'chat' in options",
        "match task:\n    case _: pass",
        "match kind:\n    case 'embed': pass",
        "TASKS = (*ONNX_TASKS, *more)",
    ],
)
def test_code_that_decides_by_the_name_of_a_task_is_found(tmp_path: Path, code: str):
    (tmp_path / "one.py").write_text(code)
    assert [*offenders(tmp_path)]


@pytest.mark.parametrize(
    "code",
    [
        "x = task != manifest.task",
        "x = spec.family is Family.TAGS",
        "call('classify')",
        "x = task in task_names()",
        "x = task is None",
    ],
)
def test_code_that_asks_the_registry_is_let_through(tmp_path: Path, code: str):
    (tmp_path / "one.py").write_text(code)
    assert [*offenders(tmp_path)] == []
