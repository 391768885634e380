"""Programs of other packages: found by their entry points, and run as any other, in a real daemon."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import httpx
import pytest
from toy import install_toy

from llmos import Client
from llmos.abi.process import Spec, State
from llmos.kernel import events as ev
from llmos.kernel.processes.process_table import ProcessTable
from llmos.kernel.programs import GROUP, built_in, declaration_of, traits_of, with_plugins
from llmos.kernel.programs.declaration import Declaration
from llmos.kernel.programs.traits import Traits

CLI = [sys.executable, "-c", "from llmos.cli.main import main; main()"]


@dataclass(frozen=True)
class Daemon:
    """A daemon of the null engine that has the toy program installed."""

    url: str
    home: Path
    environ: dict[str, str]

    def cli(self, *words: str) -> str:
        done = subprocess.run([*CLI, *words], env=self.environ, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home, site = tmp_path_factory.mktemp("home"), install_toy(tmp_path_factory.mktemp("site"))
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    environ = {**os.environ, "PYTHONPATH": path, "LLMOS_HOME": str(home), "LLMOS_PORT": str(port)}
    environ["LLMOS_ENGINE"] = "null"
    errors = home / "errors"
    with errors.open("w") as sink:
        process = subprocess.Popen([sys.executable, "-m", "llmos.daemon"], env=environ, stderr=sink)
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(transport=httpx.HTTPTransport(retries=10)) as client:
        assert client.get(f"{url}/healthz", timeout=60).status_code == 200
    yield Daemon(url, home, environ)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0, errors.read_text()


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.txt"
    path.write_text("one\ntwo\nthree\n")
    return path


def start(daemon: Daemon, **body: object) -> httpx.Response:
    return httpx.post(f"{daemon.url}/v1/processes", json=body, timeout=60)


@pytest.mark.slow
def test_a_program_of_another_package_runs_from_the_request_to_its_output(daemon, rows):
    answer = start(daemon, program="count", args={"file": str(rows), "least": 2})
    assert answer.status_code == 201, answer.text
    process = answer.json()
    assert process["spec"]["title"] == f"count the lines of {rows}"
    assert (process["spec"]["priority"], process["spec"]["need_bytes"]) == ("background", 12_345_678)
    with Client(daemon.url) as client:
        ended = client.wait(process["pid"])
        assert (ended.state, ended.spec.program, ended.exit_code) == (State.EXITED, "count", 0)
        assert ended.progress is not None
        assert ended.progress.message == "3 lines"
        assert client.logs(ended.pid) == f"count for {daemon.home} at least 2\n"
        assert ended.pid in [one.pid for one in client.processes()]
    shown = daemon.cli("ps", "--all")
    assert f"count the lines of {rows}" in " ".join(shown.split())
    assert "at least 2" in daemon.cli("logs", str(process["pid"]))


@pytest.mark.parametrize(
    ("args", "code", "key"),
    [
        ({"file": "/x", "lest": 1}, "bad_setting", "lest"),
        ({"file": "/x", "least": "many"}, "bad_setting", "least"),
        ({"file": "/x", "least": -1}, "bad_input", "least"),
    ],
)
def test_its_arguments_are_checked_by_its_own_declaration(daemon, args, code, key):
    answer = start(daemon, program="count", args=args)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["detail"]["key"]) == (400, code, key)


def test_an_unknown_program_is_refused_with_all_that_there_are(daemon):
    answer = start(daemon, program="dance", args={})
    assert answer.status_code == 400
    assert ", ".join([*built_in(), "count"]) in answer.json()["error"]["message"]


def test_the_openapi_document_names_it(daemon):
    document = httpx.get(f"{daemon.url}/openapi.json", timeout=60).json()
    assert document["components"]["schemas"]["Program"]["enum"] == sorted([*built_in(), "count"])


def test_a_broken_package_is_logged_and_the_daemon_starts_without_it(daemon):
    errors = (daemon.home / "errors").read_text()
    assert "the program broken (toy_broken:PROGRAM) is left out: ModuleNotFoundError" in errors
    assert httpx.get(f"{daemon.url}/healthz", timeout=60).status_code == 200


class Named(Declaration):
    """A declaration with nothing of its own."""

    main = "somewhere"

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]  # one class for several


def test_a_name_that_is_taken_and_an_object_that_is_no_declaration_are_left_out(caplog):
    points = [EntryPoint(name, f"test_plugins:{value}", GROUP) for name, value in (("a", "TRAIN"), ("b", "NUMBER"))]
    assert with_plugins(built_in(), points) == built_in()
    assert "there is a program 'train' already" in caplog.text
    assert "it must name an instance of Declaration, not int" in caplog.text


TRAIN, NUMBER = Named("train"), 5


def test_every_built_in_program_is_found_by_its_file():
    assert {"evaluate", "import-data", "probe", "pull", "quantize", "serve", "train"} <= built_in().keys()
    assert all(declaration_of(name).name == name for name in built_in())


def test_a_journal_replays_to_the_same_table_after_its_program_is_gone():
    table = ProcessTable()
    table.apply(ev.Submitted(1.0, 7, Spec("gone"), {}, Traits(is_resumable=True)))
    table.apply(ev.Admitted(2.0, 7))
    table.apply(ev.DaemonStarted(3.0))
    assert traits_of("gone") == Traits()
    assert table.process(7).state is State.INTERRUPTED
