"""The index of the store as one immutable value: readers use it, the writer replaces it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from llmos.abi.error import Conflict, DatasetNotFound, ModelNotFound
from llmos.abi.model import DatasetManifest, Kind, Manifest, split_dataset_ref, split_ref
from llmos.kernel.store.resident_forms import form_key
from llmos.kernel.store.versions import Versions


@dataclass(frozen=True, slots=True)
class Index:
    """Models and datasets by name and version, what was promoted when, and which resident forms are made."""

    models: Versions[Manifest] = field(default_factory=Versions)
    datasets: Versions[DatasetManifest] = field(default_factory=Versions)
    promotions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # the last one is in force
    residents: frozenset[str] = frozenset()

    def promoted(self, name: str) -> int | None:
        """The promoted version of a name, or None."""
        history = self.promotions.get(name)
        return history[-1] if history else None

    def resolve(self, ref: str) -> Manifest:
        """The version of `name:version`, or the promoted one of a bare name; of a base that no gate refused else the
        newest."""
        found = self.found(ref)
        name, version = split_ref(ref)
        is_refused = found.kind is not Kind.BASE or (found.evidence.get("gate") or {}).get("promoted") is False
        if version is None and is_refused and self.promoted(name) is None:
            candidates = [f"{name}:{number}" for number in self.models.of(name)]
            raise Conflict(
                f"No version of {name} is promoted, so the bare name means none. There are candidates: "
                f"{', '.join(candidates)}. Name one of them, or promote it first: llmos promote {found.ref}",
                name=name,
                candidates=candidates,
            )
        return found

    def found(self, ref: str) -> Manifest:
        """As `resolve`, for display: a bare name without a promoted version means its newest."""
        name, version = split_ref(ref)
        versions = self.models.of(name)
        if not versions:
            near = get_close_matches(name, self.models.by_name)
            raise ModelNotFound(
                f"No model {name!r} in the store (near: {', '.join(near) or 'none'}). See all: llmos ls. "
                f"Bring it in: llmos pull {name}",
                name=name,
                near=near,
            )
        number = version or self.promoted(name) or max(versions)
        if number not in versions:
            has = ", ".join(map(str, versions))
            raise ModelNotFound(
                f"Model {name!r} has no version {number} (it has {has}). Name one of these: {name}:{max(versions)}",
                name=name,
                version=number,
                versions=list(versions),
            )
        return versions[number]

    def dataset(self, ref: str) -> DatasetManifest:
        """A bare name's newest version, or exactly `name@version`."""
        name, version = split_dataset_ref(ref)
        versions = self.datasets.of(name)
        if not versions or (version is not None and version not in versions):
            near = ", ".join(get_close_matches(name, self.datasets.by_name)) or "none"
            has = ", ".join(f"{name}@{number}" for number in versions) or "none"
            raise DatasetNotFound(
                f"No dataset {ref!r} in the store (versions: {has}; near: {near}). "
                "All: llmos data ls. Bring in rows: llmos data import FILE",
                name=name,
            )
        return versions[version or max(versions)]

    def digests(self) -> frozenset[str]:
        """The digests of every blob that a manifest refers to."""
        return frozenset(file.digest for shelf in (self.models, self.datasets) for m in shelf for file in m.files)

    def needs_resident(self, name: str, unreached: Collection[str] = ()) -> bool:
        """Whether a base here has a resident form of this name, as made today, in a dtype that is not `unreached`."""
        key, _, dtype = name.partition("-")
        return dtype not in unreached and any(m.kind is Kind.BASE and key == form_key(m) for m in self.models)

    def made_of(self, key: str) -> str:
        """The refs of the bases that have resident forms of this key."""
        refs = (m.ref for m in self.models if m.kind is Kind.BASE and form_key(m) == key)
        return ", ".join(refs) or "no base"

    def removable(self, ref: str) -> list[Manifest]:
        """The versions that this ref names; raises if a remaining model stands on one of them."""
        name, _ = split_ref(ref)
        chosen = [self.resolve(ref)] if ":" in ref else list(self.models.of(name).values()) or [self.resolve(ref)]
        refs = {manifest.ref for manifest in chosen}
        standing = sorted(m.ref for m in self.models if m.base in refs and m.ref not in refs)
        if standing:
            raise Conflict(
                f"{', '.join(sorted(refs))} is the base of {', '.join(standing)}. Remove these first: "
                f"llmos rm {' '.join(standing)}",
                models=standing,
            )
        return chosen
