"""The admission of queue-data and label-data: what can be told before the rows are read is refused at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmos.abi.disagreement_file import FILE, open_disagreements
from llmos.abi.error import BadInput, LlmosError, NotFound
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.model import DatasetManifest, Kind, Manifest
from llmos.abi.process import Spec
from llmos.config import Config
from llmos.kernel.programs import label_data, queue_data
from llmos.kernel.programs.declaration import AdmissionFacts
from llmos.kernel.programs.disagreements import FILE_ARGUMENT, with_disagreements
from llmos.testing.errors import fails_with


class Shelf:
    """What the store is asked: a dataset with unlabelled rows, one without, and perhaps a base."""

    def __init__(self, *, has_base: bool = True) -> None:
        self.has_base = has_base

    def dataset(self, ref: str) -> DatasetManifest:
        name = ref.partition("@")[0]
        splits = {"known": {"train": 9}, "raw": {"unlabelled": 5}}.get(name, {"train": 9, "unlabelled": 5})
        return DatasetManifest(name, 3, "tag" if name == "tagged" else "classify", (), splits=splits)

    def found(self, name: str) -> None:
        if name != "support":
            raise NotFound(f"no {name}")

    def resolve(self, ref: str) -> Manifest:
        if not self.has_base:
            raise NotFound(f"no {ref}")
        return Manifest(ref, 2, Kind.MODEL if ref == "sorter" else Kind.BASE, "embed", ())


def checked(program: Any, *, has_base: bool = True, data: str = "rows", **args: Json) -> Spec:
    store: Any = Shelf(has_base=has_base)  # Any: as much of a store as the check asks
    return program.PROGRAM.check(Spec(program.PROGRAM.name, {"data": data, **args}), None, AdmissionFacts(store))


def test_a_queue_names_its_dataset_base_and_strategy() -> None:
    args = checked(queue_data).args
    assert (args["data"], args["base"], args["n"], args["strategy"]) == ("rows@3", "minilm:2", 20, "margin")


def test_a_second_opinion_needs_no_base_and_no_row_without_a_label() -> None:
    args = checked(queue_data, has_base=False, data="known", second="bob").args
    assert (args["data"], args["second"], args["n"]) == ("known@3", "bob", 20)


@pytest.mark.parametrize(
    ("kind", "key", "args"),
    [
        (BadInput, "second", {"data": "raw", "second": "bob"}),
        (BadInput, "n", {"n": 1001}),
        (BadInput, "n", {"n": 0}),
        (BadInput, "n", {"n": -1}),
        (BadInput, "strategy", {"strategy": "best"}),
        (BadInput, "base", {"base": "sorter"}),
        (BadInput, "base", {"has_base": False}),
        (BadInput, "split", {"data": "known"}),
    ],
)
def test_a_queue_that_cannot_be_made_is_refused(kind: type[LlmosError], key: str, args: dict[str, Any]) -> None:
    with pytest.raises(kind) as raised:
        checked(queue_data, **args)
    assert key in (raised.value.detail.get("key"), *raised.value.detail)


def test_answers_are_a_file_and_go_to_a_labelled_split(tmp_path: Path) -> None:
    said = tmp_path / "answers.jsonl"
    said.write_text("")
    args = checked(label_data, answers=str(said)).args
    assert (args["data"], args["name"]) == ("rows@3", "rows")
    assert checked(label_data, answers=str(said), name="more", split="test").args["name"] == "more"
    with fails_with(BadInput, key="split", value="unlabelled", expected=...):
        checked(label_data, answers=str(said), split="unlabelled")
    with fails_with(BadInput, key="answers"):
        checked(label_data)
    with fails_with(BadInput, file="/nowhere.jsonl"):
        checked(label_data, answers="/nowhere.jsonl")


def test_disagreements_are_rows_to_ask_about_where_no_other_is_left() -> None:
    args = checked(queue_data, data="known", disagreements="support").args
    assert (args["data"], args["disagreements"]) == ("known@3", "support")
    with fails_with(NotFound):
        checked(queue_data, disagreements="nobody")
    with fails_with(BadInput, key="disagreements"):
        checked(queue_data, data="tagged", disagreements="support")


def test_a_job_is_told_of_the_file_of_disagreements_once_there_is_one(tmp_path: Path) -> None:
    config = Config(tmp_path)
    job = Job(1, "", {"data": "rows@3", "model": "support"}, "")
    assert with_disagreements(job, config) == job
    with open_disagreements(tmp_path / FILE):
        pass
    assert with_disagreements(job, config).args == {**job.args, FILE_ARGUMENT: str(tmp_path / FILE)}
    named = with_disagreements(Job(1, "", {"disagreements": "mood", "model": "support"}, ""), config)
    assert (named.args["disagreements"], named.args[FILE_ARGUMENT]) == ("mood", str(tmp_path / FILE))
    assert with_disagreements(Job(1, "", {"data": "rows@3"}, ""), config).args == {"data": "rows@3"}
