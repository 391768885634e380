"""A daemon of the bench's own, on a home of its own: started and asked through the same doors that a user has."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.clients import Connection
from bench.record import ROOT
from bench.stop import Stop
from llmos.abi.json_type import Json

HOME = ROOT / ".bench"  # kept between runs, so that the base is pulled once
WAIT_S = 300.0


class Box:
    """The daemon while the `with` lasts; `dtype` is what it computes in, "auto" what it measured to be faster here."""

    def __init__(self, home: Path = HOME, dtype: str = "auto") -> None:
        self.home = home
        self._dtype = dtype
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Box:
        self.home.mkdir(parents=True, exist_ok=True)
        self.up()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.down()

    def up(self) -> None:
        """Start the daemon; returns when `llmos up` does, which is when it answers."""
        self.cli("up", *(() if self._dtype == "auto" else ("--set", f"dtype={self._dtype}")))

    def down(self) -> None:
        self.cli("down")

    def cli(self, *words: str) -> str:
        """One `llmos` command on this box; Stop with what it printed if it failed."""
        environment = {**os.environ, "LLMOS_HOME": str(self.home), "LLMOS_PORT": str(self.port)}
        command = [str(Path(sys.executable).with_name("llmos")), *words]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Stop(f"llmos {' '.join(words)} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def ask(self, method: str, path: str, body: Json = None) -> Json:
        return Connection(self.url).ask(method, path, body)

    def base(self, name: str = "minilm") -> Path:
        """The folder of a base's files, pulled if this home has not got it yet."""
        if not any(model["name"] == name for model in self.ask("GET", "/v1/models")["data"]):
            self.cli("pull", name)
        return self.home / "models" / name / "1"

    def device(self, name: str | None = None) -> Json:
        """The device of this name, or the best the daemon found: a GPU before a CPU; with the dtype computed in."""
        found = {one["name"]: one for one in until(lambda: self.ask("GET", "/v1/devices")["data"], "devices")}
        if name is None:
            name = next((one for one in found if one.startswith("cuda")), next(iter(found)))
        if name not in found:
            raise Stop(f"The daemon found no device {name!r}. There are: {', '.join(found)}")
        return found[name] if self._dtype == "auto" else {**found[name], "dtype": self._dtype}

    def serving(self) -> list[Json]:
        """The serve processes that are there, whatever state they are in but ended."""
        ended = ("exited", "interrupted")
        every = self.ask("GET", "/v1/processes")["data"]
        return [one for one in every if one["spec"]["program"] == "serve" and one["state"] not in ended]

    def process_if_ended(self, pid: int) -> Json:
        """The process once it is over, None before."""
        process = self.ask("GET", f"/v1/processes/{pid}")
        return process if process["state"] in ("exited", "interrupted") else None

    def stop_serving(self) -> None:
        """End every serve process and wait until they have gone."""
        for process in self.serving():
            self.ask("POST", f"/v1/processes/{process['pid']}/kill", {"force": False})
        until(lambda: not self.serving(), "the end of the serve processes")


def until(
    look: Callable[[], Any], what: str, every_s: float = 0.01, within_s: float = WAIT_S
) -> Any:  # Any: whatever true thing is awaited
    """The first true answer; Stop after so long without one."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(every_s)
    raise Stop(f"Waited {within_s:.0f} s in vain for {what}")


def free_port() -> int:
    """A port of this machine that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
