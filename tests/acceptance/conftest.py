"""Real daemons for acceptance: each on its own home and free port, started by the command line and ended by it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llmos import Client

EXAMPLES = Path(__file__).parents[2] / "examples" / "support"
MAIN = "from llmos.cli.main import main; main()"


@dataclass(frozen=True)
class House:
    """A home and a port, and the command line that speaks for them."""

    home: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __call__(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "LLMOS_HOME": str(self.home), "LLMOS_PORT": str(self.port), **more}
        command = [sys.executable, "-c", MAIN, *words]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=580, check=False)

    def json(self, *words: str) -> Any:  # Any: whatever the verb says as JSON
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def client(self) -> Client:
        return Client(self.url)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A daemon that is up, its store empty until a test asks for a base."""
    house = House(tmp_path_factory.mktemp("house") / "home", free_port())
    try:
        up = house("up")
        assert up.returncode == 0, up.stderr
        yield house
    finally:
        house("down")


@pytest.fixture(scope="session")
def minilm(house: House) -> House:
    """The same daemon with the encoder in its store."""
    return pulled(house, "minilm")


@pytest.fixture(scope="session")
def smollm2(house: House) -> House:
    """The same daemon with the chat model in its store."""
    return pulled(house, "smollm2")


def pulled(house: House, name: str) -> House:
    done = house("pull", name)
    if done.returncode and "could not be reached" in done.stderr:
        pytest.skip(f"{name} cannot be pulled, for the package index is not reachable from here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return house
