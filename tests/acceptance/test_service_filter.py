"""The daemon of the unit that `llmos service install` writes, under its system call filter: it trains and serves."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import EXAMPLES, House, pulled

from llmos.service.unit import ServiceUnit

pytestmark = pytest.mark.acceptance
FILTER = Path(__file__).parents[1] / "service" / "under_filter.py"
IS_HERE = shutil.which("systemd-analyze") is not None and ctypes.util.find_library("seccomp") is not None


@pytest.fixture
def confined(new_house: House, tmp_path: Path):
    """The house's daemon as a service: it tells when it answers, and may call what its unit lets it."""
    unit = tmp_path / "llmos.service"
    unit.write_text(ServiceUnit(Path(sys.executable), new_house.home, port=new_house.port).text)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(120)
        environ = {
            **os.environ,
            "LLMOS_HOME": str(new_house.home),
            "LLMOS_PORT": str(new_house.port),
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
        }
        command = [sys.executable, str(FILTER), str(unit), sys.executable, "-m", "llmos.daemon"]
        with subprocess.Popen(command, env=environ) as daemon:
            assert told.recv(100) == b"READY=1"
            yield new_house
            assert new_house("down").returncode == 0
            assert daemon.wait(120) == 0


@pytest.mark.skipif(not IS_HERE, reason="systemd-analyze or libseccomp is not here: no filter can be made")
def test_a_daemon_under_the_unit_s_filter_trains_and_serves(confined: House):
    for name in ("minilm", "smollm2"):
        pulled(confined, name)
    with confined.client() as box:
        (status,) = Path(f"/proc/{box.status().os_pid}/status").read_text().split("Seccomp:\t")[1].split("\n")[:1]
    assert status == "2"  # it filters, and what it starts inherits that
    rows = str(EXAMPLES / "intents.train.csv")
    trained = confined("train", "classify", "--data", rows, "--name", "intents", "--epochs", "1")
    assert trained.returncode == 0, trained.stderr
    asked = confined("run", "intents:1", "Where is my parcel?")
    assert (asked.returncode, asked.stdout != "") == (0, True), asked.stderr
    chat = confined("chat", "smollm2:1", "Say hello", "--max-tokens", "4")
    assert chat.returncode == 0, chat.stderr
