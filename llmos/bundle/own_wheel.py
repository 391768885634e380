"""The wheel of the llmos that runs here, written from its own files: it needs neither a build tool nor the network.

Format: Python packaging's "Binary distribution format" (version 1.0).
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llmos
from llmos.abi.error import Missing

PACKAGE = Path(llmos.__file__).parent
MOMENT = (1980, 1, 1, 0, 0, 0)  # of every entry: equal code makes an equal wheel
WHEEL = "Wheel-Version: 1.0\nGenerator: llmos\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def write_wheel(folder: Path) -> Path:
    """Write the wheel to this folder."""
    path = folder / f"llmos-{llmos.__version__}-py3-none-any.whl"
    info = f"llmos-{llmos.__version__}.dist-info"
    metadata, entry_points = _description()
    pages = {"METADATA": metadata, "entry_points.txt": entry_points, "WHEEL": WHEEL}
    lines = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (*_code(), *((f"{info}/{name}", text.encode()) for name, text in pages.items())):
            entry = zipfile.ZipInfo(name, MOMENT)
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{len(data)}\n")
        entry = zipfile.ZipInfo(f"{info}/RECORD", MOMENT)
        entry.external_attr = 0o100644 << 16
        archive.writestr(entry, "".join((*lines, f"{info}/RECORD,,\n")), zipfile.ZIP_DEFLATED)
    return path


def _code() -> Iterator[tuple[str, bytes]]:
    """The package's files; what was compiled here is made again there."""
    for path in sorted(PACKAGE.rglob("*")):
        relative = path.relative_to(PACKAGE.parent)
        if path.is_file() and path.suffix not in (".pyc", ".so") and "__pycache__" not in relative.parts:
            yield relative.as_posix(), path.read_bytes()


def _description() -> tuple[str, str]:
    """METADATA and entry_points.txt: by pyproject.toml in a source folder, else as llmos was installed."""
    source = PACKAGE.parent / "pyproject.toml"
    if source.exists():
        project = tomllib.loads(source.read_text(encoding="utf-8"))["project"]
        return _metadata(project), _entry_points(project)
    try:
        found = importlib.metadata.distribution("llmos")
    except importlib.metadata.PackageNotFoundError as error:
        raise Missing(
            "This llmos is not installed, so what it needs is unknown. Put its wheel into --wheels"
        ) from error
    return found.read_text("METADATA") or "", found.read_text("entry_points.txt") or ""


def _metadata(project: dict[str, Any]) -> str:  # Any: TOML
    lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {llmos.__version__}"]
    lines.append(f"Summary: {project['description']}")
    lines.append(f"Requires-Python: {project['requires-python']}")
    lines += [f"Requires-Dist: {need}" for need in project["dependencies"]]
    for extra, needs in project.get("optional-dependencies", {}).items():
        lines.append(f"Provides-Extra: {extra}")
        for need in needs:
            bare, _, marker = need.partition(";")
            also = f"({marker.strip()}) and " if marker else ""
            lines.append(f'Requires-Dist: {bare.strip()}; {also}extra == "{extra}"')
    return "\n".join((*lines, ""))


def _entry_points(project: dict[str, Any]) -> str:  # Any: TOML
    groups = {"console_scripts": project.get("scripts", {}), **project.get("entry-points", {})}
    return "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items()) + "\n"
        for group, points in groups.items()
    )
