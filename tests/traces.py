"""Traces: the files of llmos that a warm HTTP classify and a training run pass, in all processes of a real daemon.

`python -m tests.traces` prints both lists; with `--write` it also puts them into docs/architecture.md, between two
marks. A file counts once one of its functions has run; importing it does not count.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from llmos import Client
from tests.tiny_training import sorting

TREE = Path(__file__).parents[1]
PAGE = TREE / "docs" / "architecture.md"
PART = re.compile(r"(<!-- traced -->\n).*?(<!-- /traced -->)", re.DOTALL)
CALLS = 5
MOST_CALLS = 60  # on a full machine each window holds what goes on beside calls, and another part of it in each
# Measured: 49 and 221, of which 13 are the adapters of LoRA, the method of `auto`; processors and moments differ by a
# few. Six of a call's keep its record and its trace, for feedback and the request log, and three ask for its key. Of a
# training's, fifteen only look on: standing orders, monitors, alerts, audit, usage. Lower them only.
MAX_CLASSIFY, MAX_TRAINING = 51, 224
MAIN = "from llmos.cli.main import main; main()"
DEADLINE_S = 300.0


@dataclass(frozen=True)
class Traces:
    """The files that each passes, relative to the package."""

    classify: list[str]
    training: list[str]

    def text(self) -> str:
        """Both as a part of the page."""
        return "\n".join(
            f"**{title}** ({len(files)} files)\n\n{_by_folder(files)}\n"
            for title, files in (("A warm HTTP classify", self.classify), ("A training run", self.training))
        )


@dataclass
class TracedDaemon:
    """A daemon whose processes note what they pass, in windows that `window` opens and closes."""

    home: Path
    port: int
    traces: Path
    os_pid: int = 0
    windows: int = 0
    environ: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        paths = [str(TREE / "tests" / "tracing"), str(TREE)]
        self.environ = {
            **os.environ,
            "LLMOS_HOME": str(self.home),
            "LLMOS_PORT": str(self.port),
            "LLMOS_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(paths),
            "TRACED_TREE": f"{TREE / 'llmos'}{os.sep}",
            "TRACES": str(self.traces),
        }

    def run(self, *words: str) -> None:
        subprocess.run([sys.executable, "-c", MAIN, *words], env=self.environ, check=True, stdout=subprocess.DEVNULL)

    @contextmanager
    def window(self) -> Iterator[set[str]]:
        """What all processes of the daemon pass in this block; the set is filled at its end."""
        passed: set[str] = set()
        self.windows += 1
        self._toggle()
        yield passed
        self._toggle()
        for file in self.traces.glob(f"*.{self.windows}"):
            passed.update(file.read_text(encoding="utf-8").split())

    def _toggle(self) -> None:
        daemon = psutil.Process(self.os_pid)
        family = (*daemon.children(recursive=True), daemon)
        for process in family:
            process.send_signal(signal.SIGUSR2)
        for process in family:
            _await_handled(process)


def _await_handled(process: psutil.Process) -> None:
    """Until the signal is not pending any more: its handler runs before whatever the process does next."""
    bit = 1 << (signal.SIGUSR2 - 1)
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        except FileNotFoundError:
            return
        pending = [int(value, 16) for value in re.findall(r"^(?:Sig|Shd)Pnd:\t(\w+)$", status, re.MULTILINE)]
        if not any(value & bit for value in pending):
            return
        os.sched_yield()
    raise AssertionError(f"process {process.pid} did not take its signal")


def trace(folder: Path) -> Traces:
    """Trace a training run and warm calls of the model that it made, on a tiny random encoder."""
    from llmos.testing import tiny

    model = tiny.write(folder / "model", "bert")
    data = sorting(folder)
    traces = folder / "traces"
    traces.mkdir()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    daemon = TracedDaemon(folder / "home", port, traces)
    daemon.run("up")
    windows: list[set[str]] = []
    try:
        with Client(f"http://127.0.0.1:{port}") as client:
            daemon.os_pid = client.status().os_pid
            client.pull(str(model), name="tiny")
            with daemon.window() as training:
                client.train("classify", name="sorter", base="tiny", data=str(data), epochs=2, learning_rate=3e-3)
            ref = client.model("sorter").ref
            client.run(ref, "www apple 1")
            while len(windows) < CALLS or (len(windows) < MOST_CALLS and len(in_all(windows)) > MAX_CLASSIFY):
                with daemon.window() as classify:
                    client.run(ref, f"www apple {len(windows)}", task="classify")
                windows.append(classify)
    finally:
        daemon.run("down")
    return Traces(in_all(windows), sorted(training))


def in_all(windows: list[set[str]]) -> list[str]:
    """The files that every window has."""
    return sorted(set.intersection(*windows))


def _by_folder(files: list[str]) -> str:
    folders: dict[str, list[str]] = {}
    for file in files:
        folder, _, name = file.rpartition("/")
        folders.setdefault(folder, []).append(f"`{name}`")
    return "\n".join(f"- `{folder or '.'}`: {', '.join(names)}" for folder, names in folders.items())


def page_with(text: str, traces: Traces) -> str:
    """The page with its traced part made anew."""
    return PART.sub(lambda found: f"{found[1]}{traces.text()}{found[2]}", text)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        traces = trace(Path(folder))
    print(traces.text())
    if "--write" in sys.argv:
        PAGE.write_text(page_with(PAGE.read_text(encoding="utf-8"), traces), encoding="utf-8")


if __name__ == "__main__":
    main()
