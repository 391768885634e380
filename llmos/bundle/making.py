"""Making a bundle: its files are copied, read back and compared before it has its name; a kill leaves no half."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import msgspec

from llmos import __version__
from llmos.abi.error import BadInput, Conflict, Corrupt
from llmos.abi.wire import to_json
from llmos.backup.vault import need_room
from llmos.bundle.archive import BundleWriter, Show, commit, in_memory, read_manifest, reading, verify, writing
from llmos.bundle.record import (
    BLOBS,
    FORM,
    INSTALLER,
    MANIFEST,
    NAMES,
    REQUIREMENTS,
    SUMS,
    WHEELS,
    BundleFile,
    BundleManifest,
    BundleTarget,
    encode_sums,
)
from llmos.bundle.selection import Selection, read_index, select
from llmos.bundle.wheels import Say, WheelChoice, collect_wheels, requirement, target_of
from llmos.kernel.home_format import FORMAT
from llmos.kernel.store import disk


@dataclass(frozen=True, slots=True)
class MadeBundle:
    """What came of it: the bundle, where it is, and the sha256 of its SHA256SUMS, which stands for all of it."""

    manifest: BundleManifest
    place: Path
    sums_sha256: str
    wheels: int
    verified_bytes: int


def make(
    target: Path,
    home: Path,
    refs: Sequence[str] | None = None,
    wheels: WheelChoice | None = None,
    *,
    show: Show = lambda phase, done, total: None,
    say: Say = lambda line: None,
) -> MadeBundle:
    """Make a bundle: a new folder, or a new file that ends with `.tar`.

    `refs` are models with their bases (None: all that are promoted; empty: none); `wheels` says where those come from
    (None: no wheels). The home's daemon may run.
    """
    if target.resolve().is_relative_to(home.resolve()):
        raise BadInput(f"{target} is inside the home {home}. Make the bundle elsewhere", path=str(target))
    chosen = Selection() if refs is not None and not refs else select(read_index(home), refs)
    if not chosen.manifests and wheels is None:
        raise BadInput("A bundle without wheels and without models is empty. Name models, or leave out --no-wheels")
    blobs = {file.digest: file.size_bytes for one in chosen.manifests for file in one.files}
    need_room(target.resolve().parent, sum(blobs.values()))
    with writing(target) as writer, disk.room_for(target.resolve().parent):
        with tempfile.TemporaryDirectory(
            prefix=f"{disk.TEMPORARY}{target.name}-", dir=target.resolve().parent
        ) as aside:
            found = [] if wheels is None else collect_wheels(wheels, Path(aside), say)
            need_room(target.resolve().parent, sum(blobs.values()) + sum(path.stat().st_size for path in found))
            packer = Packer(writer, show)
            packer.wheels(found)
        packer.models(chosen, home)
        where = target_of(path.name for path in found) if wheels is not None else None
        sums = packer.seal(chosen, where)
        with reading(writer.place) as reader:
            manifest = read_manifest(reader)
            verified = verify(reader, manifest.files, show)
        commit(writer, target)
    return MadeBundle(manifest, target, sums.sha256, len(found), verified)


class Packer:
    """Adds the files of one bundle, in its order: wheels, models, the installer, and last what says what is in it."""

    def __init__(self, writer: BundleWriter, show: Show) -> None:
        self._writer, self._show = writer, show
        self._files: list[BundleFile] = []

    def wheels(self, paths: Sequence[Path]) -> None:
        """These wheels, and a requirements file with exactly them."""
        total, done = sum(path.stat().st_size for path in paths), 0
        lines = []
        for path in paths:
            self._show("copying wheels", done, total)
            added = self._add(f"{WHEELS}/{path.name}", path)
            lines.append(f"{requirement(path.name, added.sha256)}\n")
            done += added.size_bytes
        if paths:
            self._show("copying wheels", total, total)
            self._put(REQUIREMENTS, "".join(lines).encode())

    def models(self, chosen: Selection, home: Path) -> None:
        """The blobs of these versions, then their manifests; Corrupt for a damaged blob, Conflict for a lost one."""
        blobs = {file.digest: (one.ref, file) for one in chosen.manifests for file in one.files}
        total, done = sum(file.size_bytes for _, file in blobs.values()), 0
        for digest, (ref, file) in blobs.items():
            self._show("copying models", done, total)
            path = home / "blobs" / digest
            try:
                added = self._add(f"{BLOBS}/{digest}", path)
            except FileNotFoundError as error:
                raise Conflict(
                    f"{file.path} of {ref} is gone: the version was removed meanwhile, or is damaged. See: "
                    "llmos doctor --deep",
                    model=ref,
                ) from error
            if (added.sha256, added.size_bytes) != (digest, file.size_bytes):
                raise Corrupt(
                    f"{file.path} of {ref} is damaged on the disk ({path}). See how to mend it: llmos doctor --deep",
                    path=str(path),
                    model=ref,
                )
            done += file.size_bytes
        if blobs:
            self._show("copying models", total, total)
        for one in chosen.manifests:
            self._put(f"{NAMES}/{one.name}/{one.version}.json", to_json(one))

    def seal(self, chosen: Selection, target: BundleTarget | None) -> BundleFile:
        """The installer, the manifest and the sums; returns the last one."""
        self._put(INSTALLER, installer(target, has_models=bool(chosen.manifests)))
        refs = tuple(one.ref for one in chosen.manifests)
        manifest = BundleManifest(
            FORM, __version__, FORMAT, time.time(), target, refs, dict(chosen.promotions), tuple(self._files)
        )
        data = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        sums = encode_sums(manifest.files, data)
        self._put(MANIFEST, data)
        last = self._put(SUMS, sums)
        self._writer.finish()
        return last

    def _add(self, path: str, source: Path) -> BundleFile:
        with source.open("rb") as file:
            added = self._writer.add(path, file, source.stat().st_size)
        self._files.append(added)
        return added

    def _put(self, path: str, data: bytes) -> BundleFile:
        added = self._writer.add(path, in_memory(data), len(data))
        self._files.append(added)
        return added


def installer(target: BundleTarget | None, *, has_models: bool) -> bytes:
    """The script that installs a bundle, for these machines."""
    text = files("llmos.bundle").joinpath(INSTALLER).read_text(encoding="utf-8")
    values = {
        "PYTHON": target.python if target else "",
        "PLATFORM": target.platform if target else "",
        "GLIBC": target.glibc if target else "",
        "VERSION": __version__,
        "HAS_MODELS": "1" if has_models else "",
    }
    for name, value in values.items():
        assert "'" not in value, f"{name} cannot stand in the script: {value}"
        text = text.replace(f"@{name}@", value)
    return text.encode()
