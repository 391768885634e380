"""Files below `data_roots` as a process opens them: a link that was swapped in behind the check leads nowhere."""

from __future__ import annotations

import pytest

from llmos.abi.error import PathNotAllowed
from llmos.abi.recipe import Data
from llmos.abi.roots import open_below, restrict
from llmos.config import Config
from llmos.data.formats import format_of
from llmos.data.reader import read_rows
from llmos.kernel.paths import Roots
from llmos.programs.sources import from_folder
from llmos.testing.errors import fails_with

ROWS = b"text,label\nhello,a\nbye,b\n"


@pytest.fixture
def box(tmp_path):
    """A root with rows in a folder, a secret of the same names outside, and this process as one that was started."""
    for name in ("root/data", "secret/data"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "rows.csv").write_bytes(ROWS if name.startswith("root") else ROWS.replace(b"hello", b"secret"))
        (folder / "rows").write_bytes(ROWS)
    roots = Roots(Config(tmp_path, host="0.0.0.0", insecure=True, data_roots=(tmp_path / "root",)))
    restrict(roots.folders)
    yield tmp_path, roots
    restrict(())


def swap_file(folder):
    for name in ("rows.csv", "rows"):
        (folder / "root/data" / name).unlink()
        (folder / "root/data" / name).symlink_to(folder / "secret/data" / name)


def swap_folder(folder):
    (folder / "root/data").rename(folder / "root/gone")
    (folder / "root/data").symlink_to(folder / "secret/data")


@pytest.mark.parametrize("swap", [swap_file, swap_folder])
def test_what_was_checked_is_what_is_read(box, swap):
    folder, roots = box
    named = roots.with_real_paths("train", {"data": {"train": str(folder / "root/data/rows.csv")}})["data"]["train"]
    assert [row.input["text"] for row in read_rows(named, Data(named), "classify", {}).rows] == ["hello", "bye"]
    swap(folder)
    with fails_with(PathNotAllowed, key="data_roots", value=named):
        read_rows(named, Data(named), "classify", {})
    with pytest.raises(PathNotAllowed):
        format_of(folder / "root/data/rows")


def test_a_folder_that_is_pulled_is_copied_from_below_the_root_alone(box):
    folder, _ = box
    for name in ("root", "secret"):
        for file in ("config.json", "model.safetensors", "tokenizer.json"):
            (folder / name / "data" / file).write_text("{}")
    swap_folder(folder)
    target = folder / "copy"
    target.mkdir()
    with pytest.raises(PathNotAllowed):
        from_folder(folder / "root/data", target, None, None)
    assert not any(target.iterdir())


def test_a_link_that_stays_below_the_root_is_followed(box):
    folder, _ = box
    (folder / "root/other").symlink_to(folder / "root/data")
    with open_below(folder / "root/other/rows.csv") as file:
        assert file.read() == ROWS


def test_what_the_daemon_itself_names_is_elsewhere_and_opened_as_it_is(box):
    folder, _ = box
    (folder / "link").symlink_to(folder / "secret")
    with open_below(folder / "link/data/rows.csv") as file:
        assert b"secret" in file.read()
