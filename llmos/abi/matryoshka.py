"""Vectors that may be cut: the option of a base whose first dimensions were trained to suffice, and the cut itself."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json

MATRYOSHKA = "matryoshka"  # among a base's options: the lengths that its vectors may have
FLOATS = "f"


def check_length(length: int, options: Mapping[str, Json], whole: int | None = None) -> None:
    """BadInput unless vectors may have this length; of a base without such lengths, `whole` is the only one."""
    lengths = options.get(MATRYOSHKA) or ([] if whole is None else [whole])
    if lengths and length not in lengths:
        raise BadInput(
            f"dimensions is {length}; the vectors of this model have {' or '.join(map(str, lengths))}",
            key="dimensions",
            value=length,
            expected=lengths[0] if len(lengths) == 1 else list(lengths),
        )


def cut_vector(raw: bytes, length: int, *, is_unit: bool) -> bytes:
    """The first numbers of a vector of little-endian float32, of length one again if the vector is."""
    numbers = array(FLOATS, raw[: 4 * length])
    if not is_unit:
        return numbers.tobytes()
    size = max(math.sqrt(math.fsum(one * one for one in numbers)), 1e-12)
    return array(FLOATS, [one / size for one in numbers]).tobytes()
