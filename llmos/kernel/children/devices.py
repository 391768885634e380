"""Discovers the machine's devices; the probe program measures their speed."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from llmos.abi.cpu import AUTO, compiler
from llmos.abi.device import Device

TELLING = (
    *("avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_bf16", "avx512_vnni"),
    *("amx_bf16", "amx_int8", "amx_tile"),
)
TELLING_ARM = ("asimd", "asimddp", "bf16", "i8mm", "sve", "sve2")


def discover(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> tuple[Device, ...]:
    """The CPU as a device, with the memory that this process may really use."""
    title, flags = _cpu(proc / "cpuinfo")
    return (
        Device(
            name="cpu0",
            kind="cpu",
            title=title,
            memory_bytes=memory_limit(proc, sys),
            cores=len(os.sched_getaffinity(0)),
            isa=tuple(name for name in (*TELLING, *TELLING_ARM) if name in flags),
            numa_nodes=max(1, len(list((sys / "devices/system/node").glob("node[0-9]*")))),
        ),
    )


def probe_key(devices: tuple[Device, ...], dev: Path = Path("/dev"), cpu_kernels: str = AUTO) -> str:
    """What a measurement depends on: the processor, its cores, GPUs, torch's version, and the allowed CPU paths."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = "none"
    gpus = len(list(dev.glob("nvidia[0-9]*")))
    processors = (f"{d.title} x{d.cores} {' '.join(d.isa)}" for d in devices)
    loops = f"kernels {cpu_kernels}, {compiler() or 'no compiler'}"
    return " | ".join((*processors, f"gpus {gpus}", f"torch {torch}", loops))


def memory_limit(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> int:
    """The machine's memory in bytes, or the smallest limit of a control group above us."""
    limits: list[int] = [psutil.virtual_memory().total]
    for path in _cgroup_files(proc, sys):
        try:
            text = path.read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdecimal():
            limits.append(int(text))
    return min(limits)


def _cgroup_files(proc: Path, sys: Path) -> list[Path]:
    """The files that may hold limits: version 2 for our group and its ancestors, and version 1."""
    root = sys / "fs/cgroup"
    files = [root / "memory/memory.limit_in_bytes"]
    try:
        lines = (proc / "self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return files
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            inner = root / group.strip("/")
            files += [folder / "memory.max" for folder in (inner, *inner.parents) if folder.is_relative_to(root)]
    return files


def _cpu(cpuinfo: Path) -> tuple[str, set[str]]:
    title, flags = "CPU", set[str]()
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return title, flags
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "model name":
            title = value
        elif key in ("flags", "Features"):
            flags = set(value.split())
    return title, flags
