"""Keys with a real daemon: the first one, this user's own commands, and what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.acceptance


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Box:
    """A home with its own port, and the command line on it."""

    def __init__(self, home: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environ = {one: value for one, value in os.environ.items() if not one.startswith("LLMOS_")}
        self.environ |= {"LLMOS_HOME": str(home), "LLMOS_PORT": str(self.port), "LLMOS_ENGINE": "null"}

    def run(self, *words: str, code: int = 0) -> str:
        command = [sys.executable, "-c", "from llmos.cli.main import main; main()", *words]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=300)
        assert done.returncode == code, (words, done.stderr)
        return done.stdout if code == 0 else done.stderr

    def make(self, *words: str) -> dict[str, object]:
        made: dict[str, object] = json.loads(self.run("key", "create", *words, "--json"))
        return made

    def status_of(self, secret: object, path: str = "/v1/models") -> int:
        return httpx.get(f"{self.url}{path}", headers={"x-api-key": str(secret)}, timeout=60).status_code

    def kill(self) -> None:
        os_pid = json.loads((Path(self.environ["LLMOS_HOME"]) / "daemon.json").read_text())["os_pid"]
        os.kill(os_pid, signal.SIGKILL)


@pytest.fixture
def box(tmp_path):
    made = Box(tmp_path / "home")
    yield made
    made.run("down")


def test_keys_from_the_first_one_to_a_kill(box):
    refused = box.run("up", "--host", "0.0.0.0", code=2)
    assert "llmos key create" in refused
    first = box.make("first")["secret"]  # before there is a daemon
    box.run("up", "--host", "0.0.0.0")
    assert (box.status_of(first), box.status_of("llmos_a_b")) == (200, 401)
    assert httpx.get(f"{box.url}/v1/models", timeout=60).status_code == 401
    assert httpx.get(f"{box.url}/healthz", timeout=60).status_code == 200
    assert "cpu0" in box.run("status")  # this user's own commands need none
    kept, gone = (box.make(name, "--scope", "all") for name in ("kept", "gone"))
    box.run("key", "rm", gone["key"]["id"])
    box.kill()  # what was answered stays so
    box.run("up", "--host", "0.0.0.0")
    assert [box.status_of(one["secret"], "/v1/status") for one in (kept, gone)] == [200, 401]
    assert "cpu0" in box.run("status")
    names = [one["name"] for one in json.loads(box.run("key", "ls", "--json"))]
    assert names == ["first", "kept"]
