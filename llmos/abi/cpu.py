"""CPU paths: the instruction sets that C kernels may use, what each needs of a processor, and which one is chosen.

The names are those of the setting `cpu_kernels`. A path limits our C kernels (nn/cpu/kernels.c) and, if it is forced,
torch's own products too, so that a newer processor computes as an older one would.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llmos.abi.error import BadSetting

AUTO, NONE, NATIVE = "auto", "none", "native"
SETTING = "cpu_kernels"
COMPILERS = ("cc", "gcc", "clang")
CPUINFO = Path("/proc/cpuinfo")
X86 = ("x86_64", "AMD64")


@dataclass(frozen=True, slots=True)
class CpuPath:
    """An instruction set: the flags of /proc/cpuinfo that it needs, and its compiler flags.

    `loops` is the path that the kernels are compiled for, if they have no code for this one; `environ` limits torch by
    its own variables (ATen, oneDNN, MKL).
    """

    name: str
    needs: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)
    loops: str = ""


def _torch(aten: str, onednn: str, mkl: str) -> dict[str, str]:
    return {"ATEN_CPU_CAPABILITY": aten, "ONEDNN_MAX_CPU_ISA": onednn, "MKL_ENABLE_INSTRUCTIONS": mkl}


_TUNED = ("-mtune=native",)  # this orders instructions, and uses none that other processors lack
_AVX2 = ("avx2", "fma", "f16c")
_AVX512 = (*_AVX2, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")


def _flags(*needs: str) -> tuple[str, ...]:
    return (*_TUNED, *(f"-m{name.replace('_', '')}" for name in needs))


# From the narrowest to the widest. The compiler tells kernels.c which instructions are available.
PATHS = (
    CpuPath("baseline", (), _TUNED, _torch("default", "SSE41", "SSE4_2")),
    CpuPath("avx2", _AVX2, _flags(*_AVX2), _torch("avx2", "AVX2", "AVX2")),
    CpuPath("avx_vnni", (*_AVX2, "avx_vnni"), _flags(*_AVX2, "avx_vnni"), _torch("avx2", "AVX2_VNNI", "AVX2_E1")),
    CpuPath("avx512", _AVX512, _flags(*_AVX512), _torch("avx512", "AVX512_CORE", "AVX512")),
    CpuPath(
        "avx512_vnni",
        (*_AVX512, "avx512_vnni"),
        _flags(*_AVX512, "avx512_vnni"),
        _torch("avx512", "AVX512_CORE_VNNI", "AVX512_E1"),
    ),
    CpuPath(
        "avx512_bf16",
        (*_AVX512, "avx512_vnni", "avx512_bf16"),
        _flags(*_AVX512, "avx512_vnni"),
        _torch("avx512", "AVX512_CORE_BF16", "AVX512_E3"),
        loops="avx512_vnni",
    ),
)
NAMES = (AUTO, NONE, *(path.name for path in PATHS))
_ELSEWHERE = CpuPath(NATIVE, (), ("-march=native",))


def features(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """The processor's features, in the operating system's names; empty if unknown."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(
        next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "").split()
    )


def choose_path(setting: str, has: Collection[str], machine: str = platform.machine()) -> CpuPath | None:
    """The path that the setting means on a processor with these features; None for no C kernels.

    `auto` is the widest path. On other architectures than x86 there are only `baseline` and `native`. BadSetting for a
    path that the processor does not support.
    """
    if setting == NONE:
        return None
    is_x86 = machine in X86
    if setting == AUTO:
        fitting = [path for path in PATHS if set(path.needs) <= set(has)]
        return fitting[-1] if is_x86 and has else _ELSEWHERE
    path = next(path for path in PATHS if path.name == setting)
    lacking = [name for name in path.needs if name not in has]
    if lacking or (path.needs and not is_x86):
        widest = choose_path(AUTO, has, machine)
        assert widest is not None
        raise BadSetting(
            f"{SETTING} is {setting!r}, and this processor ({machine}) lacks {', '.join(lacking) or 'it'}. Leave the "
            f"setting at {AUTO}, which is {widest.name} here",
            key=SETTING,
            value=setting,
            expected=AUTO,
            lacks=lacking,
        )
    return path


def compiler(names: Sequence[str] = COMPILERS) -> str | None:
    """The path of the C compiler, or None."""
    return next((found for name in names if (found := shutil.which(name))), None)


def check(
    setting: str,
    has: Collection[str] | None = None,
    machine: str = platform.machine(),
    compilers: Sequence[str] = COMPILERS,
) -> CpuPath | None:
    """As `choose_path`, on this machine; BadSetting also for a named path that cannot be compiled."""
    path = choose_path(setting, features() if has is None else has, machine)
    if setting in (AUTO, NONE) or path is None:
        return path
    if (command := compiler(compilers)) is None:
        raise BadSetting(
            f"{SETTING} is {setting!r}, and there is no C compiler ({', '.join(compilers)}) to make its loops. Install "
            f"one, such as gcc, or leave the setting at {AUTO}",
            key=SETTING,
            value=setting,
            expected=f"{AUTO} or {NONE}",
            compiler=None,
        )
    asked = [command, *path.flags, "-fsyntax-only", "-x", "c", "/dev/null"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it says no more"])[0]
        raise BadSetting(
            f"{SETTING} is {setting!r}, and the compiler {command} cannot make it: {said}. Install a newer one, or "
            f"leave the setting at {AUTO}",
            key=SETTING,
            value=setting,
            expected=f"{AUTO} or {NONE}",
            compiler=command,
            reason=said,
        )
    return path
