"""Imports point down: who may know whom, and that the daemon starts without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import llmos

ROOT = Path(llmos.__file__).parent
BELOW = {
    "abi": set(),
    "config": {"abi"},
    "home": {"abi", "config"},
    "notify": {"config"},
    "tasks": {"abi"},
    "nn": {"abi", "tasks"},
    "engines": {"abi", "tasks", "nn"},
    "data": {"abi", "tasks"},
    "suites": {"abi", "tasks", "data"},
    "training": {"abi", "tasks", "nn", "data"},
    "evaluation": {"abi", "tasks", "nn", "data", "training", "suites"},
    "tuning": {"abi", "evaluation"},
    "programs": {"abi", "tasks", "nn", "engines", "data", "training", "evaluation", "suites", "tuning"},
    "kernel": {"abi", "config", "home"},
    "api": {"abi", "config", "kernel", "tasks"},
    "daemon": {"abi", "config", "home", "notify", "kernel", "api", "tasks"},
    "backup": {"abi", "config", "home", "kernel", "daemon"},
    "bundle": {"abi", "backup", "daemon", "kernel"},
    "service": {"abi"},
    "sdk": {"abi", "config", "data", "suites"},
    "cli": {"abi", "config", "home", "sdk", "daemon", "backup", "bundle", "service", "tasks", "suites"},
    "pytest_plugin": {"abi", "sdk", "suites"},
    "testing": {"abi", "config", "home", "tasks", "nn", "kernel", "engines", "programs", "api", "sdk", "service"},
    "__init__": {"abi", "sdk"},
}
HEAVY = ("torch", "transformers", "numpy", "sklearn", "pyarrow", "peft")
FILES = sorted(ROOT.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The rooms of ours that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            is_package = node.module == "llmos"
            names = [f"llmos.{alias.name}" for alias in node.names] if is_package else [node.module or ""]
        found |= {name.split(".")[1] for name in names if name.startswith("llmos.")}
    return found - {"__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path):
    room = room_of(path)
    assert imported(path) - {room} <= BELOW[room]


@pytest.mark.parametrize(
    "module",
    [
        "llmos.daemon",
        "llmos.config",
        "llmos.kernel.kernel",
        "llmos.programs.zygote",
        "llmos.programs.child",
        "llmos.programs.import_data",
    ],
)
def test_what_the_daemon_imports_is_light(module: str):
    code = f"import sys, {module}; print(' '.join(m for m in {HEAVY} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_no_two_test_files_share_a_name():
    """They are imported by their bare names, so that the second would be taken for the first."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
