"""Other people's clients, each as it was released, against the real daemon with the starter models.

A lane of its own (`make clients`) with its own environment, for these libraries pin each other's versions.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

TREE = Path(__file__).parents[2]
PYTHON = TREE / ".venv" / "bin" / "python"
MAIN = "from llmos.cli.main import main; main()"
EXACT = {"LLMOS_DTYPE": "float32"}  # in bfloat16 an answer may change with what is computed beside it
PATIENCE_S = 3600.0  # no test counts on speed: this only ends what would never end by itself
PATIENT = {"LLMOS_CALL_TIMEOUT_S": str(PATIENCE_S), "LLMOS_HEARTBEAT_TIMEOUT_S": "600"}
STARTERS = ("minilm", "smollm2")
DELIVERY = (
    *("Where is my parcel?", "My order has not arrived", "The package was left outside", "The parcel is late again"),
    *("Track my shipment please", "Change the delivery address", "My shipment is lost", "Deliver it on Monday"),
)
BILLING = (
    *("I was charged twice", "Please send me an invoice", "The payment failed", "Refund my money"),
    *("My card was declined", "The bill is too high", "I need a receipt", "Why did you debit my account?"),
)
PAIRS = tuple(zip(DELIVERY, BILLING, strict=True))

WITH_OPENAI_ALONE = ("test_openai_jobs.py", "test_openai_python.py")
HAS_ALL = find_spec("litellm") is not None  # .venv has the newest openai alone, .venv-clients every library


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`make test` has none of this lane; `make clients` runs in two environments, each with what is there."""
    if config.inipath != Path(__file__).with_name("pytest.ini"):
        return True
    return None if HAS_ALL or collection_path.is_dir() else collection_path.name not in WITH_OPENAI_ALONE


@dataclass(frozen=True)
class Server:
    """Where the daemon of this run answers, and the folder that it owns."""

    url: str
    home: Path
    timeout_s: float = PATIENCE_S  # for every client: its own limit would count on the machine's speed

    @property
    def v1(self) -> str:
        return f"{self.url}/v1"

    def tokenizer(self, model: str) -> Path:
        """The folder with the tokenizer of a model that writes, in transformers' files; the model is loaded for it."""
        body = json.dumps({"model": model, "prompt": "hello", "max_tokens": 1}).encode()
        asked = Request(f"{self.v1}/completions", body, {"Content-Type": "application/json"})
        with urlopen(asked, timeout=self.timeout_s) as answer:
            assert answer.status == 200
        return next(self.home.glob("resident/*/chat_template.jinja")).parent


def _command(environ: dict[str, str]) -> Callable[..., None]:
    def run(*words: str) -> None:
        command = [PYTHON, "-c", MAIN, *words]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, f"llmos {' '.join(words)}: {done.stderr}"

    return run


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A daemon with both starter models and a classifier, for this run alone; or the one at LLMOS_CLIENTS_URL."""
    if "LLMOS_CLIENTS_URL" in os.environ:
        yield Server(
            os.environ["LLMOS_CLIENTS_URL"], Path(os.environ.get("LLMOS_CLIENTS_HOME", "~/.llmos")).expanduser()
        )
        return
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    home = tmp_path_factory.mktemp("home")
    where = {"LLMOS_HOME": str(home), "LLMOS_PORT": str(port), "PYTHONPATH": str(TREE)}
    llmos = _command({**os.environ, **where, **EXACT, **PATIENT})
    llmos("up")
    try:
        for starter in STARTERS:
            llmos("pull", starter)
        rows = home / "tickets.csv"
        rows.write_text("text,label\n" + "".join(f"{one},delivery\n{other},billing\n" for one, other in PAIRS))
        llmos("train", "classify", "--data", str(rows), "--base", "minilm", "--name", "tickets", "--epochs", "4")
        yield Server(f"http://127.0.0.1:{port}", home)
    finally:
        llmos("down")
