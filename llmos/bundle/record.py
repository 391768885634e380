"""What a bundle says of itself: what it is made for, what is in it, and the sha256 of every file.

`manifest.json` is for programs; `SHA256SUMS` has the same digests, and the manifest's own, for `sha256sum -c`.
"""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath

import msgspec

from llmos.abi.error import Conflict, Corrupt

FORM = 1
MANIFEST, SUMS = "manifest.json", "SHA256SUMS"
INSTALLER, REQUIREMENTS = "install.sh", "requirements.txt"
WHEELS, NAMES, BLOBS = "wheels", "models/names", "models/blobs"


class BundleFile(msgspec.Struct, frozen=True):
    """One file: its path in the bundle, the sha256 of its bytes, and their number."""

    path: str
    sha256: str
    size_bytes: int


class BundleTarget(msgspec.Struct, frozen=True):
    """The machines that the wheels are for; `glibc` is the least version that they need, empty if they need none."""

    python: str  # cpython-3.11, with the letters of another ABI: cpython-3.13t
    platform: str  # linux-x86_64
    glibc: str = ""


class BundleManifest(msgspec.Struct, frozen=True):
    """One bundle. `promotions` are the histories of its models' names; `target` is None where there are no wheels."""

    form: int
    version: str  # of llmos
    home_format: int
    made_at: float
    target: BundleTarget | None
    models: tuple[str, ...]  # refs; bases before what stands on them
    promotions: dict[str, tuple[int, ...]]
    files: tuple[BundleFile, ...]

    @property
    def size_bytes(self) -> int:
        """The bytes of its files, without the manifest and the sums."""
        return sum(file.size_bytes for file in self.files)


def encode_sums(files: tuple[BundleFile, ...], manifest: bytes) -> bytes:
    """The lines of SHA256SUMS."""
    own = BundleFile(MANIFEST, hashlib.sha256(manifest).hexdigest(), len(manifest))
    return "".join(f"{file.sha256}  {file.path}\n" for file in (*files, own)).encode()


def decode_manifest(manifest: bytes, sums: bytes, place: str) -> BundleManifest:
    """The manifest in these bytes; Corrupt if the two do not agree, or a path leads out of the bundle.

    Conflict if a later llmos has made it.
    """
    try:
        head = msgspec.json.decode(manifest, type=dict[str, msgspec.Raw])
        form = msgspec.json.decode(head.get("form", msgspec.Raw(b"0")), type=int)
        if form > FORM:
            raise Conflict(
                f"{place} was made by a later llmos (form {form}; this one reads up to {FORM}). Use the llmos that is "
                f"in it: sh {INSTALLER}",
                path=place,
            )
        found = msgspec.json.decode(manifest, type=BundleManifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"{place} is no bundle of llmos: {error}", path=place) from error
    if encode_sums(found.files, manifest) != sums:
        raise Corrupt(f"The bundle is damaged: {MANIFEST} and {SUMS} do not agree. Copy it again", path=place)
    for file in found.files:
        pure = PurePosixPath(file.path)
        if pure.is_absolute() or ".." in pure.parts or str(pure) != file.path or not file.path.isprintable():
            raise Corrupt(f"{place} names {file.path!r}, which is no path inside a bundle", path=place)
    return found
