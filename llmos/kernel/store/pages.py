"""Compares manifests and promotions on disk with the daemon's index, and rewrites what was damaged."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from llmos.abi.api_types import Damage
from llmos.abi.catalog import catalog
from llmos.abi.error import BadInput, DiskFull
from llmos.abi.model import DatasetManifest, Kind, Manifest
from llmos.kernel.store.index import Index
from llmos.kernel.store.promotions import Promotions
from llmos.kernel.store.versions import VersionFolders

MANIFEST, PROMOTED = "its manifest", "its promotions"


class Pages:
    """Checks the pages of a store. The caller holds the store's lock."""

    def __init__(
        self,
        models: VersionFolders[Manifest],
        datasets: VersionFolders[DatasetManifest],
        promotions: Promotions,
        lost: Collection[str],
    ) -> None:
        """`lost` are promotion files that were unreadable at the start, so that their content is unknown."""
        self._models, self._datasets, self._promotions = models, datasets, promotions
        self._lost_promotions = set(lost)

    def promoted(self, name: str) -> None:
        """Record that the name's promotions were written anew."""
        self._lost_promotions.discard(self._promotions.path(name))

    def examine(self, index: Index) -> list[Damage]:
        """Every damaged page; those whose content the daemon knows are rewritten."""
        pages = [(m.ref, self._models.is_written(m), partial(self._models.write, m)) for m in index.models]
        pages += [(d.ref, self._datasets.is_written(d), partial(self._datasets.write, d)) for d in index.datasets]
        found = [_rewritten(ref, MANIFEST, again) for ref, is_written, again in pages if not is_written]
        found += [damage for name in index.models.by_name if (damage := self._of_promotions(index, name)) is not None]
        found += [self._unreadable(index, page, ":") for page in self._models.unreadable(index.models)]
        return found + [self._unreadable(index, page, "@") for page in self._datasets.unreadable(index.datasets)]

    def _of_promotions(self, index: Index, name: str) -> Damage | None:
        history, path = index.promotions.get(name, ()), self._promotions.path(name)
        if path in self._lost_promotions:
            said = f"{path} cannot be read, so that no version of it is promoted"
            return Damage(name, path, said, f"llmos promote {name}:VERSION")
        if self._promotions.is_written(name, history, index.models.of(name)):
            return None
        return _rewritten(name, PROMOTED, partial(self._promotions.write, name, history))

    def _unreadable(self, index: Index, page: str, mark: str) -> Damage:
        """A version that is on the disk but not in the index, because its manifest is unreadable."""
        name, number = Path(page).parent.name, Path(page).stem
        ref, shelf = f"{name}{mark}{number}", self._models if mark == ":" else self._datasets
        standing = sorted(model.ref for model in index.models if model.base == ref)
        on = f". {', '.join(standing)} stand on it" if standing else ""
        said = f"its manifest {page} cannot be read{on}. Its files are kept in {shelf.kept_for(page)}"
        away = f"{shlex.join(['mv', page, f'{page}.damaged'])}, then llmos gc"
        return Damage(ref, page, said, f"llmos pull SOURCE --name {name}" if standing else away)


def way_out(manifest: Manifest, more: Path | None = None) -> str:
    """The command that repairs a version with damaged bytes. `more` is the user's own catalog."""
    if manifest.kind is not Kind.BASE and not manifest.source.startswith(("folder:", "hf:")):
        return f"llmos rm {manifest.ref}, and train it again"
    kind, _, place = manifest.source.partition(":")
    source = place if kind == "folder" else manifest.source if kind == "hf" else _catalog_name(manifest, more)
    named = ["--name", manifest.name] if source != manifest.name else []
    return shlex.join(["llmos", "pull", source, *named, *_as_asked(manifest)])


def _catalog_name(manifest: Manifest, more: Path | None) -> str:
    """The catalog's name of the wheel that this base came in; else the base's own name."""
    try:
        entries = catalog(more)
    except BadInput:  # the user's own catalog is unreadable, which `llmos pull` reports
        entries = catalog()
    names = [entry.name for entry in entries.values() if entry.wheel and entry.wheel.source == manifest.source]
    return manifest.name if manifest.name in names else next(iter(names), manifest.name)


def _as_asked(manifest: Manifest) -> list[str]:
    """The options of its pull, without which another version would be made."""
    engine, labels = manifest.options.get("engine"), ",".join(manifest.labels)
    if manifest.base is not None:  # an adapter
        return ["--base", manifest.base, "--task", manifest.task]
    if engine == "onnx":
        return ["--task", manifest.task, *(["--labels", labels] if labels else [])]
    return ["--engine", str(engine)] if engine else []


def _rewritten(ref: str, what: str, again: Callable[[], None]) -> Damage:
    try:
        again()
    except (OSError, DiskFull) as error:
        return Damage(ref, what, f"{what} cannot be read, and cannot be written again: {error}", "llmos gc")
    return Damage(ref, what, f"{what} could not be read, and was written again as the daemon knows it")
