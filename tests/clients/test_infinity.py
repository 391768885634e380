"""infinity_client, in a folder of its own with the older httpx that it wants, by a script that prints what it read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("infinity") / "ask.py"


def test_its_client_embeds_ranks_classifies_and_lists(server):
    installed = os.environ["LLMOS_CLIENTS_INFINITY"]  # where `make clients` put it
    done = subprocess.run(
        [sys.executable, SCRIPT, server.url, str(server.timeout_s)],
        env={**os.environ, "PYTHONPATH": installed},
        capture_output=True,
        text=True,
        timeout=server.timeout_s,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["sizes"] == [384, 384]
    assert said["tokens"] > 0
    assert said["ranked"][0] == [1, "Returns of chairs take 14 days."]
    assert len(said["ranked"]) == 2
    assert max(said["labels"], key=said["labels"].get) == "delivery"
    assert sum(said["labels"].values()) == pytest.approx(1, abs=1e-3)
    assert {"embed", "rerank"} <= {*said["models"]["minilm"]}
    assert said["models"]["tickets"] == ["classify"]
    assert said["is_healthy"]
    assert said["refused"] == 404
