"""Small offers for the store's tests: sound safetensors made by hand, in a scratch folder of their own."""

import json
import struct
from pathlib import Path

from llmos.abi.model import Offer, OfferKind, Part


def safetensors(values: bytes = b"\0" * 16, **changes: object) -> bytes:
    """The bytes of a safetensors file with one U8 tensor."""
    entry = {"dtype": "U8", "shape": [len(values)], "data_offsets": [0, len(values)], **changes}
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": entry}).encode()
    return struct.pack("<Q", len(header)) + header + values


def offer(
    home: Path, pid: int, number: int, kind: OfferKind, name: str, files: dict[str, bytes], **draft: object
) -> Offer:
    """An offer whose files were just written into the process's scratch."""
    folder = home / "scratch" / str(pid) / f"offer-{number}"
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return Offer(number, kind, name, str(folder), tuple((path, part_of(path)) for path in files), dict(draft))


def part_of(path: str) -> Part:
    if path.startswith("model") or path.endswith(".gguf"):
        return Part.WEIGHTS
    if path.startswith("adapter_model"):
        return Part.ADAPTER
    return {"head.safetensors": Part.HEAD, "config.json": Part.CONFIG}.get(path, Part.OTHER)


def base(home: Path, pid: int = 1, name: str = "minilm", values: bytes = b"\1" * 16) -> Offer:
    files = {"model.safetensors": safetensors(values), "config.json": b"{}", "1_Pooling/config.json": b"{ }"}
    return offer(home, pid, 1, OfferKind.BASE, name, files, task="embed", architecture="BertModel")


def model(home: Path, pid: int, name: str = "ner", on: str = "minilm:1", values: bytes = b"\2" * 8) -> Offer:
    files = {"head.safetensors": safetensors(values), "config.json": b"{}"}
    return offer(home, pid, 1, OfferKind.MODEL, name, files, task="tag", base=on, labels=["O", "B-PER"])


def dataset(home: Path, pid: int, name: str = "tickets", rows: bytes = b"text,label\n") -> Offer:
    return offer(home, pid, 2, OfferKind.DATASET, name, {"train.csv": rows}, task="classify", splits={"train": 1})
