"""The admission of weak-label-data: what can be told before the rules are read is refused at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmos.abi.device import LeaseKind
from llmos.abi.error import BadInput, NotFound
from llmos.abi.json_type import Json
from llmos.abi.model import DatasetManifest, Kind, Manifest
from llmos.abi.process import Spec
from llmos.kernel.processes.footprint import FootprintFacts
from llmos.kernel.programs.declaration import AdmissionFacts
from llmos.kernel.programs.weak_label_data import PROGRAM
from llmos.testing.errors import fails_with


class Shelf:
    """What the store is asked: datasets of several tasks, and two models."""

    def dataset(self, ref: str) -> DatasetManifest:
        name = ref.partition("@")[0]
        splits = {"train": 9} if name == "known" else {"train": 9, "unlabelled": 5}
        task = "generate" if name == "prompts" else "classify"
        return DatasetManifest(name, 3, task, (), splits=splits, options={"multi_label": name == "many"})

    def resolve(self, ref: str) -> Manifest:
        if ref not in ("minilm", "topics"):
            raise NotFound(f"no {ref}")
        return Manifest(ref, 2, Kind.BASE if ref == "minilm" else Kind.MODEL, "embed", ())


@pytest.fixture
def rules(tmp_path: Path) -> str:
    path = tmp_path / "rules.yaml"
    path.write_text("rules:\n  - {label: a, keywords: [x]}\n")
    return str(path)


def checked(data: str = "rows", **args: Json) -> Spec:
    store: Any = Shelf()  # Any: as much of a store as the check asks
    return PROGRAM.check(Spec(PROGRAM.name, {"data": data, **args}), None, AdmissionFacts(store))


def test_dataset_and_models_are_named_with_their_versions(rules: str) -> None:
    args = checked(rules=rules, models=["minilm", "topics"]).args
    assert (args["data"], args["name"], args["combine"]) == ("rows@3", "rows", "dawid-skene")
    assert args["refs"] == {"minilm": "minilm:2", "topics": "topics:2"}


def test_rules_that_ask_no_model_run_in_a_light_process(rules: str) -> None:
    light, heavy = checked(rules=rules), checked(rules=rules, models=["minilm"])
    assert PROGRAM.is_light(light)
    assert not PROGRAM.is_light(heavy)
    facts = FootprintFacts(kv_bytes=1)
    assert set(PROGRAM.footprint(light, None, facts)) == {LeaseKind.WORKSPACE}
    assert LeaseKind.WEIGHTS in PROGRAM.footprint(heavy, None, facts)


@pytest.mark.parametrize(
    ("detail", "args"),
    [
        ({"key": "combine"}, {"combine": "mean"}),
        ({"key": "least"}, {"least": 1.5}),
        ({"split": "unlabelled"}, {"data": "known"}),
        ({"task": "generate"}, {"data": "prompts"}),
        ({"task": "classify"}, {"data": "many"}),
        ({"file": "/nowhere.yaml"}, {"rules": "/nowhere.yaml"}),
        ({"key": "rules"}, {"rules": ""}),
    ],
)
def test_what_cannot_work_is_refused(detail: dict[str, Json], args: dict[str, Any], rules: str) -> None:
    with fails_with(BadInput, **detail):
        checked(**{"rules": rules, **args})


def test_a_model_that_is_not_here_is_said(rules: str) -> None:
    with fails_with(NotFound):
        checked(rules=rules, models=["other"])
