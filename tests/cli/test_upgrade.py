"""restart and upgrade: what is checked before anything is stopped. Whole upgrades are in tests/acceptance."""

import os
import signal
import sys
import zipfile
from contextlib import suppress
from functools import partial

import pytest

from llmos.abi.error import Unavailable
from llmos.cli.main import run_verb
from llmos.cli.upgrade import Installation, ending_in_order, exchange, run_apart
from llmos.kernel.home_format import FORMAT, PAGE
from llmos.testing.errors import fails_with

FORMATS = """
def check_format(home, version):
    if (home / "format.json").exists():
        raise RuntimeError(f"{version} does not read it")
"""


@pytest.fixture
def llmos(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()

    def run(*words):
        code = run_verb(list(words))
        return code, *capfd.readouterr()

    return run


def wheel(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return str(path)


@pytest.fixture
def later(tmp_path):
    """A wheel of another llmos, which says which homes it reads."""
    files = {"llmos/__init__.py": '__version__ = "9.0"\n', "llmos/kernel/__init__.py": ""}
    return wheel(tmp_path / "llmos-9.0-py3-none-any.whl", {**files, "llmos/kernel/home_format.py": FORMATS})


def test_without_a_daemon_there_is_nothing_to_restart(llmos):
    code, _, error = llmos("restart")
    assert (code, "llmos up" in error) == (3, True)


@pytest.mark.parametrize("name", ["other-1.0-py3-none-any.whl", "folder", "llmos-9.0-py3-none-any.whl"])
def test_what_is_no_llmos_is_not_installed(llmos, tmp_path, name):
    (tmp_path / name).mkdir() if "." not in name else (tmp_path / name).write_bytes(b"PK no more")
    code, _, error = llmos("upgrade", str(tmp_path / name))
    assert (code, "Traceback" in error) == (2, False)


def test_code_that_does_not_read_the_home_says_so_before_anything_is_stopped(llmos, tmp_path, later):
    (tmp_path / "home" / PAGE).write_text("{}")
    code, _, error = llmos("upgrade", later)
    assert (code, "9.0 does not read it. Nothing was stopped" in error) == (2, True)


def test_code_of_before_there_were_formats_is_refused(llmos, tmp_path):
    old = wheel(tmp_path / "llmos-0.0-py3-none-any.whl", {"llmos/__init__.py": '__version__ = "0.0"\n'})
    code, _, error = llmos("upgrade", old)
    assert (code, "Nothing was stopped or installed" in error) == (2, True)


def test_a_start_on_a_home_of_a_later_format_is_refused(llmos, tmp_path):
    (tmp_path / "home" / PAGE).write_text(f'{{"format": {FORMAT + 1}, "version": "9.0"}}')
    code, _, error = llmos("key", "ls")
    assert (code, "9.0" in error) == (1, True)


@pytest.fixture
def installable(tmp_path):
    """A whole wheel that nobody wants to install, for pip to look at."""

    def make(*needs):
        info = "llmos-9.0.dist-info"
        said = ["Metadata-Version: 2.1", "Name: llmos", "Version: 9.0", *(f"Requires-Dist: {one}" for one in needs)]
        files = {
            "llmos/__init__.py": '__version__ = "9.0"\n',
            "llmos/kernel/__init__.py": "",
            "llmos/kernel/home_format.py": FORMATS,
            f"{info}/METADATA": "\n".join(said) + "\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
        return wheel(tmp_path / "llmos-9.0-py3-none-any.whl", files)

    return make


def test_pip_is_asked_before_anything_is_stopped(tmp_path, installable):
    installable()
    Installation(tmp_path / "llmos-9.0-py3-none-any.whl", tmp_path, is_same=False).check()
    installable("llmos-needs-what-nobody-has==1.0")
    with fails_with(Unavailable):
        Installation(tmp_path / "llmos-9.0-py3-none-any.whl", tmp_path, is_same=False).check()


def test_a_source_may_be_named_from_the_folder_that_one_is_in(llmos, tmp_path, installable, monkeypatch):
    installable("llmos-needs-what-nobody-has==1.0")
    monkeypatch.chdir(tmp_path)
    code, _, error = llmos("upgrade", "./llmos-9.0-py3-none-any.whl", "--wheels", ".")
    assert (code, "llmos-needs-what-nobody-has" in error) == (1, True)  # pip has read the wheel


@pytest.fixture
def heard():
    """No signal is ignored, as a shell has it ignored for what it runs in the background."""
    before = {one: signal.signal(one, signal.SIG_DFL) for one in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    yield
    for one, handler in before.items():
        signal.signal(one, handler)


def killed(number, steps):
    try:
        os.kill(os.getpid(), number)
        signal.sigtimedwait([], 5)
    finally:
        os.kill(os.getpid(), number)  # once more: the way back goes on
        steps.append("started again")


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_kill_in_the_midst_ends_as_an_interrupt_so_that_all_is_started_again(number):
    before, steps = signal.getsignal(number), []
    with pytest.raises(KeyboardInterrupt), ending_in_order():
        killed(number, steps)
    assert (steps, signal.getsignal(number)) == (["started again"], before)


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending_in_order():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("at", "steps"),
    [
        ("stop", ["stop", "stopped", "started"]),
        ("install", ["stopped", "install", "installed", "stopped", "started"]),
        ("start", ["stopped", "installed", "stopped", "start", "started"]),
    ],
)
@pytest.mark.usefixtures("heard")
def test_whenever_it_is_interrupted_the_daemon_has_ended_and_is_started(at, steps):
    done = []

    def step(name, ended):
        if name == at and name not in done:
            done.append(name)
            signal.raise_signal(signal.SIGINT)
        done.append(ended)

    stop, install = partial(step, "stop", "stopped"), partial(step, "install", "installed")
    with suppress(KeyboardInterrupt), ending_in_order() as ending:
        exchange(stop, install, partial(step, "start", "started"), ending)
    assert done == steps


def test_pip_runs_where_a_terminal_s_interrupt_does_not_reach_it():
    done = run_apart([sys.executable, "-c", "import os; print(os.getsid(0) == os.getpid())"])
    assert done.stdout == "True\n"
