"""What the command line sends by itself, and what it says of uploaded files."""

from __future__ import annotations

import json
import os

import pytest

from llmos.cli.main import run_verb
from llmos.config import Config
from llmos.testing.kernel import MemoryKernel
from llmos.testing.server import serving

ROWS = "text,label\nhi,a\nho,b\n"


@pytest.fixture
def kernel():
    return MemoryKernel(plays=True)


@pytest.fixture
def elsewhere(kernel, tmp_path, monkeypatch):
    """A daemon whose home is not on this machine: nothing here says that it is."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text(ROWS)
    with serving(kernel, Config(tmp_path)) as url:
        monkeypatch.setenv("LLMOS_PORT", url.rpartition(":")[2])
        yield url


@pytest.fixture
def llmos(elsewhere, capfd):
    def run(*words):
        code = run_verb(list(words))
        out, err = capfd.readouterr()
        return code, out, err

    return run


def args_of(kernel):
    return list(kernel.processes.table.values())[-1].spec.args


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("train", "classify", "--data", "rows.csv", "--test", "test.csv"), "rows"),
        (("data", "import", "rows.csv", "--test", "test.csv"), "rows"),
        (("eval", "support", "--data", "rows.csv"), None),
        (("quantize", "support", "--data", "rows.csv"), None),
    ],
)
def test_files_are_sent_to_a_daemon_on_another_machine(llmos, kernel, tmp_path, words, name):
    (tmp_path / "test.csv").write_text(ROWS + "ha,a\n")
    code, _, _ = llmos(*words, "--no-wait")
    assert code == 0
    there = {one.name: one.path for one in kernel.uploads.all()}
    args = args_of(kernel)
    assert args["data"]["train"] == there["rows.csv"]
    assert args["data"].get("test") == there.get("test.csv")
    assert args.get("name") == name


def test_a_daemon_on_this_machine_is_given_the_path(llmos, kernel, elsewhere, tmp_path):
    (tmp_path / "home" / "daemon.json").write_text(json.dumps({"url": elsewhere, "os_pid": os.getpid()}))
    assert llmos("data", "import", "rows.csv", "--no-wait")[0] == 0
    assert args_of(kernel)["data"]["train"] == str(tmp_path / "rows.csv")
    assert kernel.uploads.all() == []


def test_a_sent_file_is_named_listed_used_and_removed(llmos, kernel):
    code, ref, _ = llmos("data", "upload", "rows.csv", "--name", "people.csv")
    assert (code, ref.strip()) == (0, kernel.uploads.all()[0].ref)
    assert llmos("data", "upload", "rows.csv", "--name", "people.csv")[1] == ref
    assert "people.csv" in llmos("data", "uploads")[1]
    shown = json.loads(llmos("data", "uploads", "--json")[1])
    assert [(one["ref"], one["is_complete"]) for one in shown] == [(ref.strip(), True)]
    assert llmos("data", "import", ref.strip(), "--no-wait")[0] == 0
    assert args_of(kernel)["name"] == "people"
    assert json.loads(llmos("data", "uploads", "--rm", ref.strip(), "--json")[1]) == {"removed": [ref.strip()]}
    assert llmos("data", "uploads", "--rm", ref.strip())[0] == 2


def test_a_folder_is_not_sent(llmos, kernel, tmp_path):
    (tmp_path / "folder").mkdir()
    assert llmos("data", "import", "folder")[0] == 2
    assert kernel.processes.table == {}
