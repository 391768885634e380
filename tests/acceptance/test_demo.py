"""The demo as a newcomer runs it: two promoted models, an answer from each, a chat, and commands that can be pasted."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.acceptance

TREE = Path(__file__).parents[2]
SUPPORT = Path("examples") / "support"
BIN = Path(sys.executable).parent


@pytest.fixture
def folder(tmp_path):
    """A folder with every second training row of the project's example: the demo takes those that lie where it runs."""
    (tmp_path / SUPPORT).mkdir(parents=True)
    for path in filter(Path.is_file, (TREE / SUPPORT).iterdir()):
        text = path.read_text()
        if path.name == "intents.train.csv":
            head, *rows = text.splitlines()
            text = "\n".join([head, *rows[::2]]) + "\n"
        elif path.name == "entities.train.conll":
            text = "\n\n".join(text.strip().split("\n\n")[::2]) + "\n"
        (tmp_path / SUPPORT / path.name).write_text(text)
    return tmp_path


def pasted(house, command, folder, timeout_s):
    """A command line as a shell with this environment on would run it, in this folder."""
    environ = {**os.environ, "LLMOS_HOME": str(house.home), "LLMOS_PORT": str(house.port)}
    environ["PATH"] = f"{BIN}:{environ['PATH']}"
    return subprocess.run(
        command, shell=True, cwd=folder, env=environ, capture_output=True, text=True, timeout=timeout_s, check=False
    )


def test_the_demo_ends_with_two_promoted_models_and_commands_that_work(new_house, starters, folder):
    if starters is None:
        pytest.skip("the starter models cannot be pulled from here")
    done = pasted(new_house, "llmos demo", folder, timeout_s=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    with new_house.client() as client:
        promoted = {model.name: model.metrics for model in client.models() if model.promoted}
        tested = client.test("support", folder / SUPPORT / "intents.suite.yaml")
    beside = {found[1]: float(found[2]) for found in re.finditer(r"(\S+):1 .* bag of words (\d\.\d+)", done.stdout)}
    assert promoted["support"]["accuracy"] > beside["support"] + 0.2
    assert promoted["support-entities"]["f1"] > beside["support-entities"] + 0.2
    assert tested.model == "support:1"
    assert 0 < tested.failure_count < tested.cases / 2, tested.summary()  # it is no oracle, and no coin
    assert re.search(r"refund_status  \d", done.stdout)
    assert "smollm2 ← " in done.stdout

    again = pasted(new_house, "llmos demo", folder, timeout_s=300)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("already") == 5

    commands = re.findall(r"^  ((?:llmos|curl) .*)$", again.stdout, re.MULTILINE)
    assert commands[-1].split()[-1] == "down"
    for command in commands:
        if "train" not in shlex.split(command):  # it works too, and takes minutes: test_training has its own
            ran = pasted(new_house, command, folder, timeout_s=300)
            assert ran.returncode == 0, f"{command}\n{ran.stdout}{ran.stderr}"


def test_without_the_example_rows_the_demo_says_where_to_get_them(tmp_path):
    shutil.copytree(TREE / "llmos", tmp_path / "llmos", ignore=shutil.ignore_patterns("__pycache__"))
    code = "import sys; from llmos.cli.main import main; sys.argv = ['llmos', 'demo']; main()"
    environ = {**os.environ, "PYTHONPATH": str(tmp_path), "LLMOS_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "Clone the project" in done.stderr) == (2, True)
    assert not (tmp_path / "home").exists()
