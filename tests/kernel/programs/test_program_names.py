"""Nothing outside the declarations decides by a program's name."""

from __future__ import annotations

import re
from pathlib import Path

import llmos

ROOT = Path(llmos.__file__).parent
NAME = re.compile(r"\bProgram\.[A-Z]|\bprogram (?:==|!=) |\.program (?:is|in|not in) |\bmatch \S*\.?program\b")
MOST = 5


def test_few_lines_ask_for_a_program_by_its_name():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted(ROOT.rglob("*.py"))
        if path.relative_to(ROOT).parts[:2] != ("kernel", "programs") and path.relative_to(ROOT).parts[0] != "abi"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if NAME.search(line.partition('"""')[0])
    ]
    print(*found, sep="\n")
    assert len(found) <= MOST, "\n".join(found)
