"""Names: one class name means one thing in the whole tree."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import llmos

ROOT = Path(llmos.__file__).parent
OF_ONE_THING = {"Attach", "Attached", "Detach", "Detached", "Stop"}  # an effect or event, and the frame it is said by


def test_no_class_name_is_used_for_two_things():
    found = defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(str(path.relative_to(ROOT)))
    twice = {name: paths for name, paths in found.items() if len(paths) > 1 and name not in OF_ONE_THING}
    assert twice == {}
    assert all(len(found[name]) == 2 for name in OF_ONE_THING), "one that is no longer shared is to be taken out"
