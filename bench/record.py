"""What a measurement is made of: figures with targets, the machine it ran on, its table and its JSON file."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
PACKAGES = ("llmos", "torch", "transformers", "tokenizers", "sentence-transformers", "accelerate", "xllamacpp")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16", "i8mm", "sve")


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure must reach: at least so much, or at most."""

    limit: float
    at_most: bool = False

    def is_met(self, value: float) -> bool:
        """NaN, a figure that could not be made, meets nothing."""
        return value <= self.limit if self.at_most else value >= self.limit

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {number(self.limit)}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a measurement: the median of what was seen, its spread, and the target it is held to, if any."""

    name: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    target: Target | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        return "met" if self.target.is_met(self.value) else "NOT MET"


@dataclass(frozen=True, slots=True)
class Record:
    """One run of one bench. `settings` are what decided it; `skipped` says what it left out, and why."""

    bench: str
    mode: str
    settings: dict[str, Any]  # Any: whatever JSON holds; each bench says its own
    figures: tuple[Figure, ...]
    skipped: tuple[str, ...] = ()
    machine: dict[str, Any] = field(default_factory=lambda: machine())
    versions: dict[str, str] = field(default_factory=lambda: versions())
    revision: str = field(default_factory=lambda: revision())
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def file_name(self) -> str:
        """One file per bench, mode and kind of machine: a new run replaces the old one, and git keeps both."""
        place = re.sub(r"[^a-z0-9]+", "-", f"{self.machine['processor']} {self.machine['cores']}c".lower()).strip("-")
        return f"{self.bench}-{self.mode}-{place}.json"

    def as_json(self) -> str:
        plain = asdict(self)
        for shown, figure in zip(plain["figures"], self.figures, strict=True):
            shown["target"] = str(figure.target) if figure.target else None
            shown["verdict"] = figure.verdict
        return json.dumps(plain, indent=1, ensure_ascii=False) + "\n"

    def save(self, folder: Path = RESULTS) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.file_name
        path.write_text(self.as_json())
        return path


def figure(
    name: str, samples: Sequence[float], unit: str = "", *, target: Target | None = None, note: str = ""
) -> Figure:
    """The median of the samples, with the least and the greatest beside it."""
    return Figure(name, median(samples), unit, min(samples), max(samples), target, note)


def ratios(rates: Mapping[str, Sequence[float]], ours: str, peer: str) -> list[float]:
    """Our rate over the peer's, round by round: what slows one round slows both, and cancels."""
    return [mine / theirs for mine, theirs in zip(rates[ours], rates[peer], strict=True)]


def number(value: float) -> str:
    """A figure as a person reads it: no more digits than carry meaning, all of those near one."""
    if value != value:
        return "-"
    if 0.999 <= value < 1.0:
        return f"{value:.7f}".rstrip("0").rstrip(".")
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def table(record: Record) -> Table:
    """The record for the terminal; a target that was missed is said as loudly as one that was met."""
    machine = record.machine
    title = f"{record.bench} ({record.mode}): {machine['processor']}, {machine['cores']} cores"
    shown = Table(title=title, title_justify="left", caption=_caption(record), caption_justify="left")
    for heading in ("figure", "median", "least .. most", "unit", "target", "", "note"):
        is_number = heading in ("median", "least .. most", "target")
        shown.add_column(heading, justify="right" if is_number else "left", no_wrap=is_number)
    styles = {"met": "green", "NOT MET": "bold red"}
    for one in record.figures:
        spread = "" if one.low is None or one.high is None else f"{number(one.low)} .. {number(one.high)}"
        verdict = f"[{styles[one.verdict]}]{one.verdict}[/]" if one.verdict else ""
        target = str(one.target) if one.target else ""
        shown.add_row(one.name, number(one.value), spread, one.unit, target, verdict, one.note)
    return shown


def show(record: Record, *, as_json: bool = False) -> None:
    if as_json:
        print(record.as_json(), end="")
        return
    # Piped into a file there is no width to fold to, and a folded table is hard to read there.
    Console(width=None if sys.stdout.isatty() else 160).print(table(record))


def _caption(record: Record) -> str:
    settings = ", ".join(f"{key} {value}" for key, value in record.settings.items())
    lines = [f"{settings}; load before {record.machine['load_before']}; revision {record.revision}"]
    lines += [f"left out: {reason}" for reason in record.skipped]
    return "\n".join(lines)


def machine() -> dict[str, Any]:  # Any: whatever JSON holds
    """What of this machine decides speed, and how busy it was already."""
    known = set(_cpuinfo("flags").split()) | set(_cpuinfo("Features").split())
    return {
        "processor": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "isa": [flag for flag in FLAGS if flag in known],
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """The versions of ourselves, of the peers and of what both stand on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def revision() -> str:
    """The git revision of the code that was measured, with a + if the tree has changes in code; unknown outside git."""
    try:
        head = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", "llmos", "bench/*.py")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changed else "")


def _git(*words: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout.strip()


def _cpuinfo(key: str) -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), "")
