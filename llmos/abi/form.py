"""Dtypes of resident forms: `int8`, with its other tensors in the device's own dtype.

A version has the dtype `int8`; its resident form is `int8`, with all else in float32, or `int8-bfloat16`.
"""

from __future__ import annotations

INT8 = "int8"
FLOAT = "float32"


def form_dtype(served: str, device: str) -> str:
    """The dtype of the resident form for a version served in `served` (empty: the device's dtype)."""
    if served != INT8:
        return served or device
    return INT8 if device in ("", FLOAT, INT8) else f"{INT8}-{device}"


def is_int8(dtype: str) -> bool:
    """Whether its linear layers are in int8, whatever the dtype of the rest."""
    return dtype == INT8 or dtype.startswith(f"{INT8}-")


def rest_of(dtype: str) -> str:
    """The dtype of embeddings, norms and biases in a form of this dtype."""
    return (dtype.partition("-")[2] or FLOAT) if is_int8(dtype) else dtype
