"""Adoption: versions that another home has made come into this one, with their numbers; nothing there is overwritten.

The caller holds the home's lock, and no store is open on it. A version is visible once its manifest is written, last; a
kill leaves whole versions, and blobs that the same adoption then finds.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from llmos.abi.error import BadInput, Conflict, Corrupt
from llmos.abi.model import NAME, File, Kind, Manifest, Part
from llmos.abi.wire import from_json
from llmos.kernel.store import disk
from llmos.kernel.store.blobs import WEIGHT_PARTS, Blobs, check_path, digest_of
from llmos.kernel.store.promotions import Promotions, still_there
from llmos.kernel.store.versions import GONE, VersionFolders
from llmos.kernel.store.weights import check_weights, refuse_pickle

OpenBlob = Callable[[str], BinaryIO]  # the bytes of a digest, from where they come
Show = Callable[[str, int, int], None]  # what is done now, and how many of how many bytes


@dataclass(frozen=True, slots=True)
class Adopted:
    """What came of it, by ref: versions that are new, those that were there, and those that are promoted now.

    `kept` are refs that were promoted where they come from, while this home has promoted another version of the name.
    """

    added: tuple[str, ...]
    there: tuple[str, ...]
    promoted: tuple[str, ...]
    kept: tuple[str, ...]


class Adoption:
    """The store of a home without a daemon, to which versions are added."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._blobs = Blobs(home / "blobs")
        self._models = VersionFolders(Manifest, home / "names", home / "models", self._blobs)
        self._promotions = Promotions(self._models)
        self._versions, _ = self._models.read()
        self._histories, _ = self._promotions.read(self._versions)

    def adopt(
        self,
        manifests: Sequence[Manifest],
        promotions: Mapping[str, tuple[int, ...]],
        open_blob: OpenBlob,
        show: Show = lambda phase, done, total: None,
    ) -> Adopted:
        """Add these versions, bases before what stands on them; Conflict, before anything is written, if one cannot be.

        `promotions` are the histories where they come from. A name that is promoted here keeps its own version.
        """
        new = [one for one in manifests if self._is_new(one)]
        self._check_bases(manifests)
        lacking = {file.digest: (one, file) for one in new for file in one.files if not self._is_sound(file)}
        need_bytes = sum(file.size_bytes for _, file in lacking.values())
        done = 0
        with disk.room_for(self._home, need_bytes + disk.MARGIN_BYTES):
            for one, file in lacking.values():
                show("loading", done, need_bytes)
                self._place(file, one.kind is Kind.BASE, open_blob)
                done += file.size_bytes
            show("loading", done, need_bytes)
            disk.sync(self._blobs.folder)
            promoted, kept = self._promote({one.name for one in manifests}, manifests, promotions)
            for one in new:
                self._models.put(one)
                (self._models.paper(one.name) / f"{one.version}{GONE}").unlink(missing_ok=True)
        there = tuple(one.ref for one in manifests if one not in new)
        return Adopted(tuple(one.ref for one in new), there, promoted, kept)

    def _is_new(self, manifest: Manifest) -> bool:
        """Whether this version is to be written; Conflict if its number means another one here."""
        _check_names(manifest)
        page = self._models.paper(manifest.name) / f"{manifest.version}.json"
        found = self._versions.of(manifest.name).get(manifest.version)
        if found == manifest:
            return False
        if found is not None or page.exists():
            raise Conflict(
                f"The home {self._home} has another {manifest.ref}. Nothing was loaded. Load into another home "
                f"(LLMOS_HOME), or remove that one first: llmos rm {manifest.ref}",
                model=manifest.ref,
                home=str(self._home),
            )
        if (gone := page.with_suffix(GONE)).exists() and not _is_page_of(gone, manifest):
            raise Conflict(
                f"The home {self._home} had another {manifest.ref}, which was removed, and gives its number to no "
                "second one. Nothing was loaded. Load into another home: LLMOS_HOME",
                model=manifest.ref,
                home=str(self._home),
            )
        return True

    def _check_bases(self, manifests: Sequence[Manifest]) -> None:
        known = {one.ref for one in self._versions}
        for one in manifests:
            if one.base is not None and one.base not in known:
                raise Conflict(f"{one.ref} stands on {one.base}, which comes neither before it nor is here")
            known.add(one.ref)

    def _is_sound(self, file: File) -> bool:
        """Whether the blob is here; Corrupt if it is, and is damaged."""
        if not self._blobs.path(file.digest).exists():
            return False
        self._blobs.check(file, self._blobs.path(file.digest))
        return True

    def _place(self, file: File, is_base: bool, open_blob: OpenBlob) -> None:
        """Write one blob: synced, read back, and checked as an offer's file would be."""
        target = self._blobs.path(file.digest)
        aside = disk.temporary(target)
        try:
            with open_blob(file.digest) as source, aside.open("wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
            disk.sync(aside)
            if aside.stat().st_size != file.size_bytes or digest_of(aside) != file.digest:
                raise Corrupt(f"{file.path} is not what its manifest says, so it was not loaded", file=file.path)
            if file.part in WEIGHT_PARTS:
                check_weights(aside, file.path, allow_gguf=is_base and file.part is Part.WEIGHTS)
            else:
                refuse_pickle(file.path, b"")
            aside.chmod(0o400)
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)

    def _promote(
        self, names: set[str], manifests: Sequence[Manifest], promotions: Mapping[str, tuple[int, ...]]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Write the histories of names that have none here, before the manifests make their versions visible."""
        promoted, kept = [], []
        for name in sorted(names):
            history = still_there(promotions.get(name, ()), [one.version for one in manifests if one.name == name])
            if not history:
                continue
            own, ref = self._histories.get(name, ()), f"{name}:{history[-1]}"
            if own and own[-1] != history[-1]:
                kept.append(ref)
                continue
            if not own:
                self._promotions.write(name, history)
            promoted.append(ref)
        return tuple(promoted), tuple(kept)


def _check_names(manifest: Manifest) -> None:
    """BadInput for a manifest whose name, number, paths or digests would lead elsewhere."""
    if not NAME.fullmatch(manifest.name) or manifest.version < 1:
        raise BadInput(f"{manifest.ref!r} is no name of a model's version", model=manifest.ref)
    for file in manifest.files:
        check_path(file.path)
        if len(file.digest) != 64 or not set(file.digest) <= set("0123456789abcdef"):
            raise BadInput(f"{file.path} of {manifest.ref} has no sha256 as its digest", model=manifest.ref)


def _is_page_of(page: Path, manifest: Manifest) -> bool:
    try:
        return from_json(page.read_bytes(), Manifest) == manifest
    except BadInput:
        return False
