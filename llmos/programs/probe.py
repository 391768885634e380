"""The probe program: this machine's speed of matrix products in each dtype, its C kernels and its GPUs."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from llmos.abi.cpu import NONE
from llmos.abi.device import Device
from llmos.abi.frame import Job, Probed
from llmos.abi.wire import from_plain
from llmos.nn.cpu import cpu_path
from llmos.programs.channel import Channel

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16")
SIZE = {"cpu": 512, "cuda": 4096}
MEASURE_S = 0.15
CLEARLY_FASTER = 1.3  # bfloat16 must be this much faster to be worth less precision


def main(channel: Channel, assignment: Job) -> None:
    """Report what the devices known to the daemon can do, and add those that only torch can see."""
    devices = from_plain(assignment.args["devices"], tuple[Device, ...])
    if assignment.args["engine"] != "null":  # the null engine computes nothing, so speed does not matter
        devices = tuple(_measure_device(device) for device in (*devices, *_gpus()))
    channel.send(Probed(devices))


def dtype_of(gflops: dict[str, float]) -> str:
    """The default dtype to compute in."""
    is_faster = gflops.get("bfloat16", 0.0) >= CLEARLY_FASTER * gflops.get("float32", float("inf"))
    return "bfloat16" if is_faster else "float32"


def _gpus() -> list[Device]:
    import torch  # in the child alone: a GPU must not be touched before the fork

    found = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        isa = (f"sm_{properties.major}{properties.minor}",)
        cores = properties.multi_processor_count
        found.append(Device(f"cuda{index}", "cuda", properties.name, properties.total_memory, cores, isa))
    return found


def _measure_device(device: Device) -> Device:
    import torch  # see _gpus

    where = torch.device("cpu" if device.kind == "cpu" else f"cuda:{device.name.removeprefix('cuda')}")
    gflops = {name: round(_gflops(where, getattr(torch, name)), 1) for name in DTYPES}
    return replace(device, gflops=gflops, dtype=dtype_of(gflops), kernels=_loops() if device.kind == "cpu" else "")


def _loops() -> str:
    """The CPU path whose kernels compile here: only compiling them proves it."""
    from llmos.nn.cpu.cpu_kernels import kernels  # see _gpus

    path = cpu_path.path()
    return NONE if path is None or kernels() is None else path.name


def _gflops(where: torch.device, dtype: torch.dtype) -> float:
    """The best of several products, because on a busy machine the others are slowed down."""
    import torch  # see _gpus

    size = SIZE[where.type]
    left = torch.ones(size, size, dtype=dtype, device=where)
    best_s, until = float("inf"), time.perf_counter() + MEASURE_S
    left @ left  # warm-up: it starts threads and chooses kernels
    while best_s == float("inf") or time.perf_counter() < until:
        started = time.perf_counter()
        product = left @ left
        product[0, 0].item()  # waits for the device
        best_s = min(best_s, time.perf_counter() - started)
    return 2 * size**3 / best_s / 1e9
