"""The command behind `make clients` goes through every environment, and says at the end what failed in each."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools.clients import Environment, main

pytestmark = pytest.mark.slow

HERE = Path(sys.executable)
GOOD = "def test_that_passes():\n    assert True\n"
BAD = "def test_that_fails():\n    assert 1 == 2\n"
BROKEN = "import nothing_of_this_name\n"


def lane(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -q -p no:cacheprovider\n")
    (folder / "test_some_client.py").write_text(text)
    return folder


def twice() -> list[Environment]:
    return [Environment("first", HERE), Environment("second", HERE)]


def test_a_failure_in_one_environment_does_not_keep_the_next_from_being_tried(tmp_path, capfd):
    assert main([], twice(), lane(tmp_path, GOOD + BAD)) == 1
    last = capfd.readouterr().out.split("second: 1 passed", 1)
    assert "first: 1 passed, 1 failed, 0 skipped\n  failed: test_some_client::test_that_fails\n" in last[0]
    assert last[1] == ", 1 failed, 0 skipped\n  failed: test_some_client::test_that_fails\n"


def test_environments_that_pass_end_with_0(tmp_path, capfd):
    assert main([], twice(), lane(tmp_path, GOOD)) == 0
    assert capfd.readouterr().out.endswith(
        "first: 1 passed, 0 failed, 0 skipped\nsecond: 1 passed, 0 failed, 0 skipped\n"
    )


def test_tests_that_cannot_be_read_are_a_failure(tmp_path, capfd):
    assert main([], [Environment("first", HERE)], lane(tmp_path, BROKEN)) == 1
    assert "failed: test_some_client" in capfd.readouterr().out


def test_words_choose_tests_and_none_chosen_is_a_failure(tmp_path, capfd):
    assert main(["-k", "passes"], [Environment("first", HERE)], lane(tmp_path, GOOD + BAD)) == 0
    assert main(["-k", "nothing"], [Environment("first", HERE)], lane(tmp_path, GOOD + BAD)) == 1
    assert "pytest ended with exit code 5" in capfd.readouterr().out


def test_a_python_without_pytest_is_a_failure(tmp_path, capfd):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 4\n")
    python.chmod(0o755)
    assert main([], [Environment("empty", python)], lane(tmp_path / "lane", GOOD)) == 1
    assert "pytest ended with exit code 4" in capfd.readouterr().out
