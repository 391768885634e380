"""restart and upgrade: what is checked before anything is stopped. Whole upgrades are in tests/acceptance."""

import zipfile

import pytest

from llmos.cli.main import run_verb
from llmos.kernel.home_format import FORMAT, PAGE

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
