"""openai, ollama and ai from node: its runner goes over node/clients.test.js once, and each test of it is one here."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SUITE = Path(__file__).with_name("node") / "clients.test.js"
NODE = shutil.which("node")
NAMES = re.findall(r'^test\("([^"]+)"', SUITE.read_text(), re.MULTILINE)
RESULT = re.compile(r"^ *(not ok|ok) \d+ - (.*?)( # (?:SKIP|TODO).*)?$", re.MULTILINE)  # a line of TAP


@pytest.fixture(scope="module")
def ended(server):
    """What node's runner said of each test, by its name; and all that it printed."""
    installed = Path(os.environ["LLMOS_CLIENTS_NODE"])  # where `make clients` put node_modules
    shutil.copy(SUITE, installed / SUITE.name)  # modules are looked for beside the file that imports them
    environ = os.environ | {
        "LLMOS_CLIENTS_URL": server.url,
        "LLMOS_CLIENTS_TIMEOUT_MS": str(int(server.timeout_s * 1000)),
    }
    command = [NODE, "--test", "--test-reporter=tap", SUITE.name]
    done = subprocess.run(
        command, cwd=installed, env=environ, capture_output=True, text=True, timeout=2 * server.timeout_s
    )
    results = {name: left or status for status, name, left in RESULT.findall(done.stdout)}
    return results, done.stdout + done.stderr


@pytest.mark.skipif(NODE is None, reason="no node here: its clients are not tried")
@pytest.mark.parametrize("name", NAMES)
def test_a_client_of_node_passes(ended, name):
    results, printed = ended
    assert results.get(name) == "ok", printed
