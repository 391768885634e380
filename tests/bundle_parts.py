"""What tests of bundles need: a small home with models, and tiny wheels that pip installs without a network."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

from llmos import __version__
from llmos.kernel.store.store import Store
from llmos.testing.models import add_base, add_model

TREE = str(Path(__file__).resolve().parents[1])
RUNS_THIS_TREE = f"""
import os, subprocess, sys
import tiny_need

def main():
    environ = {{**os.environ, "PYTHONPATH": {TREE!r}}}
    sys.exit(subprocess.call([{sys.executable!r}, "-m", "llmos.cli.main", *sys.argv[1:]], env=environ))
"""  # the installed command: it needs its dependency, and is this tree's command line


def stocked_home(home: Path) -> Path:
    """Two versions of a model on one of two bases, promoted one after the other, and rows that no bundle may hold."""
    store = Store(home)
    add_base(store)
    add_base(store, "other", floats=8, pid=900)
    add_model(store, "mood", "tiny:1", pid=901)
    add_model(store, "mood", "tiny:1", pid=902)
    store.promote("mood:1")
    store.promote("mood:2")
    (home / "row.key").write_bytes(b"secret of this home")
    return home


def write_tiny_wheel(folder: Path, name: str, code: str, needs: str = "", script: str = "", number: str = "") -> Path:
    """A wheel with one module, which pip takes."""
    number = number or __version__
    info = f"{name}-{number}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n" + (f"Requires-Dist: {needs}\n" * bool(needs))
    pages = {
        f"{name}.py": code,
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {script}\n" if script else "",
    }
    path = folder / f"{name}-{number}-py3-none-any.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for page, text in pages.items():
            archive.writestr(page, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{page},,\n" for page in (*pages, f"{info}/RECORD")))
    return path


def tiny_wheels(folder: Path) -> Path:
    """A folder with a tiny llmos, what it needs, and what it does not need."""
    write_tiny_wheel(folder, "llmos", RUNS_THIS_TREE, needs="tiny_need>=1", script="llmos:main")
    write_tiny_wheel(folder, "tiny_need", "", number="1.5")
    write_tiny_wheel(folder, "tiny_need", "", number="0.5")
    write_tiny_wheel(folder, "unrelated", "", number="1.0")
    return folder
