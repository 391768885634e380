"""Print class names that are defined twice in llmos, and functions that are named by a bare participle.

    python tools/names.py    both lists and their numbers; exit 1 if a class name is defined twice for two things,
                             or if there are more participles than `tests/test_names.py` allows

A bare participle is one word that says neither what a function does nor what it returns: `told`, `held`, `computed`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
PACKAGE = TREE / "llmos"
MOST_PARTICIPLES = 18
OF_ONE_THING = {  # an effect, and the frame that it sends; or an event, and the frame that reports it
    *("Attach", "Attached", "Detach", "Detached", "Failed", "Offered", "Probed", "Ready", "Report", "Stop"),
    "UsageReport",
}
IRREGULAR = re.compile(
    "begun|born|bound|brought|built|chosen|done|drawn|fed|forgotten|found|given|gone|heard|held|hidden|hung|kept|known|"
    "learnt|led|left|lost|made|met|said|seen|sent|shown|spent|spoken|taken|taught|thrown|told|torn|understood|won|"
    "written"
)
VERBS_AND_NOUNS = {"bed", "embed", "exceed", "feed", "need", "proceed", "red", "seed", "shed", "speed"}


def is_participle(name: str) -> bool:
    """Whether a name is one participle and nothing else."""
    word = name.strip("_")
    if "_" in word or word in VERBS_AND_NOUNS:
        return False
    return word.endswith("ed") or IRREGULAR.fullmatch(word) is not None


Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@cache
def definitions(package: Path) -> tuple[tuple[str, Definition], ...]:
    """Every class and function under a folder, with the path of its file."""
    return tuple(
        (path.relative_to(package).as_posix(), node)
        for path in sorted(package.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, Definition)
    )


def participles(package: Path = PACKAGE) -> list[str]:
    """The functions and methods named by a bare participle, as `path: name`."""
    return [
        f"{path}:{node.lineno}: {node.name}"
        for path, node in definitions(package)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and is_participle(node.name)
    ]


def classes(package: Path = PACKAGE) -> Mapping[str, list[str]]:
    """The files that define each public class name."""
    files = defaultdict(list)
    for path, node in definitions(package):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            files[node.name].append(path)
    return files


def classes_of_two_things(package: Path = PACKAGE) -> dict[str, list[str]]:
    """The class names that are defined more than once and are not two sides of one thing."""
    return {name: files for name, files in classes(package).items() if len(files) > 1 and name not in OF_ONE_THING}


def main() -> int:
    """Print both lists and their numbers; 1 if there is too much of either."""
    twice, named_by_participle = classes_of_two_things(), participles()
    for name, files in twice.items():
        print(f"{name}: {', '.join(files)}")
    for line in named_by_participle:
        print(line)
    print(f"class names of two things: {len(twice)} (allowed: 0)")
    print(f"functions named by a bare participle: {len(named_by_participle)} (allowed: {MOST_PARTICIPLES})")
    return 1 if twice or len(named_by_participle) > MOST_PARTICIPLES else 0


if __name__ == "__main__":
    sys.exit(main())
