"""Checks weights files: a sound safetensors header, GGUF or ONNX; formats that could run code are refused."""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO

import msgspec

from llmos.abi.engine import GRAPHS
from llmos.abi.error import BadInput, UnsafeWeights

PICKLED_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz")
PICKLE_MAGIC = (
    b"\x80\x02",
    b"\x80\x03",
    b"\x80\x04",
    b"\x80\x05",
    b"PK\x03\x04",
)  # raw pickles, and torch's zip archives of one
MAX_HEADER_BYTES = 100_000_000
LENGTH = struct.Struct("<Q")
GGUF = struct.Struct("<4sIQQ")  # magic, version, tensors, metadata entries
BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}


class Tensor(msgspec.Struct, frozen=True):
    """One entry of a safetensors header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def refuse_pickle(name: str, start: bytes) -> None:
    """Raise UnsafeWeights if the file's name or first bytes show a pickle."""
    if name.lower().endswith(PICKLED_SUFFIXES) or start.startswith(PICKLE_MAGIC):
        raise UnsafeWeights(
            f"{name} holds pickled weights, and loading a pickle runs the code in it. "
            "If you trust it, convert it to safetensors (transformers: model.save_pretrained(folder))",
            path=name,
        )


def check_weights(path: Path, name: str, *, allow_gguf: bool) -> None:
    """Check that the file is sound safetensors (or GGUF, if allowed); UnsafeWeights or BadInput otherwise."""
    with path.open("rb") as file:
        start = file.read(GGUF.size)
        size_bytes = os.fstat(file.fileno()).st_size
        refuse_pickle(name, start)
        if start.startswith(b"GGUF"):
            _check_gguf(start, name, size_bytes, allow_gguf)
            return
        if name.endswith(GRAPHS):
            _check_graph(start, name, allow_gguf)
            return
        file.seek(0)
        _check_safetensors(file, name, size_bytes)


def _check_gguf(start: bytes, name: str, size_bytes: int, allow_gguf: bool) -> None:
    if not allow_gguf:
        raise BadInput(
            f"{name} is GGUF, which only a base may have. Give adapters, heads and fine-tunes as safetensors",
            path=name,
            format="gguf",
            reason="only_a_base",
        )
    if len(start) < GGUF.size:
        raise BadInput(f"{name} is cut short: {size_bytes:,} bytes are no GGUF file. Fetch it again", path=name)
    _, version, tensors, entries = GGUF.unpack(start)
    if version not in (2, 3) or max(tensors, entries) > size_bytes:
        raise BadInput(
            f"{name} is no GGUF file that can be read (version {version}, {tensors:,} tensors). Fetch it again",
            path=name,
        )


def _check_graph(start: bytes, name: str, is_base: bool) -> None:
    """Check a graph: a protobuf message that starts with its version. External data cannot be checked."""
    if not is_base:
        raise BadInput(
            f"{name} is ONNX, which only a base may have. Give adapters, heads and fine-tunes as safetensors",
            path=name,
            format="onnx",
            reason="only_a_base",
        )
    if name.endswith(".onnx") and not start.startswith(b"\x08"):
        raise BadInput(f"{name} is no ONNX graph that can be read. Export it again", path=name)


def _check_safetensors(file: BinaryIO, name: str, size_bytes: int) -> None:
    """Check header length, JSON, and that the tensors fill the rest of the file without holes or overlaps."""
    if size_bytes < LENGTH.size:
        raise _unsound(name, f"{size_bytes} bytes are too few")
    (header_bytes,) = LENGTH.unpack(file.read(LENGTH.size))
    data_bytes = size_bytes - LENGTH.size - header_bytes
    if header_bytes > MAX_HEADER_BYTES or data_bytes < 0:
        raise _unsound(
            name, f"its header claims {header_bytes:,} of the file's {size_bytes:,} bytes", header_bytes=header_bytes
        )
    try:
        entries = msgspec.json.decode(file.read(header_bytes), type=dict[str, msgspec.Raw])
        metadata = entries.pop("__metadata__", None)
        if metadata is not None:
            msgspec.json.decode(metadata, type=dict[str, str])
        tensors = {key: msgspec.json.decode(raw, type=Tensor) for key, raw in entries.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unsound(name, f"its header is not the JSON of one: {error}") from error
    end = 0
    for key, tensor in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        start, stop = tensor.data_offsets
        if tensor.dtype not in BITS or min(tensor.shape, default=0) < 0:
            raise _unsound(name, f"tensor {key!r} has dtype {tensor.dtype} and shape {list(tensor.shape)}")
        if start != end or (stop - start) * 8 != math.prod(tensor.shape) * BITS[tensor.dtype]:
            raise _unsound(name, f"tensor {key!r} of shape {list(tensor.shape)} does not lie at {start:,} to {stop:,}")
        end = stop
    if end != data_bytes:
        raise _unsound(name, f"its tensors end at byte {end:,} of {data_bytes:,}")


def _unsound(name: str, why: str, **detail: int) -> BadInput:
    return BadInput(
        f"{name} is not a valid safetensors file: {why}. Write or fetch it again",
        path=name,
        format="safetensors",
        **detail,
    )
