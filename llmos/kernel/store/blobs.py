"""Blobs: files named by the sha256 of their bytes, never changed, hard-linked into every folder that shows them."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from llmos.abi.error import BadInput, Corrupt
from llmos.abi.model import File, Offer, OfferKind, Part
from llmos.kernel.store import disk
from llmos.kernel.store.weights import check_weights, refuse_pickle

WEIGHT_PARTS = (Part.WEIGHTS, Part.ADAPTER, Part.HEAD)


@dataclass(frozen=True, slots=True)
class Staged:
    """An offered file, checked and hashed: its present path, and its entry for the manifest."""

    source: Path
    file: File


def digest_of(path: Path) -> str:
    """The sha256 of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stage(offer: Offer, scratch: Path) -> tuple[Staged, ...]:
    """Check, hash and sync every file of the offer in place; nothing in the store changes."""
    folder = Path(offer.folder).resolve()
    if not folder.is_relative_to(scratch.resolve()):
        raise BadInput(
            f"An offer's files lie in the process's own scratch folder; {offer.folder} is elsewhere",
            folder=offer.folder,
        )
    if not offer.files:
        raise BadInput(f"The offer of {offer.name} has no files", name=offer.name)
    paths = [path for path, _ in offer.files]
    if len(set(paths)) < len(paths):
        raise BadInput(f"The offer of {offer.name} names a file twice: {', '.join(paths)}", name=offer.name)
    return tuple(_stage_file(folder, path, part, offer.kind) for path, part in offer.files)


def check_path(path: str) -> str:
    """The path itself if it stays inside its target folder; else BadInput."""
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or str(pure) != path or "\0" in path or "\\" in path:
        raise BadInput(
            f"{path!r} is no path inside a model folder. Use plain relative names like tokenizer.json", path=path
        )
    if any(name.startswith(disk.TEMPORARY) for name in pure.parts):
        raise BadInput(f"{path!r} is named like a half-written file. Leave out the {disk.TEMPORARY!r}", path=path)
    return path


def _stage_file(folder: Path, path: str, part: Part, kind: OfferKind) -> Staged:
    source = folder / check_path(path)
    if not source.resolve().is_relative_to(folder) or not source.exists():
        raise BadInput(f"The offer names {path}, which is not in its folder {folder}", path=path)
    if source.is_symlink() or not stat.S_ISREG(source.stat().st_mode):
        raise BadInput(
            f"The offer names {path}, which is no regular file. Copy it in instead of linking to it", path=path
        )
    if part in WEIGHT_PARTS:
        check_weights(source, path, allow_gguf=kind is OfferKind.BASE and part is Part.WEIGHTS)
    else:
        refuse_pickle(path, b"")
    digest = digest_of(source)
    disk.sync(source)
    return Staged(source, File(path, digest, source.stat().st_size, part))


class Blobs:
    """The folder of blobs. It does not know which blobs are still needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        disk.make_folder(folder)
        disk.sweep(folder)

    def path(self, digest: str) -> Path:
        return self.folder / digest

    def is_sound(self, file: File) -> bool:
        """Whether the blob exists and its bytes match its name."""
        path = self.path(file.digest)
        return self.has(file) and digest_of(path) == file.digest

    def has(self, file: File) -> bool:
        """Whether the blob exists with the right size; a cheap check."""
        try:
            return self.path(file.digest).stat().st_size == file.size_bytes
        except FileNotFoundError:
            return False

    def place(self, staged: Staged) -> None:
        """Put a staged file under its digest, replacing an existing blob; both names are then one file."""
        target = self.path(staged.file.digest)
        aside = disk.temporary(target)
        try:
            disk.link(staged.source, aside)
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)

    def check(self, file: File, path: Path) -> None:
        """Raise Corrupt unless the bytes at this path are the file's."""
        actual = digest_of(path) if path.exists() else "nothing"
        if actual != file.digest:
            raise Corrupt(
                f"{file.path} is damaged on the disk: {path} should hash to {file.digest[:16]}… and gives "
                f"{actual[:16]}…. Bring the base in again (llmos pull), or remove the model and train it again",
                path=str(path),
                expected=file.digest,
                actual=actual,
                file=file.path,
            )
