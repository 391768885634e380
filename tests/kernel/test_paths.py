"""Which files a request may name: all on a loopback address, elsewhere what lies below the setting's folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmos.abi.device import Device
from llmos.abi.error import PathNotAllowed
from llmos.abi.gate import gate_policy
from llmos.abi.process import Process, Spec
from llmos.config import Config
from llmos.kernel.admission import assignment
from llmos.kernel.paths import Roots
from llmos.kernel.store.store import Store
from llmos.testing.errors import fails_with
from llmos.testing.models import add_base

CPU = Device("cpu0", "cpu", "A processor", 1 << 30)
SECRET = "/etc/passwd"


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "rows.csv").write_text("text,label\n")
    return folder


def roots(home, *folders, host="0.0.0.0"):
    return Roots(Config(home, host=host, insecure=True, data_roots=folders))


NAMED = {
    "rows to train on": ("train", lambda path: {"data": {"train": path}}),
    "rows to validate on": ("train", lambda path: {"data": {"train": "rows@1", "validation": path}}),
    "rows to test on": ("train", lambda path: {"data": {"train": "rows@1", "test": path}}),
    "rows to evaluate on": ("evaluate", lambda path: {"data": path}),
    "rows of a file with columns": ("evaluate", lambda path: {"data": {"train": path, "text": "a"}}),
    "rows to quantize by": ("quantize", lambda path: {"data": path}),
    "a folder to pull": ("pull", lambda path: {"source": path}),
}


def test_a_suite_of_the_gate_is_a_file_like_any_other(tmp_path, root):
    (root / "x.yaml").symlink_to(SECRET)
    for path in (SECRET, str(root / "x.yaml"), str(root / ".." / "x.yaml")):
        assert roots(tmp_path, host="localhost").with_real_suites(gate_policy([f"suite:{path}"])).require[1:]
        with pytest.raises(PathNotAllowed):
            roots(tmp_path, root).with_real_suites(gate_policy([f"suite:{path}"]))
    policy = gate_policy([f"suite:{root / 'y.yaml'}", "f1>=0.8"], 0.01)
    assert roots(tmp_path, root).with_real_suites(policy) == policy


@pytest.mark.parametrize(("program", "args"), NAMED.values(), ids=NAMED)
def test_without_the_setting_paths_are_read_as_they_are_on_loopback_only(tmp_path, program, args):
    for host in ("127.0.0.1", "::1", "localhost"):
        assert roots(tmp_path, host=host).with_real_paths(program, args(SECRET)) == args(SECRET)
    with pytest.raises(PathNotAllowed) as refused:
        roots(tmp_path).with_real_paths(program, args(SECRET))
    assert refused.value.detail == {"key": "data_roots", "value": SECRET}


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
@pytest.mark.parametrize(("program", "args"), NAMED.values(), ids=NAMED)
def test_only_what_lies_below_a_folder_of_the_setting_is_read(tmp_path, root, host, program, args):
    known = roots(tmp_path, root, host=host)
    inside = str(root / "rows.csv")
    assert known.with_real_paths(program, args(inside)) == args(inside)
    for outside in (SECRET, f"{root}/../secret", f"{root}-beside/rows.csv"):
        with pytest.raises(PathNotAllowed):
            known.with_real_paths(program, args(outside))


@pytest.mark.parametrize(("program", "args"), NAMED.values(), ids=NAMED)
def test_a_symbolic_link_is_followed_before_it_is_compared(tmp_path, root, program, args):
    (root / "out").symlink_to(SECRET)
    (root / "etc").symlink_to("/etc")
    (root / "in").symlink_to(root / "rows.csv")
    for outside in ("out", "etc/passwd"):
        with pytest.raises(PathNotAllowed):
            roots(tmp_path, root).with_real_paths(program, args(str(root / outside)))
    (root / "out").unlink()
    (root / "etc").unlink()
    assert roots(tmp_path, root).with_real_paths(program, args(str(root / "in"))) == args(str(root / "rows.csv"))


def test_a_root_may_be_a_link_itself(tmp_path, root):
    (tmp_path / "link").symlink_to(root)
    found = roots(tmp_path, tmp_path / "link").with_real_paths(
        "evaluate", {"data": str(tmp_path / "link" / "rows.csv")}
    )
    assert found == {"data": str(root / "rows.csv")}


def test_nothing_in_a_folder_that_is_pulled_leads_out(tmp_path, root):
    model = root / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    assert roots(tmp_path, root).with_real_paths("pull", {"source": str(model)}) == {"source": str(model)}
    (model / "tokenizer.json").symlink_to(SECRET)
    with fails_with(PathNotAllowed, key="data_roots", value=str(model / "tokenizer.json")):
        roots(tmp_path, root).with_real_paths("pull", {"source": str(model)})


@pytest.mark.parametrize("source", ["~/model", "../model", "./model", "a/b"])
def test_every_spelling_that_a_puller_takes_for_a_folder_is_one(tmp_path, root, source):
    with pytest.raises(PathNotAllowed):
        roots(tmp_path, root).with_real_paths("pull", {"source": source})


@pytest.mark.parametrize("source", ["minilm", "hf:org/name@main"])
def test_a_name_of_the_catalog_and_a_repository_are_no_paths(tmp_path, source):
    assert roots(tmp_path).with_real_paths("pull", {"source": source}) == {"source": source}


def test_a_link_that_is_put_there_while_the_process_waits_is_seen_as_it_starts(tmp_path, root):
    store = Store(tmp_path)
    add_base(store)
    config = Config(tmp_path, host="0.0.0.0", insecure=True, data_roots=(root,))
    rows = root / "rows.csv"
    args = Roots(config).with_real_paths("evaluate", {"model": "tiny:1", "data": str(rows)})
    process = Process(7, Spec("evaluate", args))
    assert assignment(process, store, config, CPU).args["data"] == str(rows)
    rows.unlink()
    rows.symlink_to(SECRET)
    with pytest.raises(PathNotAllowed):
        assignment(process, store, config, CPU)


@pytest.mark.parametrize("path", ["/a\0b", "/" + "x" * 5000])
def test_a_path_that_no_system_opens_is_refused(tmp_path, root, path):
    with pytest.raises(PathNotAllowed):
        roots(tmp_path, root).with_real_paths("evaluate", {"data": path})


def test_what_is_no_path_at_all_is_left_to_whoever_checks_it(tmp_path):
    for args in ({}, {"data": 3}, {"data": {"train": None}}, {"data": []}, {"source": 3}):
        assert roots(Path(tmp_path)).with_real_paths("pull", args) == args
