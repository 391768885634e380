"""SentencePiece model files, written piece by piece: what published T5, mBART and Marian have beside their weights."""

from __future__ import annotations

import struct
from collections.abc import Mapping

UNIGRAM = 1
UNKNOWN, STEERS = 2, 3  # kinds of piece; a plain one is 1, which need not be said


def model(pieces: Mapping[str, float], kind: int = UNIGRAM, special: Mapping[str, int] | None = None) -> bytes:
    """The file that SentencePiece would write of these pieces with their scores, behind the special ones."""
    special = special or {"<unk>": UNKNOWN}
    made = b""
    for piece, of in special.items():
        made += _field(1, _field(1, piece.encode()) + _number(2, 0.0) + _varint(3 << 3) + _varint(of))
    for piece, score in pieces.items():
        made += _field(1, _field(1, piece.encode()) + _number(2, score))
    told = _varint(3 << 3) + _varint(kind) + _varint(40 << 3) + _varint([*special.values()].index(UNKNOWN))
    return made + _field(2, told) + _field(3, _field(1, b"identity"))


def _number(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    made = b""
    while value > 127:
        made += bytes([value & 127 | 128])
        value >>= 7
    return made + bytes([value])
