"""Dtypes of resident forms: `int8`, with its other tensors in the device's own dtype.

A version says `int8`; the form that it is served from is `int8`, with the rest in float32, or `int8-bfloat16`.
"""

from __future__ import annotations

INT8 = "int8"
FLOAT = "float32"


def form_dtype(served: str, device: str) -> str:
    """The dtype of the form for a version that is served in `served` (empty: as the device computes) there."""
    if served != INT8:
        return served or device
    return INT8 if device in ("", FLOAT, INT8) else f"{INT8}-{device}"


def is_int8(dtype: str) -> bool:
    """Its linear layers are in int8, whatever the rest is kept in."""
    return dtype == INT8 or dtype.startswith(f"{INT8}-")


def rest_of(dtype: str) -> str:
    """What a form of this dtype keeps its embeddings, norms and biases in."""
    return (dtype.partition("-")[2] or FLOAT) if is_int8(dtype) else dtype
