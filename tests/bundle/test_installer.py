"""The installer of a bundle, run by sh as a user runs it: with tiny wheels, and without any network."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from bundle_parts import TREE, stocked_home, tiny_wheels, write_tiny_wheel

from llmos import __version__
from llmos.bundle.making import installer, make
from llmos.bundle.record import BundleTarget
from llmos.bundle.wheels import WheelChoice, target_of
from llmos.daemon import holding_home
from llmos.kernel.store.store import Store

NO_INDEX = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_CONFIG_FILE": os.devnull, "LLMOS_PORT": "9"}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle file with tiny wheels and the models of a small home."""
    folder = tmp_path_factory.mktemp("made")
    home, wheels = stocked_home(folder / "home"), tiny_wheels(folder / "wheels")
    make(folder / "box.tar", home, wheels=WheelChoice(wheels))
    return folder / "box.tar"


@pytest.fixture
def unpacked(tmp_path, bundle):
    place = tmp_path / "a place"
    place.mkdir()
    subprocess.run(["tar", "-xf", str(bundle)], cwd=place, check=True)
    return place / "box"


def install(folder, *words, path=None, **settings):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLMOS_", "PIP_", "PYTHON"))}
    environ = {**kept, **NO_INDEX, "HOME": str(folder.parent), **settings}
    return subprocess.run(
        ["/bin/sh", str(folder / "install.sh"), *map(str, words)],
        env=environ if path is None else {**environ, "PATH": path},
        capture_output=True,
        text=True,
        cwd=folder.parent,
        check=False,
    )


def stub_python(place, said):
    """A Python that says this of itself."""
    path = place / "python-stub"
    path.write_text(f"#!/bin/sh\necho {said}\n")
    path.chmod(0o755)
    return path


def test_it_installs_the_wheels_and_loads_the_models_without_a_network(unpacked, tmp_path):
    words = ("--python", sys.executable, "--home", tmp_path / "new", "--venv", "own env")
    done = install(unpacked, *words)
    assert (done.returncode, "llmos' up" in done.stdout) == (0, True), done.stderr
    python = unpacked.parent / "own env" / "bin" / "python"
    code = "import importlib.metadata as m; print(*sorted(d.name for d in m.distributions()), m.version('tiny_need'))"
    there = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True, cwd="/").stdout
    assert {"llmos", "tiny_need", "1.5"} <= set(there.split())
    assert "unrelated" not in there
    store = Store(tmp_path / "new")
    assert (store.resolve("mood").ref, store.examine().damages) == ("mood:2", ())
    again = install(unpacked, *words)
    assert (again.returncode, "Already there: tiny:1" in again.stdout) == (0, True), again.stderr


@pytest.mark.parametrize(
    "pattern", ["wheels/tiny_need-1.5*.whl", "models/blobs/*", "requirements.txt", "manifest.json"]
)
def test_a_damaged_bundle_is_refused_before_anything_is_made(unpacked, tmp_path, pattern):
    damaged = sorted(unpacked.glob(pattern))[0]
    damaged.write_bytes(damaged.read_bytes() + b"?")
    done = install(unpacked, "--python", sys.executable, "--home", tmp_path / "new", "--venv", tmp_path / "env")
    assert done.returncode == 1
    assert str(damaged.relative_to(unpacked)) in done.stderr
    assert not (tmp_path / "env").exists()
    assert not (tmp_path / "new").exists()


def test_a_lost_file_is_refused(unpacked, tmp_path):
    next((unpacked / "wheels").iterdir()).unlink()
    done = install(unpacked, "--python", sys.executable, "--venv", tmp_path / "env")
    assert (done.returncode, (tmp_path / "env").exists()) == (1, False)


def test_a_wheel_that_the_bundle_does_not_name_is_refused(unpacked, tmp_path):
    extra = write_tiny_wheel(unpacked / "wheels", "llmos", "", number=f"{__version__}+other")
    done = install(unpacked, "--python", sys.executable, "--venv", tmp_path / "env")
    assert (done.returncode, f"wheels/{extra.name} is no file of this bundle" in done.stderr) == (1, True)
    assert not (tmp_path / "env").exists()


def test_nothing_is_replaced_under_a_daemon_that_is_up(unpacked, tmp_path):
    command = tmp_path / "env" / "bin" / "llmos"
    command.parent.mkdir(parents=True)
    (tmp_path / "env" / "pyvenv.cfg").write_text("")
    command.write_text("#!/bin/sh\nexit 1\n")  # the daemon hangs, or answers elsewhere
    command.chmod(0o755)
    before = sorted(tmp_path.glob("env/**/*"))
    for home, words in ((tmp_path / "new", ("--home", tmp_path / "new")), (unpacked.parent / ".llmos", ())):
        with holding_home(home):
            done = install(unpacked, "--python", sys.executable, "--venv", tmp_path / "env", *words)
        assert (done.returncode, "Stop it: llmos down" in done.stderr) == (1, True)
        assert sorted(tmp_path.glob("env/**/*")) == before


def test_a_lock_that_no_daemon_holds_is_in_nobodys_way(unpacked, tmp_path):
    with holding_home(tmp_path / "new"):
        pass
    words = ("--python", sys.executable, "--home", tmp_path / "new", "--venv", tmp_path / "env")
    for _ in range(2):  # the second time there is a llmos to be replaced
        done = install(unpacked, *words)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("said", ["cpython-3.2 linux-x86_64 glibc-2.36", "pypy-3.11 linux-x86_64 glibc-2.36"])
def test_another_python_is_refused_in_a_sentence(unpacked, tmp_path, said):
    done = install(unpacked, "--python", stub_python(tmp_path, said), "--venv", tmp_path / "env")
    here = target_of([])
    assert done.returncode == 1
    assert f"this bundle is for {here.python} on {here.platform}, and here is: {said}" in done.stderr


def test_another_platform_is_refused_in_a_sentence(unpacked, tmp_path):
    python = stub_python(tmp_path, f"{target_of([]).python} plan9-mips glibc-2.36")
    done = install(unpacked, "--python", python, "--venv", tmp_path / "env")
    assert (done.returncode, "this machine is plan9-mips" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("libc", "is_refused"),
    [("glibc-2.27", True), ("glibc-1.99", True), ("other-0", True), ("glibc-2.28", False), ("glibc-3.0", False)],
)
def test_an_older_c_library_is_refused_in_a_sentence(tmp_path, libc, is_refused):
    target = BundleTarget("cpython-3.11", "linux-x86_64", "2.28")
    (tmp_path / "install.sh").write_bytes(installer(target, has_models=False))
    done = install(tmp_path, "--python", stub_python(tmp_path, f"cpython-3.11 linux-x86_64 {libc}"))
    assert done.returncode == 1  # there are no files to check
    assert ("needs glibc 2.28" in done.stderr) is is_refused


def test_without_any_python_it_says_which_one_is_needed(unpacked, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("dirname",):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    done = install(unpacked, path=str(tools))
    assert (done.returncode, f"needs {target_of([]).python}" in done.stderr) == (1, True)


def test_what_is_no_environment_is_not_made_into_one(unpacked, tmp_path):
    (tmp_path / "letters").mkdir()
    done = install(unpacked, "--python", sys.executable, "--venv", tmp_path / "letters")
    assert (done.returncode, list((tmp_path / "letters").iterdir())) == (1, [])


@pytest.mark.parametrize("words", [["--vnev", "x"], ["--venv"], ["--home", ""]])
def test_a_wrong_option_is_said(unpacked, words):
    assert install(unpacked, *words).returncode == 1


def test_help_is_printed(unpacked):
    done = install(unpacked, "--help")
    assert (done.returncode, "--venv DIR" in done.stdout) == (0, True)


def test_without_wheels_it_loads_models_by_the_llmos_that_is_there(tmp_path):
    make(tmp_path / "box", stocked_home(tmp_path / "home"), wheels=None)
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "llmos"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={TREE} exec {sys.executable} -m llmos.cli.main "$@"\n')
    command.chmod(0o755)
    done = install(tmp_path / "box", "--home", tmp_path / "new", path=f"{tmp_path}/bin:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert Store(tmp_path / "new").resolve("mood").ref == "mood:2"
