"""The catalog: the models that `llmos pull` knows by a short name, and the places each can come from."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from llmos.abi.error import BadInput
from llmos.abi.model import check_name
from llmos.abi.wire import from_plain


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel on the package index with model files. It is unzipped, and never installed or executed."""

    package: str
    version: str
    filename: str
    sha256: str
    size_bytes: int
    folder: str  # the folder of the files in the wheel
    files: tuple[str, ...]
    unpacked_bytes: int = 0  # of those files; 0: the wheel's own size is used instead

    @property
    def source(self) -> str:
        return f"pypi:{self.package}=={self.version}"


@dataclass(frozen=True, slots=True)
class Hub:
    """A repository on a model hub. `digests` are the sha256 of files, where they are known."""

    repo: str
    revision: str = "main"
    digests: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One model of the catalog, with its sources in the order in which they are tried."""

    name: str
    about: str
    license: str
    task: str
    tasks: tuple[str, ...]
    download_bytes: int
    wheel: Wheel | None = None
    hub: Hub | None = None


def catalog(extra: Path | None = None) -> dict[str, CatalogEntry]:
    """The built-in models by name, and those of another file, which may replace built-in ones."""
    entries = _read(Path(__file__).with_name("catalog.toml"))
    return entries | _read(extra) if extra else entries


def _read(path: Path) -> dict[str, CatalogEntry]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"There is no catalog at {path}. Correct the setting `catalog`, or remove it") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not valid TOML: {error}. Correct the file") from error
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise BadInput(f"{path}: {name!r} is not a table. Write each model as a table, like [minilm]")
    return {check_name(name): from_plain({**table, "name": name}, CatalogEntry) for name, table in tables.items()}
