"""Which versions of a home go into a bundle: those that are named or promoted, and the bases that they stand on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmos.abi.error import BadInput, NotFound
from llmos.abi.model import NAME, Manifest
from llmos.abi.wire import from_json
from llmos.kernel.store.index import Index
from llmos.kernel.store.promotions import PROMOTED, still_there
from llmos.kernel.store.versions import Versions


@dataclass(frozen=True, slots=True)
class Selection:
    """Versions, bases before what stands on them, and the promotions of their names, without other versions."""

    manifests: tuple[Manifest, ...] = ()
    promotions: tuple[tuple[str, tuple[int, ...]], ...] = ()


def read_index(home: Path) -> Index:
    """The models of a home, whose daemon may run: only read. A version that is removed meanwhile is left out."""
    versions: Versions[Manifest] = Versions()
    histories: dict[str, tuple[int, ...]] = {}
    names = home / "names"
    for folder in sorted(names.iterdir()) if names.is_dir() else ():
        if not folder.is_dir() or not NAME.fullmatch(folder.name):
            continue
        for page in folder.glob("*.json"):
            data = _read(page)
            if data is None:
                continue
            if page.name == PROMOTED:
                histories[folder.name] = from_json(data, tuple[int, ...])
            elif page.stem.isdecimal():
                versions = versions.adding(_manifest(page, data))
    promotions = {name: still_there(history, versions.of(name)) for name, history in histories.items()}
    return Index(versions, promotions=promotions)


def select(index: Index, refs: Sequence[str] | None) -> Selection:
    """The versions of these refs (None: all that are promoted) with their bases; NotFound for what is not there."""
    if refs is None:
        refs = [f"{name}:{history[-1]}" for name, history in sorted(index.promotions.items()) if history]
        if not refs:
            raise NotFound("No model is promoted in this home. Name versions (--models NAME:VERSION), or: --no-models")
    chosen: dict[str, Manifest] = {}
    for ref in refs:
        _add(index, index.resolve(ref), chosen)
    manifests = tuple(chosen.values())
    histories = {
        name: still_there(index.promotions.get(name, ()), [one.version for one in manifests if one.name == name])
        for name in {one.name for one in manifests}
    }
    return Selection(manifests, tuple(sorted((name, history) for name, history in histories.items() if history)))


def _add(index: Index, manifest: Manifest, chosen: dict[str, Manifest]) -> None:
    if manifest.ref in chosen:
        return
    if manifest.base is not None:
        _add(index, index.resolve(manifest.base), chosen)
    chosen[manifest.ref] = manifest


def _read(page: Path) -> bytes | None:
    try:
        return page.read_bytes()
    except FileNotFoundError:
        return None


def _manifest(page: Path, data: bytes) -> Manifest:
    try:
        return from_json(data, Manifest)
    except BadInput as error:
        raise BadInput(
            f"{page} cannot be read. See what is damaged and how to mend it: llmos doctor --deep", path=str(page)
        ) from error
