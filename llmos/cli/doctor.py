"""doctor: checks what llmos needs on this machine; each problem comes with a way out."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from llmos.abi.cpu import AUTO, check, compiler
from llmos.abi.error import BadSetting, LlmosError
from llmos.cli.client import box
from llmos.cli.daemon import same_home
from llmos.cli.terminal import FAILED, say, say_json, size
from llmos.config import Config, read_config

LEAST_PYTHON = (3, 11)
LEAST_DISK_BYTES = 5_000_000_000
LEAST_MEMORY_BYTES = 2_000_000_000
TORCH_TIMEOUT_S = 120
FAST_ISA = ("avx512_bf16", "amx_bf16", "avx512f", "avx2", "asimd")


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; `hint` is the way out if there is a problem."""

    name: str
    is_well: bool
    found: str
    hint: str = ""


def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Also read every byte of the store.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check this machine and the home; say how to fix problems."""
    config = read_config()
    findings = [check(config) for check in (*CHECKS, *((check_store,) if deep else ()))]
    if as_json:
        say_json(findings)
    else:
        for one in findings:
            say(f"{'ok  ' if one.is_well else 'FAIL'}  {one.name:<8} {one.found}")
            if one.hint and not one.is_well:
                say(f"      {'':<8} {one.hint}")
    if not all(one.is_well for one in findings):
        raise typer.Exit(FAILED)


def check_python(config: Config) -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", sys.version_info >= LEAST_PYTHON, found, "llmos needs Python 3.11 or newer")


def check_torch(config: Config) -> Finding:
    code = "import torch, transformers; print(torch.__version__, transformers.__version__, torch.cuda.is_available())"
    hint = "Install llmos again: pip install --force-reinstall llmos"
    try:
        asked = [sys.executable, "-c", code]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=TORCH_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return Finding("torch", False, f"its import took over {TORCH_TIMEOUT_S} s", "Is the disk slow, or memory full?")
    if done.returncode:
        return Finding("torch", False, (done.stderr.strip().splitlines() or ["it does not import"])[-1], hint)
    torch, transformers, has_cuda = done.stdout.split()[-3:]
    device = "with a GPU" if has_cuda == "True" else "no GPU, the CPU computes"
    return Finding("torch", True, f"{torch}, transformers {transformers}, {device}")


def check_cpu(config: Config) -> Finding:
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:  # not Linux: the daemon's own probe reports memory
        words = set()
    isa = [flag for flag in FAST_ISA if flag in words]
    return Finding("cpu", True, f"{os.cpu_count()} cores, {', '.join(isa) or 'no wide vectors known'}")


def check_compiler(config: Config) -> Finding:
    """Never a problem: without a compiler the fallback is slower."""
    return Finding("compiler", True, compiler() or "none: a CPU generates more slowly without. Install gcc or clang")


def check_kernels(config: Config) -> Finding:
    """The instruction set that C kernels use here, or why the requested one is not available."""
    try:
        path = check(config.cpu_kernels)
    except BadSetting as error:
        sentence, _, hint = error.message.partition(". ")
        return Finding("kernels", False, sentence, hint)
    if path is None or compiler() is None:
        return Finding("kernels", True, "none: torch computes alone")
    is_ours = path.loops in ("", path.name)
    how = "the widest here" if config.cpu_kernels == AUTO else "as asked, torch no wider"
    bare = f"{path.name} ({how})"
    return Finding("kernels", True, bare if is_ours else f"{bare}: torch's products, our loops {path.loops}")


def check_memory(config: Config) -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    found = f"{size(memory.available)} available of {size(memory.total)}"
    return Finding("memory", memory.available >= LEAST_MEMORY_BYTES, found, "Training needs about 2 GB: end others")


def check_disk(config: Config) -> Finding:
    free = shutil.disk_usage(_existing(config.home)).free
    found, hint = f"{size(free)} free under {config.home}", "Free some, or choose another disk with LLMOS_HOME"
    return Finding("disk", free >= LEAST_DISK_BYTES, found, hint)


def check_home(config: Config) -> Finding:
    is_writable = os.access(_existing(config.home), os.W_OK | os.X_OK)
    hint = f"Make it yours (chown {os.getuid()} {config.home}), or choose another with LLMOS_HOME"
    return Finding("home", is_writable, f"{config.home} {'can' if is_writable else 'cannot'} be written", hint)


def _existing(path: Path) -> Path:
    return next((one for one in (path, *path.parents) if one.exists()), Path("/"))


def check_daemon(config: Config) -> Finding:
    """Check that the daemon answers, or that it could listen."""
    try:
        with box() as client:
            now = client.status()
            found = f"up at {client.url}, version {now.version}"
            if same_home(now.home):
                return Finding("daemon", True, found)
            hint = f"Start that of {config.home} on another port: llmos up --port {config.port + 1}, or LLMOS_PORT"
            return Finding("daemon", False, f"{found}; but it is that of {now.home}", hint)
    except LlmosError as error:
        if error.detail.get("os_pid") or error.detail.get("hangs"):
            return Finding("daemon", False, error.message, "llmos down, then llmos up")
        if error.code not in ("unavailable", "internal"):
            return Finding("daemon", False, error.message, "Restart it: llmos down, llmos up")
    hint = f"Another program has port {config.port}. Choose one: llmos up --port {config.port + 1}, or LLMOS_PORT"
    is_free = _can_listen(config.host, config.port)
    found = f"not up; port {config.port} is {'free. Start it: llmos up' if is_free else 'in use'}"
    return Finding("daemon", is_free, found, hint)


def check_store(config: Config) -> Finding:
    """Check every byte of the store against its checksum."""
    try:
        with box() as client:
            verified = client.verify()
    except LlmosError as error:
        return Finding("store", False, error.message, "Its bytes are read by the daemon. Start it: llmos up")
    if not verified.damages:
        return Finding("store", True, f"{verified.files} files, {size(verified.read_bytes)}: all as they came")
    said = "\n               ".join(f"{one.ref}: {one.message}" for one in verified.damages)
    return Finding("store", False, said, "; ".join(dict.fromkeys(one.hint for one in verified.damages if one.hint)))


def _can_listen(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


CHECKS: tuple[Callable[[Config], Finding], ...] = (
    check_python,
    check_torch,
    check_cpu,
    check_compiler,
    check_kernels,
    check_memory,
    check_disk,
    check_home,
    check_daemon,
)
VERBS: dict[str, Any] = {"doctor": doctor}  # Any: verbs differ in what they take
