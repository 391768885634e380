"""Wheels of a bundle: what pip chooses of a folder, the wheel of this llmos, and what is said when pip fails."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import zipfile

import pytest
from bundle_parts import RUNS_THIS_TREE, tiny_wheels, write_tiny_wheel

from llmos import __version__
from llmos.abi.error import BadInput, Conflict, Offline, Unavailable
from llmos.bundle.own_wheel import write_wheel
from llmos.bundle.wheels import WheelChoice, collect_wheels, requirement, target_of


@pytest.fixture
def there(tmp_path):
    (tmp_path / "to").mkdir()
    return tmp_path / "to"


def quiet(line):
    pass


def test_only_what_is_needed_is_taken_each_in_one_version(tmp_path, there):
    found = collect_wheels(WheelChoice(tiny_wheels(tmp_path / "wheels")), there, quiet)
    assert [path.name for path in found] == [
        f"llmos-{__version__}-py3-none-any.whl",
        "tiny_need-1.5-py3-none-any.whl",
    ]
    assert sorted(there.iterdir()) == found


def test_a_constraint_decides_between_versions(tmp_path, there):
    wheels = tiny_wheels(tmp_path / "wheels")
    write_tiny_wheel(wheels, "tiny_need", "", number="1.6")
    (tmp_path / "pins.txt").write_text("tiny_need==1.5\n")
    found = collect_wheels(WheelChoice(wheels, tmp_path / "pins.txt"), there, quiet)
    assert "tiny_need-1.5-py3-none-any.whl" in [path.name for path in found]
    with pytest.raises(BadInput):
        collect_wheels(WheelChoice(wheels, tmp_path / "none.txt"), there, quiet)


def test_what_a_folder_lacks_is_named_and_looked_for_nowhere_else(tmp_path, there, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tiny_wheels(tmp_path / "others")))
    write_tiny_wheel(tmp_path / "wheels", "llmos", RUNS_THIS_TREE, needs="tiny_need>=1")
    with pytest.raises(Unavailable) as caught:
        collect_wheels(WheelChoice(tmp_path / "wheels"), there, quiet)
    assert ("tiny_need>=1" in str(caught.value), str(tmp_path / "wheels") in str(caught.value)) == (True, True)


def test_another_llmos_in_the_folder_is_refused(tmp_path, there):
    write_tiny_wheel(tmp_path / "wheels", "llmos", "", number="9.9")
    with pytest.raises(Conflict):
        collect_wheels(WheelChoice(tmp_path / "wheels"), there, quiet)
    with pytest.raises(BadInput):
        collect_wheels(WheelChoice(tmp_path / "nowhere"), there, quiet)


def test_an_index_that_does_not_answer_is_offline(monkeypatch, there):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    with pytest.raises(Offline):
        collect_wheels(WheelChoice(), there, quiet)


def test_the_least_c_library_is_what_the_most_demanding_wheel_needs():
    names = ["a-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "b-1-py3-none-any.whl"]
    assert target_of(names).glibc == "2.17"
    assert target_of([*names, "c-1-cp311-cp311-manylinux_2_28_x86_64.whl"]).glibc == "2.28"
    assert target_of(names[1:]).glibc == ""


def test_a_requirement_is_one_version_with_its_digest():
    assert requirement("tiny_need-1.5+cpu-1-py3-none-any.whl", "ab") == "tiny-need==1.5+cpu --hash=sha256:ab"


def test_the_own_wheel_has_the_code_its_data_and_what_it_needs(tmp_path):
    wheel = write_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(f"llmos-{__version__}.dist-info/METADATA").decode()
        points = archive.read(f"llmos-{__version__}.dist-info/entry_points.txt").decode()
        assert archive.testzip() is None
    assert {"llmos/bundle/install.sh", "llmos/py.typed", "llmos/nn/cpu/kernels.c", "llmos/cli/main.py"} <= names
    assert not [name for name in names if "__pycache__" in name or name.endswith((".so", ".pyc"))]
    assert "Requires-Dist: torch>=" in metadata
    assert "llmos = llmos.cli.main:main" in points
    (tmp_path / "again").mkdir()
    assert write_wheel(tmp_path / "again").read_bytes() == wheel.read_bytes()


@pytest.mark.slow
def test_pip_installs_the_own_wheel_whole(tmp_path):
    wheel = write_wheel(tmp_path)
    pip = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    target = tmp_path / "site"
    subprocess.run([*pip, "--no-deps", "--no-compile", "--target", str(target), str(wheel)], check=True, cwd="/")
    (found,) = importlib.metadata.distributions(name="llmos", path=[str(target)])
    assert found.version == __version__
    assert all(file.locate().exists() for file in found.files or () if file.parts[0].startswith("llmos"))
    said = subprocess.run(
        [sys.executable, "-m", "llmos.cli.main", "--version"],
        env={"PYTHONPATH": str(target), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    assert said.stdout == f"llmos {__version__}\n"
