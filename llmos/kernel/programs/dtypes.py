"""The dtype of a version or an argument, checked against the device."""

from __future__ import annotations

from llmos.abi.error import BadSetting
from llmos.abi.form import INT8
from llmos.abi.process import Spec

DTYPES = ("float32", "bfloat16", INT8)


def check_dtype(spec: Spec, served: str, what: object) -> None:
    """Raise BadSetting for an unknown `dtype`, or for int8 on another device than a CPU.

    `served` is the dtype if the arguments name none; `what` is what is computed in it.
    """
    dtype = spec.args.get("dtype")
    if dtype is not None and dtype not in DTYPES:
        expected = "float32, bfloat16 or int8"
        raise BadSetting(f"dtype is {dtype!r}; expected {expected}", key="dtype", value=str(dtype), expected=expected)
    if (dtype or served) == INT8 and not spec.device.startswith("cpu"):
        raise BadSetting(
            f"{what} in int8 runs only on CPUs, not on {spec.device}. Use a version in float there (llmos ls)",
            key="device",
            value=spec.device,
            expected="cpu0",
        )
