"""openai and Vercel's ai (with openai-compatible) from node: node's own test runner over node/clients.test.js."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SUITE = Path(__file__).with_name("node") / "clients.test.js"
NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="no node here: its clients are not tried")
def test_the_clients_of_node_pass(server):
    installed = Path(os.environ["LLMOS_CLIENTS_NODE"])  # where `make clients` put node_modules
    shutil.copy(SUITE, installed / SUITE.name)  # modules are looked for beside the file that imports them
    environ = {**os.environ, "LLMOS_CLIENTS_URL": server.url}
    done = subprocess.run(
        [NODE, "--test", SUITE.name], cwd=installed, env=environ, capture_output=True, text=True, timeout=580
    )
    assert done.returncode == 0, done.stdout + done.stderr
