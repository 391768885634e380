"""The audit log with a real daemon: commands with and without it, a kill, a log that somebody has edited."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_keys_of_a_daemon import Box

pytestmark = pytest.mark.acceptance


@pytest.fixture
def box(tmp_path):
    made = Box(tmp_path / "home")
    yield made
    made.run("down")


def entries(box, *words):
    return json.loads(box.run("audit", "ls", *words, "--json"))


def found_by(box):
    """What `verify` prints where it has found something."""
    command = [sys.executable, "-c", "from llmos.cli.main import main; main()", "audit", "verify"]
    done = subprocess.run(command, env=box.environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr
    return done.stdout


def test_the_audit_log_from_the_first_key_to_an_edit(box):
    home = Path(box.environ["LLMOS_HOME"])
    assert "0 entries" in box.run("audit", "verify")
    first = box.make("first")["key"]["id"]  # before there is a daemon
    box.run("up")
    second = box.make("second")["key"]["id"]
    box.run("key", "rm", second)
    found = [(one["who"], one["what"], one["ref"]) for one in reversed(entries(box))]
    assert found[0] == ("local", "key create", first)
    assert found[1][:2] == ("daemon", "start")
    assert ("local", "POST /v1/keys", second) in found
    assert found[-1] == ("local", "DELETE /v1/keys/{id}", second)
    box.kill()
    assert len(entries(box)) == len(found)  # what was answered is there
    box.run("up")
    box.run("down")
    assert [one["what"] for one in entries(box, "--limit", "2")] == ["stop", "start"]
    whole = json.loads(box.run("audit", "verify", "--json"))
    assert (whole["findings"], whole["entries"]) == ([], len(found) + 2)
    (path,) = (home / "audit").glob("*.log")
    path.write_bytes(path.read_bytes().replace(second.encode(), first.encode(), 1))
    assert "is not what was written" in found_by(box)
    box.run("up")
    assert "is not what was written" in found_by(box)  # the daemon says so too
