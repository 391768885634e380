"""The wheels of a bundle: llmos and all that it needs, chosen by pip for the Python and platform that run here."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from llmos import __version__
from llmos.abi.error import BadInput, Conflict, DiskFull, Missing, Offline, Unavailable
from llmos.bundle.own_wheel import PACKAGE, write_wheel
from llmos.bundle.record import BundleTarget

OLD_TAGS = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}  # PEP 513, 571, 599
NEW_TAG = re.compile(r"manylinux_(\d+)_(\d+)_")  # PEP 600: the least glibc
NO_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|Connection refused|Temporary failure in name resolution"
    r"|Network is unreachable|ProxyError"
)
NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded|Errno 28\b")
SHOWN = ("Collecting ", "Downloading ")  # what pip says while it works

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class WheelChoice:
    """Where wheels come from: the package index, or only this folder; `constraint` is a file for pip."""

    folder: Path | None = None
    constraint: Path | None = None


def collect_wheels(choice: WheelChoice, to: Path, say: Say) -> list[Path]:
    """Have pip choose the wheels and put them into this folder.

    Missing without pip, Offline without the index, DiskFull, Unavailable for what else pip says.
    """
    if find_spec("pip") is None:
        raise Missing(
            "This environment has no pip, which chooses the wheels: it was made by uv or pipx. Add it (python -m "
            "ensurepip, or uv pip install pip), or leave the wheels out: --no-wheels"
        )
    own = _own_wheel(choice.folder, to)
    flags = ["--dest", str(to), "--only-binary", ":all:"]
    if choice.folder is not None:
        flags += ["--no-index", "--find-links", str(choice.folder.resolve())]
    flags += ["--constraint", str(_constraint(choice, to))]
    say("choosing the wheels")
    _pip(["download", *flags, str(own)], choice, to, say)
    (to / PINS).unlink(missing_ok=True)
    return sorted(to.glob("*.whl"))


PINS = "constraints.txt"


def target_of(wheels: Iterable[str]) -> BundleTarget:
    """The machines that these wheels are for, as the Python that runs here describes itself."""
    needs = [need for name in wheels if (need := _glibc_of(name)) is not None]
    flags = getattr(sys, "abiflags", "")
    python = f"{sys.implementation.name}-{sys.version_info[0]}.{sys.version_info[1]}{flags}"
    glibc = "{}.{}".format(*max(needs)) if needs else ""
    return BundleTarget(python, sysconfig.get_platform(), glibc)


def requirement(name: str, sha256: str) -> str:
    """The line of a requirements file for exactly this wheel."""
    package, number = name.split("-")[:2]
    return f"{package.replace('_', '-')}=={number} --hash=sha256:{sha256}"


def _own_wheel(folder: Path | None, to: Path) -> Path:
    """The wheel of this llmos: in the folder, or written now."""
    if folder is None:
        return write_wheel(to)
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder of wheels", key="wheels", value=str(folder))
    there = sorted(folder.glob("llmos-*.whl"))
    same = [path for path in there if path.name.startswith(f"llmos-{__version__}-")]
    if there and not same:
        raise Conflict(
            f"{folder} has {there[0].name}, and this is llmos {__version__}. Make the bundle with the llmos that is to "
            "be in it, or take that wheel out: this llmos then writes its own",
            path=str(there[0]),
        )
    return same[0].resolve() if same else write_wheel(to)


def _constraint(choice: WheelChoice, to: Path) -> Path:
    """The file that is given, that of the source folder, or one with the torch that runs here."""
    if choice.constraint is not None:
        if not choice.constraint.is_file():
            raise BadInput(f"There is no file {choice.constraint}", key="constraint", value=str(choice.constraint))
        return choice.constraint.resolve()
    source = PACKAGE.parent / PINS
    if source.is_file() and (PACKAGE.parent / "pyproject.toml").is_file():
        return source
    try:
        pin = f"torch=={version('torch').partition('+')[0]}\n"
    except PackageNotFoundError:
        pin = ""
    (to / PINS).write_text(pin)
    return to / PINS


def _pip(words: list[str], choice: WheelChoice, to: Path, say: Say) -> None:
    only = ["--isolated"] if choice.folder is not None else []  # or pip's settings would add other places
    command = [sys.executable, "-m", "pip", *only, "--disable-pip-version-check", "--no-input", *words]
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    last: deque[str] = deque(maxlen=40)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environ, cwd="/"
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            last.append(line.strip())
            if line.strip().startswith(SHOWN):
                say(line.strip())
    if child.returncode:
        raise _pip_error("\n".join(last), choice, to)


def _pip_error(said: str, choice: WheelChoice, to: Path) -> Exception:
    if NO_SPACE.search(said):
        return DiskFull(
            f"The disk under {to.parent} is full: pip could not write the wheels. Nothing half-written is left. With "
            "CUDA they are some gigabytes; pip also needs room in TMPDIR",
            path=str(to.parent),
        )
    if choice.folder is None and NO_NETWORK.search(said):
        return Offline(
            "The package index cannot be reached, so the wheels cannot be fetched. Try again with a network, name a "
            "folder that has them (--wheels DIR), or leave them out (--no-wheels)"
        )
    errors = [line.partition("ERROR:")[2].strip() for line in said.splitlines() if "ERROR:" in line]
    why = " ".join(errors) or said.rpartition("\n")[2]
    where = f" Only {choice.folder} was asked: put what is lacking there." if choice.folder is not None else ""
    return Unavailable(f"pip did not find all wheels: {why}.{where}")


def _glibc_of(name: str) -> tuple[int, int] | None:
    """The least glibc that this wheel says it runs on; None if it says none."""
    if not platform.libc_ver()[0]:
        return None
    found: list[tuple[int, int]] = []
    for tag in name.removesuffix(".whl").rpartition("-")[2].split("."):
        new = NEW_TAG.match(tag)
        if new is not None:
            found.append((int(new[1]), int(new[2])))
        elif (old := OLD_TAGS.get(tag.partition("_")[0])) is not None:
            found.append(old)
    return min(found, default=None)
