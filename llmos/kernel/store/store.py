"""The store: commits what children offer, looks up, promotes and removes versions, and collects garbage.

Reads use an immutable index and may happen on any thread. Changes happen in one thread at a time, under a lock, and
replace the index.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue

from llmos.abi.api_types import DiskUse, Verified
from llmos.abi.error import Conflict, Corrupt, NotFound
from llmos.abi.frame import ModelPath
from llmos.abi.model import (
    DatasetManifest,
    Kind,
    Manifest,
    Offer,
    OfferKind,
    check_name,
    content_digest,
    split_dataset_ref,
)
from llmos.kernel.store import disk
from llmos.kernel.store.blobs import Blobs, Staged, stage
from llmos.kernel.store.checksums import Checksums
from llmos.kernel.store.index import Index
from llmos.kernel.store.manifest_builder import Lineage, dataset_of, is_same, kept_before, lineage_of, model_of
from llmos.kernel.store.pages import Pages, way_out
from llmos.kernel.store.promotions import Promotions, still_there
from llmos.kernel.store.resident_forms import ResidentForms, form_key, form_name
from llmos.kernel.store.row_key import has_row_key, row_key
from llmos.kernel.store.space import disk_use, freed_bytes
from llmos.kernel.store.uploads import UploadLimits, Uploads
from llmos.kernel.store.verification import Verification
from llmos.kernel.store.versions import VersionFolders


class Store:
    """Everything kept under one home. Open it once: the daemon holds the home's lock."""

    def __init__(self, home: Path, catalog: Path | None = None, limits: UploadLimits | None = None) -> None:
        """`catalog` is the user's own, for the commands that repair bases from it; `limits` are those of uploads."""
        self.home = home
        self.uploads = Uploads(home / "uploads", limits)
        self._catalog = catalog
        self._scratch = home / "scratch"
        self._writing = threading.Lock()
        disk.make_folder(self._scratch)
        self._blobs = Blobs(home / "blobs")
        self._models = VersionFolders(Manifest, home / "names", home / "models", self._blobs)
        self._datasets = VersionFolders(DatasetManifest, home / "datasets", home / "datasets", self._blobs)
        self._promotions = Promotions(self._models)
        self._residents = ResidentForms(home / "resident", self._blobs)
        self._proofs = Checksums(home / "verified.json", self._blobs.check)
        self._resident_root = str(home / "resident")
        self._cut_scratch_links()
        models, damaged_models = self._models.read()
        datasets, damaged_datasets = self._datasets.read()
        promotions, damaged_promotions = self._promotions.read(models)
        # Unreadable files, for the log.
        self.damaged: tuple[str, ...] = (*damaged_models, *damaged_datasets, *damaged_promotions)
        self._pages = Pages(self._models, self._datasets, self._promotions, damaged_promotions)
        self._mended: SimpleQueue[str] = SimpleQueue()  # bases whose files were replaced
        self._missing = {m.ref: missing for m in models if (missing := self._models.missing(m))}
        self._index = Index(models, datasets, promotions, self._residents.read())
        self._sweep_residents()
        for orphan in (*self._models.orphans(models), *self._datasets.orphans(datasets)):
            shutil.rmtree(orphan)

    # Lookups

    @property
    def index(self) -> Index:
        """The present contents, as an immutable value."""
        return self._index

    def manifests(self) -> list[Manifest]:
        """Every version of every base and model, by name and version."""
        return sorted(self._index.models, key=lambda manifest: (manifest.name, manifest.version))

    def resolve(self, ref: str) -> Manifest:
        """The version of `name` (promoted) or `name:version`; ModelNotFound, or Conflict if none is promoted."""
        return self._index.resolve(ref)

    def found(self, ref: str) -> Manifest:
        """For display: `name` (the promoted version, else the newest) or `name:version`; ModelNotFound otherwise."""
        return self._index.found(ref)

    def holds(self, manifest: Manifest) -> bool:
        """Whether this very version is here, and not another one that got its number later."""
        return self._index.models.of(manifest.name).get(manifest.version) == manifest

    def promoted(self, name: str) -> int | None:
        """The promoted version of a name, or None."""
        return self._index.promoted(name)

    def promotions(self, name: str) -> tuple[int, ...]:
        """The promoted versions of a name, in order; the last is in force, and rollback returns to the one before."""
        return self._index.promotions.get(name, ())

    def located(self, ref: str, dtype: str | None = None) -> ModelPath:
        """The manifest with its paths, and its base with the resident form in this dtype, if that was made."""
        return self._locate(self._index, self._index.resolve(ref), dtype)

    def _locate(self, index: Index, manifest: Manifest, dtype: str | None) -> ModelPath:
        missing = self._missing.get(manifest.ref)
        if missing:
            raise Corrupt(
                f"{manifest.ref} lost {', '.join(missing)} on the disk. To mend it: {way_out(manifest, self._catalog)}",
                path=str(self._models.folder(manifest)),
                model=manifest.ref,
                lost=list(missing),
            )
        resident = form_name(manifest, dtype) if manifest.base is None and dtype else ""
        return ModelPath(
            manifest,
            self._models.address(manifest),
            f"{self._resident_root}/{resident}" if resident in index.residents else None,
            self._locate(index, index.resolve(manifest.base), dtype) if manifest.base else None,
        )

    def resident(self, ref: str, dtype: str) -> Path | None:
        """The folder of this base's resident form, or of this model's base's, in this dtype; None if it is not made."""
        found = form_name(self._base_of(self._index, self._index.resolve(ref)), dtype)
        return self._residents.path(found) if found in self._index.residents else None

    def resident_bytes(self, base: Manifest) -> int:
        """The bytes of the resident form that the base is served from, or of its largest one; 0 if there is none."""
        form = form_name(base, base.dtype)
        made = (name for name in self._index.residents if name.startswith(form))
        return max(map(self._residents.size_bytes, made), default=0)

    def file(self, ref: str, path: str) -> Path:
        """The path of a model's file, verified against its digest; NotFound if it has no such file."""
        manifest = self.found(ref)
        for file in manifest.files:
            if file.path == path:
                found = self._models.folder(manifest) / path
                self._blobs.check(file, found)
                return found
        has = ", ".join(file.path for file in manifest.files)
        raise NotFound(
            f"{manifest.ref} has no file {path!r}. It has: {has}",
            model=manifest.ref,
            path=path,
            files=[file.path for file in manifest.files],
        )

    def prove(self, ref: str, dtype: str) -> None:
        """Verify a model and its base before use; Corrupt if a file has changed.

        A damaged resident form is removed, because it can be made again. It may read large files, so it must not run in
        the loop.
        """
        index, manifest = self._index, self.resolve(ref)
        base = self._base_of(index, manifest)
        for one in {manifest.ref: manifest, base.ref: base}.values():
            for file in one.files:
                self._proofs.prove(file, self._models.folder(one) / file.path)
        name = form_name(base, dtype)
        try:
            for path, file in self._residents.files(name).items():
                self._proofs.prove(file, path)
        except Corrupt:
            self._drop_resident(name)

    def verify(self, ref: str) -> Manifest:
        """Hash every file of a model, its base and its resident forms again; Corrupt for the first damaged one."""
        index, manifest = self._index, self.resolve(ref)
        for one in (manifest, index.resolve(manifest.base)) if manifest.base else (manifest,):
            for file in one.files:
                self._blobs.check(file, self._models.folder(one) / file.path)
        key = form_key(self._base_of(index, manifest))
        for name in index.residents:
            if name.startswith(key):
                self._residents.check(name)
        return manifest

    def examine(self) -> Verified:
        """Read every file, also verified ones, and list the damaged ones.

        A damaged resident form is removed, because it can be made again.
        """
        index, found = self._index, Verification(self._blobs.check)
        for model in index.models:
            files = {self._models.folder(model) / file.path: file for file in model.files}
            found.read(model.ref, files, way_out(model, self._catalog))
        for dataset in index.datasets:
            files = {self._datasets.folder(dataset) / file.path: file for file in dataset.files}
            found.read(dataset.ref, files, f"llmos rm {dataset.ref}, and train on the rows' own file")
        for name in index.residents:
            if not found.read(f"resident form of {self._made_of(name)}", self._residents.files(name)):
                self._drop_resident(name)
                for model in index.models:
                    if name.startswith(f"{form_key(model)}-"):
                        self._mended.put(model.ref)
        with self._writing:
            pages = self._pages.examine(self._index)
        return replace(found.result, damages=(*found.result.damages, *pages))

    def _made_of(self, form: str) -> str:
        """The base of a resident form, and its dtype."""
        key, _, dtype = form.partition("-")
        return f"{self._index.made_of(key)} in {dtype}"

    @staticmethod
    def _base_of(index: Index, manifest: Manifest) -> Manifest:
        return index.resolve(manifest.base) if manifest.base else manifest

    def _drop_forms(self, base: Manifest) -> None:
        """Remove every resident form of this base; the caller holds the lock."""
        gone = {name for name in self._index.residents if name.startswith(f"{form_key(base)}-")}
        self._index = replace(self._index, residents=self._index.residents - gone)
        for name in gone:
            shutil.rmtree(self._residents.path(name), ignore_errors=True)

    def _drop_resident(self, name: str) -> None:
        with self._writing:
            self._index = replace(self._index, residents=self._index.residents - {name})
            shutil.rmtree(self._residents.path(name), ignore_errors=True)

    def datasets(self) -> list[DatasetManifest]:
        """Every version of every dataset, by name and version."""
        return sorted(self._index.datasets, key=lambda manifest: (manifest.name, manifest.version))

    def dataset(self, ref: str) -> DatasetManifest:
        """The dataset `name` (the newest) or `name@version`; DatasetNotFound otherwise."""
        return self._index.dataset(ref)

    def dataset_folder(self, ref: str) -> Path:
        """The read-only folder with a dataset's files."""
        return self._datasets.folder(self.dataset(ref))

    def row_key(self) -> str:
        """The home's key for ids of rows, in hexadecimal; made at the first use."""
        if has_row_key(self.home):
            return row_key(self.home).hex()
        with self._writing, disk.room_for(self.home):
            return row_key(self.home).hex()

    def in_dtype(self, base: str, dtype: str) -> str | None:
        """The newest version of this base in that dtype, or None."""
        known = self.resolve(base)
        named = self._index.models.of(known.name).values()
        content = content_digest(known.files)
        same = [m.ref for m in named if m.dtype == dtype and content_digest(m.files) == content]
        return same[-1] if same else None

    # Commits

    def commit(self, offer: Offer, pid: int, born: float = 0.0) -> Manifest | DatasetManifest | str:
        """Commit an offer: its manifest, or the folder of its resident form; all of it or nothing.

        Repeating an offer returns the same result. `born` tells apart two processes with the same pid, after a journal
        was lost. The first version of a base is promoted at once, unless a gate has said no.
        """
        check_name(offer.name)
        lineage = lineage_of(offer, pid, born)
        done = self._commit_offer(offer, lineage)
        if done is not None:
            return done
        with disk.room_for(self.home, 0):  # a file system may allocate space only at the sync
            staged = stage(offer, self._scratch)
        rotten = {one.file.digest for one in staged if not self._blobs.is_sound(one.file)}
        twins = self._twins(staged, rotten) if offer.kind is OfferKind.RESIDENT else {}
        with self._writing, disk.room_for(self.home):
            self._heal(staged, rotten)
            kept = self._commit_offer(offer, lineage) or self._keep(offer, staged, rotten, twins, lineage)
        for one in staged:
            self._proofs.remember(one.file, one.source)
            one.source.chmod(0o400)
            one.source.unlink(missing_ok=True)  # the child loses its link: what it writes there next is another file
        return kept

    def _commit_offer(self, offer: Offer, lineage: Lineage) -> Manifest | DatasetManifest | str | None:
        if offer.kind is OfferKind.RESIDENT:
            name = self._form_name(offer)
            return str(self._residents.path(name)) if name in self._index.residents else None
        return kept_before(self._index, offer, lineage)

    def _form_name(self, offer: Offer) -> str:
        """The offered form's name; ModelNotFound if its base is gone, Conflict if it is not a form of that base."""
        base = self._index.resolve(str(offer.draft.get("base", offer.name)))
        if base.kind is not Kind.BASE:
            raise Conflict(
                f"{base.ref} stands on {base.base}, and a resident form is of a base. Offer it for that one",
                model=base.ref,
            )
        return form_name(base, str(offer.draft["dtype"]))

    def _twins(self, staged: Iterable[Staged], rotten: set[str]) -> dict[str, Path]:
        """Where the same bytes exist already: as sound blobs, or in other forms."""
        blobs = {one.file.digest: self._blobs.path(one.file.digest) for one in staged if one.file.digest not in rotten}
        others = [one for one in staged if one.file.digest in rotten]
        return self._residents.twins(self._index.residents, others) | blobs

    def _keep(
        self,
        offer: Offer,
        staged: tuple[Staged, ...],
        rotten: set[str],
        twins: Mapping[str, Path],
        lineage: Lineage,
    ) -> Manifest | DatasetManifest | str:
        index = self._index  # after the repair, which may have removed forms
        if offer.kind is OfferKind.RESIDENT:
            name = self._form_name(offer)
            self._residents.put(name, staged, twins)
            self._index = replace(index, residents=index.residents | {name})
            return str(self._residents.path(name))
        if offer.kind is OfferKind.DATASET:
            dataset = dataset_of(offer, staged, index, lineage)
            same_set = [one for one in index.datasets.of(offer.name).values() if is_same(one, dataset)]
            if same_set:
                return same_set[-1]
            self._put(self._datasets, dataset, staged, rotten, is_first=not index.datasets.of(offer.name))
            self._index = replace(index, datasets=index.datasets.adding(dataset))
            return dataset
        manifest = model_of(offer, staged, index, lineage)
        same = [one for one in index.models.of(offer.name).values() if is_same(one, manifest)]
        if same and manifest.kind is Kind.BASE:
            return same[-1]
        if manifest.kind is Kind.BASE and (lost := self._models.lost(manifest, index.models)) is not None:
            return self._found_again(
                replace(manifest, version=lost), [one for one in staged if one.file.digest in rotten]
            )
        is_first = not index.models.of(manifest.name)
        is_refused = offer.verdict is not None and not offer.verdict.promote
        history = (manifest.version,) if manifest.kind is Kind.BASE and is_first and not is_refused else ()
        if history:  # before the manifest, which makes the version visible
            self._promotions.write(manifest.name, history)
        self._put(self._models, manifest, staged, rotten, is_first=is_first)
        promotions = {**index.promotions, manifest.name: history} if history else index.promotions
        self._index = replace(index, models=index.models.adding(manifest), promotions=promotions)
        return manifest

    def _found_again(self, manifest: Manifest, rotten: Iterable[Staged]) -> Manifest:
        """A base with an unreadable manifest was pulled again: restore its version, so that models find it."""
        for one in rotten:
            self._blobs.place(one)
        disk.sync(self._blobs.folder)
        self._models.link(manifest)
        self._models.write(manifest)
        models = self._index.models.adding(manifest)
        history = self._index.promotions.get(manifest.name, ()) or (manifest.version,)
        self._promotions.write(manifest.name, history)
        promotions = {**self._index.promotions, manifest.name: history}
        self._index = replace(self._index, models=models, promotions=promotions)
        return manifest

    def drain_mended(self) -> set[str]:
        """The refs of bases whose damaged files were replaced since the last call; processes may still map the old
        ones."""
        mended = set()
        with suppress(Empty):
            while True:
                mended.add(self._mended.get_nowait())
        return mended

    def _heal(self, staged: Iterable[Staged], rotten: set[str]) -> None:
        """Replace damaged blobs by the offer's bytes in every version that shows them, and remove what was made from
        them.

        An interrupted repair is completed.
        """
        offered = {one.file.digest for one in staged}
        mended = rotten & self._index.digests()
        for one in staged:
            if one.file.digest in mended:
                self._blobs.place(one)
        if mended:
            disk.sync(self._blobs.folder)
        for model in self._index.models:
            if self._models.shows_damage(model, mended, offered):
                self._models.link(model)
                self._missing.pop(model.ref, None)
                self._mended.put(model.base or model.ref)
                if model.kind is Kind.BASE:
                    self._drop_forms(model)
        for dataset in self._index.datasets:
            if self._datasets.shows_damage(dataset, mended, offered):
                self._datasets.link(dataset)
        rotten -= mended

    def _put(
        self,
        shelf: VersionFolders[Manifest] | VersionFolders[DatasetManifest],
        manifest: Manifest | DatasetManifest,
        staged: Iterable[Staged],
        rotten: set[str],
        *,
        is_first: bool,
    ) -> None:
        """Write blobs, links and manifest, in this order; after a failure nothing of it stays."""
        reached = self._index.digests()
        placed: list[str] = []
        try:
            for one in staged:
                if one.file.digest in rotten or not self._blobs.has(one.file):
                    self._blobs.place(one)
                    placed.append(one.file.digest)
            disk.sync(self._blobs.folder)
            shelf.put(manifest)  # type: ignore[arg-type]  # each caller pairs the folder with its own kind of manifest
        except BaseException:
            with suppress(OSError):  # if even this fails, the next start removes it
                shelf.undo(manifest, is_first=is_first)  # type: ignore[arg-type]  # as above
                for digest in placed:
                    if digest not in reached:
                        self._blobs.path(digest).unlink(missing_ok=True)
            raise

    # Promotion and removal

    def promote(self, ref: str) -> Manifest:
        """Promote this version."""
        with self._writing, disk.room_for(self.home):
            manifest = self._index.resolve(ref)
            history = self.promotions(manifest.name)
            if history[-1:] != (manifest.version,):
                self._promote(manifest.name, (*history, manifest.version))
            return manifest

    def rollback(self, name: str) -> Manifest:
        """Promote the version promoted before the present one; Conflict if there is none."""
        with self._writing, disk.room_for(self.home):
            if not self._index.models.of(name):
                self._index.resolve(name)  # raises, with near names, if there is no such name
            history = self.promotions(name)
            if len(history) < 2:
                raise Conflict(
                    f"{name} has no version promoted before the present one. Name one: llmos promote {name}:VERSION",
                    name=name,
                )
            self._promote(name, history[:-1])
            return self._index.resolve(name)

    def _promote(self, name: str, history: tuple[int, ...]) -> None:
        self._pages.promoted(name)
        self._promotions.write(name, history)
        self._index = replace(self._index, promotions={**self._index.promotions, name: history})

    def remove(self, ref: str, keep_promoted: int = 0) -> list[str]:
        """Remove a version or a whole name; Conflict if a model stands on it. `collect` frees its blobs.

        Conflict also for a version that is one of the last `keep_promoted` promoted of its name.
        """
        with self._writing:
            gone = self._index.removable(ref)
            for one in gone if keep_promoted else ():
                if one.version in self.promotions(one.name)[-keep_promoted:]:
                    raise Conflict(f"{one.ref} is promoted, or what a rollback returns to. Keep it", model=one.ref)
            for manifest in gone:
                left = self._index.models.removing(manifest)
                versions = left.of(manifest.name)
                history = still_there(self.promotions(manifest.name), versions)
                self._models.drop(manifest, is_last=not versions)
                self._missing.pop(manifest.ref, None)
                promotions = {**self._index.promotions, manifest.name: history}
                if not versions:
                    promotions.pop(manifest.name)
                self._index = replace(self._index, models=left, promotions=promotions)
            return [manifest.ref for manifest in gone]

    def remove_dataset(self, ref: str) -> list[str]:
        """Remove a dataset's version, or all of a name; models trained on it keep their evidence."""
        with self._writing:
            name, version = split_dataset_ref(ref)
            found = self._index.dataset(ref)
            gone = [found] if version else list(self._index.datasets.of(name).values())
            for manifest in gone:
                left = self._index.datasets.removing(manifest)
                self._datasets.drop(manifest, is_last=not left.of(name))
                self._index = replace(self._index, datasets=left)
            return [manifest.ref for manifest in gone]

    # Garbage collection

    def collect(self, unreached: Collection[str] = ()) -> int:
        """Remove unreferenced blobs, and resident forms in dtypes that nothing here computes in (`unreached`).

        Returns the freed bytes. Files of a commit in progress are spared.
        """
        with self._writing:
            index = self._index
            garbage = self._garbage(index, unreached)
            freed = freed_bytes(garbage)
            for path in garbage:
                path.unlink(missing_ok=True)
            self._sweep_residents(unreached)
            for orphan in (*self._models.orphans(index.models), *self._datasets.orphans(index.datasets)):
                shutil.rmtree(orphan, ignore_errors=True)
            disk.sync(self._blobs.folder)
            return freed

    def _garbage(self, index: Index, unreached: Collection[str]) -> list[Path]:
        reached, spared = index.digests(), self._spared_files(index)
        there = (path for path in self._blobs.folder.iterdir() if path.name not in reached)
        blobs = [path for path in there if not spared or disk.inode(path) not in spared]
        forms = (name for name in index.residents if not index.needs_resident(name, unreached))
        folders = [self._residents.path(name) for name in forms]
        folders += self._models.orphans(index.models) + self._datasets.orphans(index.datasets)
        return blobs + [path for folder in folders for path, _ in disk.files_under(folder)]

    def _spared_files(self, index: Index) -> set[int]:
        """The files of versions with unreadable manifests: they can be restored."""
        folders = [self._models.kept_for(page) for page in self._models.unreadable(index.models)]
        folders += [self._datasets.kept_for(page) for page in self._datasets.unreadable(index.datasets)]
        return {stat.st_ino for folder in folders for _, stat in disk.files_under(folder)}

    def _sweep_residents(self, unreached: Collection[str] = ()) -> None:
        """Remove resident forms without a base: of removed bases, or made by other versions of the code."""
        kept = frozenset(name for name in self._index.residents if self._index.needs_resident(name, unreached))
        for name in self._index.residents - kept:
            shutil.rmtree(self._residents.path(name), ignore_errors=True)
        self._index = replace(self._index, residents=kept)

    def disk_use(self, unreached: Collection[str] = ()) -> DiskUse:
        """The bytes per folder, and what `collect` would free."""
        return disk_use(self.home, self._garbage(self._index, unreached))

    def _cut_scratch_links(self) -> None:
        """Remove the scratch links of blobs.

        A kill between manifest and the end of a commit leaves one, through which a child that continues could write
        into the blob.
        """
        kept = {stat.st_ino for room in ("blobs", "resident") for _, stat in disk.files_under(self.home / room)}
        for path, stat in disk.files_under(self._scratch):
            if stat.st_nlink > 1 and stat.st_ino in kept:
                path.unlink()
