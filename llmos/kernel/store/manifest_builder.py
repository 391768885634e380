"""Builds the manifest of an offer, and checks whether the store holds the same already. It writes nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from llmos.abi.error import BadInput, Conflict
from llmos.abi.model import DatasetManifest, Kind, Manifest, Offer, OfferKind, weights_digest
from llmos.abi.wire import from_plain
from llmos.kernel.store.blobs import Staged
from llmos.kernel.store.index import Index

GIVEN_BY_STORE = ("name", "version", "files", "created_at", "kind")

Lineage = dict[str, float]


def lineage_of(offer: Offer, pid: int, born: float) -> Lineage:
    """The identity of an offer, which tells a repeated one from a new one."""
    return {"pid": pid, "offer": offer.offer_id, "born": born}


def kept_before(index: Index, offer: Offer, lineage: Lineage) -> Manifest | DatasetManifest | None:
    """The version that this same offer became when it was committed before, or None."""
    if offer.kind is OfferKind.DATASET:
        sets = index.datasets.of(offer.name).values()
        return next((one for one in sets if lineage.items() <= one.provenance.items()), None)
    models = index.models.of(offer.name).values()
    return next((one for one in models if lineage.items() <= one.lineage.items()), None)


def model_of(offer: Offer, staged: tuple[Staged, ...], index: Index, lineage: Lineage) -> Manifest:
    """The next version of the offer's name, standing on the base in its draft."""
    draft = {key: value for key, value in offer.draft.items() if key not in GIVEN_BY_STORE}
    manifest = from_plain(
        {
            "task": "",
            **draft,
            "name": offer.name,
            "version": index.models.next(offer.name),
            "kind": offer.kind.value,
            "files": (),
            "created_at": _now(),
            "lineage": {**draft.get("lineage", {}), **lineage},
        },
        Manifest,
    )
    files = {file.path: file for file in (index.resolve(offer.like).files if offer.like else ())}
    files |= {one.file.path: one.file for one in staged}
    manifest = replace(manifest, files=tuple(files.values()))
    other = next((m for m in index.models.of(offer.name).values() if m.kind is not manifest.kind), None)
    if other:
        raise Conflict(
            f"{offer.name} is the name of a {other.kind} already. Take another name, or "
            f"remove that one: llmos rm {offer.name}",
            name=offer.name,
            has=other.kind,
        )
    if manifest.kind is Kind.BASE:
        return replace(manifest, base=None, base_digest=weights_digest(manifest.files))
    if manifest.base is None:
        raise BadInput(
            f"The offer of {offer.name} says no base. A model stands on one: draft.base = 'name:version'",
            name=offer.name,
        )
    base = index.resolve(manifest.base)
    return replace(manifest, base=base.ref, base_digest=base.base_digest, dtype=base.dtype)


def dataset_of(offer: Offer, staged: tuple[Staged, ...], index: Index, lineage: Lineage) -> DatasetManifest:
    """The next version of the offer's name."""
    draft = {key: value for key, value in offer.draft.items() if key not in GIVEN_BY_STORE}
    plain = {
        "task": "",
        **draft,
        "name": offer.name,
        "version": index.datasets.next(offer.name),
        "files": (),
        "created_at": _now(),
        "provenance": {**draft.get("provenance", {}), **lineage},
    }
    return replace(from_plain(plain, DatasetManifest), files=tuple(one.file for one in staged))


def is_same(one: Manifest | DatasetManifest, other: Manifest | DatasetManifest) -> bool:
    """Whether both have the same contents, whenever and by whom they were made."""
    return _content(one) == _content(other)


def _content(manifest: Manifest | DatasetManifest) -> object:
    settings: object = (manifest.options, manifest.dtype) if isinstance(manifest, Manifest) else _table(manifest)
    return sorted((file.path, file.digest) for file in manifest.files), manifest.task, settings


def _table(manifest: DatasetManifest) -> object:
    return manifest.columns, manifest.splits, manifest.options, manifest.license


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
