"""A small base in a wheel, and a catalog that names it: pulled, served and trained on as a real one is."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

PACKAGE, VERSION, INSIDE = "tiny_base", "1.0", "tiny_base/model"


@dataclass(frozen=True)
class Stock:
    """A folder of wheels, and the settings with which `llmos pull tiny` finds its model there."""

    wheels: Path
    catalog: Path

    @property
    def settings(self) -> dict[str, str]:
        return {"LLMOS_CATALOG": str(self.catalog), "PIP_FIND_LINKS": str(self.wheels)}

    @property
    def wheel(self) -> Path:
        return next(self.wheels.iterdir())


def encoder(folder: Path) -> Path:
    """A random encoder, as a folder."""
    from llmos.testing.tiny import write

    return write(folder, "bert")


def stocked(folder: Path, model: Path) -> Stock:
    """Wheel and catalog in this folder."""
    wheels = folder / "wheels"
    wheels.mkdir()
    wheel = wheels / f"{PACKAGE}-{VERSION}-py3-none-any.whl"
    files = sorted(path.name for path in model.iterdir())
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in files:
            archive.write(model / name, f"{INSIDE}/{name}")
    data = wheel.read_bytes()
    catalog = folder / "catalog.toml"
    catalog.write_text(
        f"""
[tiny]
about = "A small base"
license = "mit"
task = "embed"
tasks = ["embed"]
download_bytes = {len(data)}

[tiny.wheel]
package = "{PACKAGE}"
version = "{VERSION}"
filename = "{wheel.name}"
sha256 = "{hashlib.sha256(data).hexdigest()}"
size_bytes = {len(data)}
folder = "{INSIDE}"
files = {files}
unpacked_bytes = {sum((model / name).stat().st_size for name in files)}
"""
    )
    return Stock(wheels, catalog)
