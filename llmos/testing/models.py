"""Models that compute nothing, for the null engine: a base and fine-tunes of it, committed through the real store."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

from llmos.abi.model import Manifest, Offer, OfferKind, Part
from llmos.kernel.store.store import Store


def safetensors(floats: int) -> bytes:
    """A valid weights file with one tensor of zeros."""
    tensor = {"dtype": "F32", "shape": [floats], "data_offsets": [0, 4 * floats]}
    header = json.dumps({"w": tensor}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4 * floats)


def add_base(
    store: Store, name: str = "tiny", task: str = "embed", *, floats: int = 16, pid: int = 900_001
) -> Manifest:
    """A base in the store, as `pull` would have offered it."""
    files = {"model.safetensors": safetensors(floats), "config.json": b"{}"}
    return _commit(store, OfferKind.BASE, name, files, {"task": task}, pid)


def add_model(
    store: Store,
    name: str,
    base: str,
    *,
    task: str = "classify",
    labels: tuple[str, ...] = ("no", "yes"),
    lineage: Mapping[str, object] | None = None,
    pid: int,
) -> Manifest:
    """A fine-tune of a base in the store, as `train` would have offered it; its version is not promoted."""
    draft = {"task": task, "base": base, "labels": labels, "method": "lora", "lineage": dict(lineage or {})}
    return _commit(store, OfferKind.MODEL, name, {"head.safetensors": safetensors(pid % 100 + 1)}, draft, pid)


def offer(
    folder: Path, kind: OfferKind, name: str, files: dict[str, bytes], draft: Mapping[str, object], number: int = 1
) -> Offer:
    """Files written into a scratch folder, and the offer of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, data in files.items():
        (folder / path).write_bytes(data)
    parts = {"model.safetensors": Part.WEIGHTS, "head.safetensors": Part.HEAD, "config.json": Part.CONFIG}
    return Offer(number, kind, name, str(folder), tuple((path, parts[path]) for path in files), dict(draft))


def _commit(
    store: Store, kind: OfferKind, name: str, files: dict[str, bytes], draft: Mapping[str, object], pid: int
) -> Manifest:
    kept = store.commit(offer(store.home / "scratch" / str(pid) / "offer", kind, name, files, draft), pid)
    assert isinstance(kept, Manifest)
    return kept
