"""Real daemons for acceptance: each on its own home and free port, started by the command line and ended by it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil
import pytest

from llmos import Client
from llmos.abi.error import LlmosError

TREE = Path(__file__).parents[2]
CACHE = Path("~/.cache/llmos-tests").expanduser()
STARTERS = ("minilm", "smollm2")
LINKED = ("blobs", "models", "resident")  # files that are never changed, so that homes may share them
EXAMPLES = Path(__file__).parents[2] / "examples" / "support"
PORTS = range(20_000, 32_000)
CLOSE = {"float32": 1e-5, "bfloat16": 2e-2}
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

    def start(self) -> None:
        """Up, if it is not."""
        try:
            with self.client() as box:
                box.status()
        except LlmosError:
            up = self("up")
            assert up.returncode == 0, up.stderr


def family(house: House) -> set[psutil.Process]:
    """The daemon and all that descends from it; the operating system says so, whatever they say of themselves."""
    with house.client() as box:
        os_pid = box.status().os_pid
    daemon = psutil.Process(os_pid)
    return {daemon, *daemon.children(recursive=True)}


def is_alive(process: psutil.Process) -> bool:
    """This very process is there, and not a later one under its number."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def is_hit(os_pid: int | None, number: int = signal.SIGKILL) -> bool:
    """Send a signal to a process that may have ended by itself meanwhile; whether it was still there."""
    if os_pid is None:
        return False
    try:
        os.kill(os_pid, number)
    except ProcessLookupError:
        return False
    return True


def free_port() -> int:
    """A port that nobody has: none of those that the system gives to whoever connects, for it may take long till it is
    listened on."""
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError(f"no port of {PORTS} is free")


@pytest.fixture(scope="session", autouse=True)
def sweeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IO[str]]:
    """Where a folder is named whose daemons are not to outlive these tests, however they end; theirs is."""
    command = [sys.executable, str(Path(__file__).with_name("sweeper.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, text=True) as process:
        assert process.stdin is not None
        print(tmp_path_factory.getbasetemp(), file=process.stdin, flush=True)
        yield process.stdin


@pytest.fixture(scope="session")
def starters(sweeper: IO[str]) -> Path | None:
    """A stopped home with the starter models, pulled once and kept in the cache; None where they cannot be pulled."""
    CACHE.mkdir(parents=True, exist_ok=True)
    home = CACHE / f"home-{_form_of_the_store()}"
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once: the second waits and finds the home made
        if home.exists():
            return home
        for outdated in (*CACHE.glob("home-*"), *CACHE.glob("tmp*")):  # the second were left half-made
            shutil.rmtree(outdated)
        return home if _stocked(home, sweeper) else None


def _stocked(home: Path, sweeper: IO[str]) -> bool:
    with tempfile.TemporaryDirectory(dir=CACHE) as making:
        print(making, file=sweeper, flush=True)
        house = House(Path(making) / "home", free_port())
        try:
            assert house("up").returncode == 0
            pulls = [house("pull", name) for name in STARTERS]
        finally:
            house("down")
        if any(done.returncode for done in pulls):
            return False
        house.home.rename(home)
    return True


def _form_of_the_store() -> str:
    """What changes when a home made by other code would be read wrongly."""
    code = [*sorted((TREE / "llmos/kernel/store").glob("*.py")), *sorted((TREE / "llmos/abi").glob("*.*"))]
    code += [TREE / "llmos/kernel" / name for name in ("journal.py", "processes/process_table.py", "events.py")]
    code += [TREE / "llmos/programs" / name for name in ("pull.py", "describe.py", "sources.py", "resident.py")]
    code += [TREE / "llmos/nn/resident.py"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in code)).hexdigest()[:12]


def furnished(home: Path, starters: Path | None) -> Path:
    """A home that begins with the starter models, without a byte of them copied where the disk allows it."""
    if starters is None:
        return home
    for folder in sorted(starters.iterdir()):
        if folder.name in LINKED:
            shutil.copytree(folder, home / folder.name, copy_function=_linked)
        elif folder.is_dir() and folder.name not in ("run", "scratch", "logs"):
            shutil.copytree(folder, home / folder.name)
        elif folder.name.startswith("journal.db"):
            shutil.copy2(folder, home / folder.name)
    return home


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one that knows no links
        shutil.copy2(source, target)


@pytest.fixture
def new_house(tmp_path: Path, starters: Path | None) -> Iterator[House]:
    """A home of the test's own with the starter models in it; the test starts the daemon, its end is seen to."""
    home = tmp_path / "home"
    home.mkdir()
    house = House(furnished(home, starters), free_port())
    yield house
    house("down")


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory, starters: Path | None) -> Iterator[House]:
    """A daemon that is up, shared by all tests that do not break it."""
    home = tmp_path_factory.mktemp("house") / "home"
    home.mkdir()
    house = House(furnished(home, starters), free_port())
    try:
        up = house("up")
        assert up.returncode == 0, up.stderr
        yield house
    finally:
        house("down")


@pytest.fixture(scope="session")
def close(house: House) -> float:
    """How far a number of a vector of length one may lie from itself beside other texts, in the format computed in."""
    return CLOSE[computed_in(house)]


def computed_in(house: House) -> str:
    """The number format that this daemon serves in: what it was told, or what its processor is fastest in."""
    with house.client() as box:
        (cpu,) = [one for one in box.status().devices if one.kind == "cpu"]
    asked = os.environ.get("LLMOS_DTYPE", "auto")
    return cpu.dtype if asked == "auto" else asked


@pytest.fixture(scope="session")
def exact(
    tmp_path_factory: pytest.TempPathFactory, starters: Path | None, house: House, smollm2: House
) -> Iterator[House]:
    """A daemon in float32, for what holds to the last token (docs/api.md, seeds): the shared one where it is so."""
    if computed_in(house) == "float32":
        yield smollm2
        return
    home = tmp_path_factory.mktemp("exact") / "home"
    home.mkdir()
    own = House(furnished(home, starters), free_port())
    try:
        up = own("up", "--set", "dtype=float32")
        assert up.returncode == 0, up.stderr
        yield pulled(own, "smollm2")
    finally:
        own("down")


@pytest.fixture(scope="session")
def minilm(house: House) -> House:
    """The same daemon with the encoder in its store."""
    return pulled(house, "minilm")


@pytest.fixture(scope="session")
def smollm2(house: House) -> House:
    """The same daemon with the chat model in its store."""
    return pulled(house, "smollm2")


def pulled(house: House, name: str) -> House:
    with house.client() as client:
        if any(model.name == name for model in client.models()):
            return house
    done = house("pull", name)
    if done.returncode and "could not be reached" in done.stderr:
        pytest.skip(f"{name} cannot be pulled, for the package index is not reachable from here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return house
