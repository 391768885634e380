"""Devices, leases and what a device can do."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class LeaseKind(StrEnum):
    """What leased bytes are for."""

    WEIGHTS = "weights"
    ADAPTERS = "adapters"
    KV = "kv"
    ACTIVATIONS = "activations"
    OPTIMIZER = "optimizer"
    WORKSPACE = "workspace"


@dataclass(frozen=True, slots=True)
class Device:
    """One processor of the daemon. `gflops` maps a dtype to the measured speed of a matrix product in it."""

    name: str
    kind: str  # cpu or cuda
    title: str
    memory_bytes: int
    cores: int = 0
    isa: tuple[str, ...] = ()
    numa_nodes: int = 1
    gflops: dict[str, float] = field(default_factory=dict)
    dtype: str = "float32"  # the fastest dtype, the default for serving and training
    kernels: str = ""  # of a CPU, the path of its C kernels (abi/cpu.py), or none; empty until it is known


@dataclass(frozen=True, slots=True)
class Lease:
    """A process's right to some bytes of one device."""

    pid: int
    device: str
    kind: LeaseKind
    size_bytes: int
