"""Reads a GGUF file's header (architecture, sizes) in milliseconds, because it skips the vocabulary."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from llmos.abi.error import BadInput

Value = Any  # Any: a number, a text, or the length of a list

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TEXT, LIST = 8, 9
TOKENS, KINDS = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
CONTROL = 3  # the type of a control token
START = struct.Struct("<4sIQQ")  # magic, version, tensors, entries
START_OF_TENSOR = struct.Struct("<IQ")  # its type, and the offset of its bytes
HALF_BYTES = 2  # of a key or value in the cache


@dataclass(frozen=True, slots=True)
class Header:
    """The header's entries by name.

    Lists are stored as their length, except short numeric lists with one value per layer.
    """

    entries: dict[str, Value]

    @property
    def architecture(self) -> str:
        return str(self.entries.get("general.architecture", ""))

    def of_model(self, name: str) -> Value:
        """An entry under the architecture's own prefix."""
        return self.entries.get(f"{self.architecture}.{name}")

    @property
    def max_tokens(self) -> int:
        return int(self.of_model("context_length") or 0)

    @property
    def vocabulary(self) -> int:
        return int(self.of_model("vocab_size") or self.entries.get("tokenizer.ggml.tokens") or 0)

    @property
    def token_bytes(self) -> int:
        """Bytes of KV cache per token, in half precision."""
        heads, layers = int(self.of_model("attention.head_count") or 1), int(self.of_model("block_count") or 1)
        width = int(self.of_model("embedding_length") or 0) // heads
        key, value = (int(self.of_model(f"attention.{what}_length") or width) for what in ("key", "value"))
        kept = self.of_model("attention.head_count_kv") or heads
        in_all = sum(kept) if isinstance(kept, list) else int(kept) * layers
        return in_all * (key + value) * HALF_BYTES


def read_header(path: Path) -> Header:
    """Read the header of this file; BadInput if it is not a GGUF file."""
    with path.open("rb") as file, _read(path):
        return Header(_entries(file)[0])


def read_controls(path: Path) -> dict[str, int]:
    """The control tokens of this file by name, with their ids; BadInput if it is not a GGUF file."""
    with path.open("rb") as file, _read(path):
        _, _, _, count = START.unpack(file.read(START.size))
        found: dict[str, list[Value]] = {}
        for _ in range(count):
            name, kind = _text(file), _number(file, "I")
            if name in (TOKENS, KINDS):
                found[name] = _format_list(file)
            else:
                _value(file, kind)
        kinds = found.get(KINDS, [])
        return {
            one: i
            for i, (one, kind) in enumerate(zip(found.get(TOKENS, []), kinds, strict=False))
            if kind == CONTROL and one
        }


def _format_list(file: BinaryIO) -> list[Value]:
    inner, count = _number(file, "I"), int(_number(file, "Q"))
    if inner == TEXT:
        return [_text(file) for _ in range(count)]
    layout = struct.Struct(f"<{count}{SCALARS[inner]}")
    return list(layout.unpack(file.read(layout.size)))


def count_numbers(file: BinaryIO) -> int:
    """The total number of elements of a GGUF file's tensors; ValueError or struct.error if it is not one."""
    _, tensors = _entries(file)
    found = 0
    for _ in range(tensors):
        _text(file)
        found += math.prod(int(_number(file, "Q")) for _ in range(int(_number(file, "I"))))
        file.seek(START_OF_TENSOR.size, 1)
    return found


def check_whole(path: Path) -> None:
    """Raise BadInput if the file ends before its tensors do, which the header alone does not show."""
    # imported late: only an import of a file needs it
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    with path.open("rb") as file, _read(path):
        entries, tensors = _entries(file)
        needed = 0
        for _ in range(tensors):
            _text(file)
            numbers = math.prod(int(_number(file, "Q")) for _ in range(int(_number(file, "I"))))
            block, size = GGML_QUANT_SIZES[GGMLQuantizationType(_number(file, "I"))]
            needed = max(needed, int(_number(file, "Q")) + numbers // block * size)
        align = int(entries.get("general.alignment", 32))
        if -(-file.tell() // align) * align + needed > path.stat().st_size:
            raise struct.error("it is cut short")


@contextmanager
def _read(path: Path) -> Iterator[None]:
    try:
        yield
    except (struct.error, ValueError, KeyError, MemoryError, ArithmeticError) as error:
        with path.open("rb") as file:
            begins = file.read(4) == b"GGUF"
        said = "it is cut short or damaged" if begins else "it does not begin like one"
        raise BadInput(
            f"{path.name} is no GGUF file that can be read: {said}. Fetch it again",
            file=path.name,
            begins_as_gguf=begins,
        ) from error


def _entries(file: BinaryIO) -> tuple[dict[str, Value], int]:
    """The entries, and the number of tensors described after them."""
    magic, version, tensors, count = START.unpack(file.read(START.size))
    if magic != b"GGUF" or version not in (2, 3):
        raise ValueError(f"{magic!r}, version {version}")
    return {_text(file): _value(file, _number(file, "I")) for _ in range(count)}, tensors


def _value(file: BinaryIO, kind: int) -> Value:
    if kind == TEXT:
        return _text(file)
    if kind != LIST:
        return _number(file, SCALARS[kind])
    inner, count = _number(file, "I"), int(_number(file, "Q"))
    if inner == TEXT:
        for _ in range(count):
            file.seek(int(_number(file, "Q")), 1)
        return count
    code = SCALARS[inner]
    if count > 1024:
        file.seek(count * struct.calcsize(f"<{code}"), 1)
        return count
    return [_number(file, code) for _ in range(count)]


def _number(file: BinaryIO, code: str) -> Value:
    layout = struct.Struct(f"<{code}")
    return layout.unpack(file.read(layout.size))[0]


def _text(file: BinaryIO) -> str:
    size = int(_number(file, "Q"))
    data = file.read(size)
    if len(data) < size:
        raise struct.error("it is cut short")
    return data.decode()
