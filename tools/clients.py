"""Run the tests of other people's clients in each of their environments, and print at the end what failed.

    python tools/clients.py [words for pytest]    `make clients` makes the environments first; exit 1 if anything failed

Failed tests in one environment do not keep the next from being tried. Ctrl-C ends what is at work, and no other begins.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from xml.etree import ElementTree

TREE = Path(__file__).resolve().parents[1]
LANE = TREE / "tests" / "clients"
BESIDE = TREE / ".venv-clients"
FOLDERS = {"LLMOS_CLIENTS_NODE": str(BESIDE / "node"), "LLMOS_CLIENTS_INFINITY": str(BESIDE / "infinity")}
FAILED = ("failure", "error")


@dataclass(frozen=True)
class Environment:
    """Where some clients are installed, under a name that says which."""

    name: str
    python: Path


# Some clients want an older openai: the newest is in .venv, and what works with the older one in an environment beside.
ENVIRONMENTS = (
    Environment("the newest openai", TREE / ".venv" / "bin" / "python"),
    Environment("every client", BESIDE / "bin" / "python"),
)


@dataclass(frozen=True)
class Outcome:
    """What the tests of one environment came to; `status` is pytest's exit code."""

    name: str
    status: int
    passed: int = 0
    failed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        return self.status == 0 and self.passed > 0 and not self.failed


def read_report(name: str, status: int, report: Path) -> Outcome:
    """The outcome that pytest's JUnit file tells; without one there is only the exit code."""
    if not report.exists():
        return Outcome(name, status)
    cases = list(ElementTree.parse(report).iter("testcase"))
    failed = [_title(one) for one in cases if any(one.find(kind) is not None for kind in FAILED)]
    skipped = [_title(one) for one in cases if one.find("skipped") is not None]
    return Outcome(name, status, len(cases) - len({*failed, *skipped}), tuple(failed), tuple(skipped))


def _title(case: ElementTree.Element) -> str:
    return f"{case.get('classname', '')}::{case.get('name', '')}".removeprefix("::")


def run(environment: Environment, words: Sequence[str], lane: Path = LANE) -> Outcome:
    """Run the lane's tests in one environment, in this terminal; all of them, unless `words` has a path."""
    has_path = any((TREE / word.partition("::")[0]).exists() for word in words)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-c", str(lane / "pytest.ini"), f"--junitxml={report}"]
        command = [str(environment.python), "-m", "pytest", *options, *words, *([] if has_path else [str(lane)])]
        status = subprocess.run(command, cwd=TREE, env={**os.environ, **FOLDERS}).returncode
        return read_report(environment.name, status, report)


def summary(outcomes: Sequence[Outcome]) -> list[str]:
    """Lines that say what each environment came to, the tests that failed, and those that were not tried."""
    lines = []
    for one in outcomes:
        lines.append(f"{one.name}: {one.passed} passed, {len(one.failed)} failed, {len(one.skipped)} skipped")
        lines += [f"  failed: {test}" for test in one.failed]
        lines += [f"  skipped: {test}" for test in one.skipped]
        if not one.is_good and not one.failed:
            lines.append(f"  no test failed by itself: pytest ended with exit code {one.status}, and said why above")
    return lines


def main(words: Sequence[str], environments: Sequence[Environment] = ENVIRONMENTS, lane: Path = LANE) -> int:
    interrupted: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        interrupted.append(number)

    before = signal.signal(signal.SIGINT, note)  # pytest hears it too: it stops its daemon, and is waited for
    outcomes: list[Outcome] = []
    try:
        for environment in environments:
            if not interrupted:
                print(f"· {environment.name}: {environment.python}", flush=True)
                outcomes.append(run(environment, words, lane))
    finally:
        signal.signal(signal.SIGINT, before)
    print("\n".join(summary(outcomes)), flush=True)
    return int(bool(interrupted) or not all(one.is_good for one in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
