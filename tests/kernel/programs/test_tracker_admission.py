"""The admission of a training with a tracker: refused at once where its package is not there."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.process import Spec
from llmos.abi.tracking import PACKAGES
from llmos.kernel.admission import admit
from llmos.kernel.store.store import Store
from llmos.testing.errors import fails_with
from llmos.testing.models import add_base

MISSING = [name for name, package in PACKAGES.items() if find_spec(package) is None]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path)
    add_base(made)
    (tmp_path / "rows.csv").write_text("text,label\n")
    return made


def spec(store: Store, program: str, **more: Json) -> Spec:
    rows = str(store.home / "rows.csv")
    return Spec(program, {"name": "less", "base": "tiny", "task": "classify", "data": {"train": rows}, **more})


@pytest.mark.parametrize("program", ["train", "tune"])
@pytest.mark.parametrize("name", MISSING)
def test_a_tracker_without_its_package_is_refused_before_the_queue(store: Store, name: str, program: str) -> None:
    with fails_with(BadInput, key="track", lacks=PACKAGES[name]):
        admit(spec(store, program, track=name), store, 0)


@pytest.mark.parametrize("name", MISSING)
def test_a_folder_of_the_packages_name_is_no_package(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "path" / PACKAGES[name]).mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "path")
    with fails_with(BadInput, key="track", lacks=PACKAGES[name]):
        admit(spec(store, "train", track=name), store, 0)
    (tmp_path / "path" / PACKAGES[name] / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path / "path")  # so that what was not found is looked for anew
    admitted, _ = admit(spec(store, "train", track=name), store, 0)
    assert admitted.args["track"] == name
