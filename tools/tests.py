"""Print where tests reach into private attributes or match sentences, names that are too long, and every `noqa`.

    python tools/tests.py    the places and their numbers; exit 1 if there are more of the first three than are allowed

A private attribute is one that begins with `_`, of anything but `self` and `cls`, or such a name that is imported.
An error is told by its type, code and details: its sentence is matched only by a test that has `sentence` in its name.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
TESTS = TREE / "tests"
LONGEST_NAME = 79
MOST_PRIVATE = 0
MOST_MATCHES = 0
SENTENCE = "sentence"  # in the name of a test: what an error says is what it is about
PUBLIC_OF_OTHERS = {  # begin with `_`, and are what the documentation of others says to use
    "_exit",  # os
    "_replace",  # a named tuple's
    "_request_id",  # an answer's of openai's client
    "_supports_attention_backend",  # a model's of transformers
}
NOQA = re.compile(r"#\s*noqa\b")


def trees(folder: Path) -> Iterator[tuple[str, ast.AST]]:
    """Every node of every file under a folder, with the file's path."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield path.relative_to(folder).as_posix(), node


def is_private(name: str) -> bool:
    """Whether a name is nobody's business but its owner's."""
    return name.startswith("_") and not name.startswith("__") and name not in PUBLIC_OF_OTHERS


def private_accesses(folder: Path = TESTS) -> list[str]:
    """Where a private attribute of another object is used, or a private name is imported, as `path:line: code`."""
    found = []
    for path, node in trees(folder):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and not _is_own(node.value):
            found.append(f"{path}:{node.lineno}: {ast.unparse(node)}")
        if isinstance(node, ast.ImportFrom):
            found += [f"{path}:{node.lineno}: import {one.name}" for one in node.names if is_private(one.name)]
    return found


def _is_own(value: ast.expr) -> bool:
    return isinstance(value, ast.Name) and value.id in ("self", "cls")


def sentence_matches(folder: Path = TESTS) -> list[str]:
    """Where `pytest.raises` matches the sentence of an error in a test that is not about it, as `path:line: match`."""
    return [
        f"{path.relative_to(folder).as_posix()}:{line}: {match}"
        for path in sorted(folder.rglob("*.py"))
        for line, match in _matches(ast.parse(path.read_text(encoding="utf-8")))
    ]


def _matches(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and SENTENCE in node.name:
        return
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("pytest.raises", "raises"):
        yield from ((node.lineno, ast.unparse(one.value)) for one in node.keywords if one.arg == "match")
    for child in ast.iter_child_nodes(node):
        yield from _matches(child)


def long_names(folder: Path = TESTS) -> list[str]:
    """Tests whose names are too long, as `path:line: length name`."""
    return [
        f"{path}:{node.lineno}: {len(node.name)} {node.name}"
        for path, node in trees(folder)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and len(node.name) > LONGEST_NAME
    ]


def noqa_count(folder: Path) -> int:
    """How many lines of Python under a folder turn a rule off."""
    files = folder.rglob("*.py")
    return sum(1 for path in files for line in path.read_text(encoding="utf-8").splitlines() if NOQA.search(line))


def main() -> int:
    """Print what there is; 1 if a test reaches into a private attribute, matches a sentence or has too long a name."""
    private, matches, long = private_accesses(), sentence_matches(), long_names()
    for line in (*private, *matches, *long):
        print(line)
    print(f"private attributes that tests reach into: {len(private)} (allowed: {MOST_PRIVATE})")
    print(f"sentences of errors that tests match: {len(matches)} (allowed: {MOST_MATCHES})")
    print(f"test names over {LONGEST_NAME} characters: {len(long)} (allowed: 0)")
    print(f"noqa: {noqa_count(TREE / 'llmos')} in llmos, {noqa_count(TESTS)} in tests")
    return 1 if len(private) > MOST_PRIVATE or len(matches) > MOST_MATCHES or long else 0


if __name__ == "__main__":
    sys.exit(main())
