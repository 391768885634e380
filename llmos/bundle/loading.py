"""Loading a bundle's models into a home: all of them verified first, none overwritten, and whole versions only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmos import __version__
from llmos.abi.audit import OWNER, AuditEntry
from llmos.abi.error import BadInput, Conflict, Corrupt
from llmos.abi.model import Manifest, split_ref
from llmos.abi.wire import from_json
from llmos.bundle.archive import Reader, Show, read_manifest, reading, verify
from llmos.bundle.record import BLOBS, NAMES, BundleManifest
from llmos.daemon import audit_of, holding_home
from llmos.kernel.file_modes import make_private
from llmos.kernel.home_format import FORMAT
from llmos.kernel.store import disk
from llmos.kernel.store.adoption import Adopted, Adoption


@dataclass(frozen=True, slots=True)
class LoadedBundle:
    """What was loaded, and into which home."""

    manifest: BundleManifest
    home: Path
    adopted: Adopted


def load(source: Path, home: Path, *, show: Show = lambda phase, done, total: None) -> LoadedBundle:
    """Load the models of a bundle into this home, which may hold others; its daemon must not run.

    Corrupt for a damaged bundle, Conflict for a version whose number means another one there: then nothing is written.
    A load that was broken off is repeated.
    """
    make_private()
    with reading(source) as reader:
        manifest = read_manifest(reader)
        if manifest.home_format > FORMAT:
            raise Conflict(
                f"The models of {source} are of llmos {manifest.version} (format {manifest.home_format}); this "
                f"is llmos {__version__}, which reads up to format {FORMAT}. Use the llmos that is in the bundle",
                path=str(source),
                reason="newer_home",
            )
        if not manifest.models:
            raise BadInput(f"{source} has no models; it only installs llmos", path=str(source))
        verify(reader, tuple(file for file in manifest.files if file.path.startswith((BLOBS, NAMES))), show)
        models = [_read(reader, ref) for ref in manifest.models]
        stored = {file.path for file in manifest.files}
        _check_whole(models, stored, source)
        disk.make_folder(home)
        with holding_home(home):
            adopted = Adoption(home).adopt(
                models, manifest.promotions, lambda digest: reader.open(f"{BLOBS}/{digest}"), show
            )
            if adopted.added:
                audit_of(home).append([AuditEntry(OWNER, "unbundle", " ".join(adopted.added))])
    return LoadedBundle(manifest, home, adopted)


def _read(reader: Reader, ref: str) -> Manifest:
    name, version = split_ref(ref)
    with reader.open(f"{NAMES}/{name}/{version}.json") as page:
        found = from_json(page.read(), Manifest)
    if found.ref != ref:
        raise Corrupt(f"The bundle is damaged: the manifest of {ref} is that of {found.ref}. Make it anew")
    return found


def _check_whole(models: list[Manifest], stored: set[str], source: Path) -> None:
    """Corrupt if a file of these versions is not in the bundle."""
    for one in models:
        for file in one.files:
            if f"{BLOBS}/{file.digest}" not in stored:
                raise Corrupt(f"The bundle {source} lacks {file.path} of {one.ref}. Make it anew", model=one.ref)
