"""The real daemon through the command line, with the null engine: up, asked, refused twice, killed, up again, down."""

import os
import signal
import subprocess
import sys

import pytest
from conftest import free_port

from llmos import Client

pytestmark = pytest.mark.acceptance


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def llmos(tmp_path, port):
    given = {"LLMOS_HOME": str(tmp_path / "home"), "LLMOS_PORT": str(port), "LLMOS_ENGINE": "null"}

    def run(*words, **more):
        environ = {**os.environ, **given, **more}
        command = [sys.executable, "-c", "from llmos.cli.main import main; main()", *words]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)

    yield run
    run("down")


def test_the_daemon_s_life_from_the_command_line(llmos, tmp_path, port):
    url = f"http://127.0.0.1:{port}"
    assert url in llmos("up").stdout
    second = llmos("up", "--port", str(port + 1))
    assert (second.returncode, "runs on" in second.stderr) == (1, True)
    elsewhere = llmos("up", LLMOS_HOME=str(tmp_path / "other"))
    assert (elsewhere.returncode, "cannot be opened" in elsewhere.stderr) == (1, True)
    unknown = llmos("run", "nobody", "hello")
    assert (unknown.returncode, "llmos pull" in unknown.stderr) == (2, True)
    with Client(url) as box:
        os_pid = box.status().os_pid
    os.kill(os_pid, signal.SIGKILL)
    again = llmos("up")
    assert again.returncode == 0, again.stderr
    with Client(url) as box:
        assert box.status().os_pid != os_pid
    assert llmos("down").stdout == "llmos is down.\n"
    gone = llmos("ls")
    assert (gone.returncode, "llmos up" in gone.stderr) == (3, True)
