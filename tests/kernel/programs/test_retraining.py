"""When a model is trained anew while people label, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadInput, BadSetting, NotFound
from llmos.abi.labelling import labels_to_learn, next_training_at
from llmos.abi.model import DatasetManifest, Kind, Manifest, split_dataset_ref
from llmos.abi.process import DONE, Priority, Process, Program, Progress, Spec, State
from llmos.kernel.programs import declaration_of, label_data, queue_data
from llmos.kernel.programs.declaration import AdmissionFacts
from llmos.kernel.programs.retraining import labelling_state


class Shelf:
    """A store with one dataset, `rows`, whose version says how many labels it has, a base, and these models."""

    def __init__(self, *models: Manifest) -> None:
        self.models = [Manifest("minilm", 1, Kind.BASE, "embed", ()), *models]
        self.newest = 100

    def dataset(self, ref: str) -> DatasetManifest:
        name, version = split_dataset_ref(ref)
        if name != "rows":
            raise NotFound(f"no {ref}")
        version = version or self.newest
        return DatasetManifest(name, version, "classify", (), splits={"train": version, "unlabelled": 900})

    def manifests(self) -> list[Manifest]:
        return self.models

    def resolve(self, ref: str) -> Manifest:
        for one in self.models:
            if ref in (one.name, one.ref):
                return one
        raise NotFound(f"no {ref}")

    def promoted(self, name: str) -> int | None:
        return 1


def version(number: int, labelled: int) -> Manifest:
    lineage = {"recipe": {"data": {"train": f"rows@{labelled}"}}}
    evidence = {"metrics": {"accuracy": 0.8}, "intervals": {"accuracy": {"low": 0.7, "high": 0.9}}}
    more: dict[str, Any] = {"base": "minilm:1", "lineage": lineage, "evidence": evidence}  # Any: fields of a manifest
    return Manifest("sorter", number, Kind.MODEL, "classify", (), **more)


def answered(labelled: int, **args: Any) -> Process:  # Any: an operation's arguments
    """An operation that has put answers in, so that so many rows have labels."""
    spec = Spec(Program("label-data"), {"data": f"rows@{labelled - 5}", "model": "sorter", **args})
    return Process(9, spec, State.EXITED, progress=Progress(DONE), made=(f"rows@{labelled}",))


def training(labelled: int, state: State, reason: str = "") -> Process:
    args = {"name": "sorter", "data": {"train": f"rows@{labelled}"}}
    return Process(7, Spec(Program("train"), args), state, reason=reason)


def follow(labelled: int, store: Shelf, *processes: Process, **args: Any) -> Spec | int | None:  # Any: as above
    anything: Any = store  # Any: as much of a store as is asked
    return declaration_of("label-data").follow_up(answered(labelled, **args), anything, list(processes))


@given(st.integers(0, 10**6), st.none() | st.integers(1, 10**4))
def test_the_next_training_waits_for_more_labels_than_the_last_one_had(labelled, every):
    assert next_training_at(labelled, every) >= labelled + 1
    assert every is None or next_training_at(labelled, every) == labelled + every


def test_trainings_by_default_cost_a_few_times_the_last_one():
    at, total = 0, 0
    while at < 10_000:
        at = next_training_at(at)
        total += at
    assert total < 6 * at


def test_the_first_training_starts_at_fifty_labels_and_the_next_at_fifty_more():
    assert follow(49, Shelf()) is None
    found = follow(50, Shelf(), settings={"epochs": 2}, base="minilm")
    assert isinstance(found, Spec)
    assert (found.program, found.priority) == ("train", Priority.BACKGROUND)
    assert (found.args["data"], found.args["base"], found.args["epochs"]) == ({"train": "rows@50"}, "minilm", 2)
    assert follow(99, Shelf(version(1, 50))) is None
    assert follow(100, Shelf(version(1, 50))) is not None


def test_test_rows_are_no_labels_that_a_training_waits_for():
    assert labels_to_learn({"train": 5, "validation": 2, "test": 900, "unlabelled": 50}) == 7


def test_a_training_says_which_labelling_it_is_of():
    found = follow(50, Shelf(), settings={"labelling": "another"})
    assert isinstance(found, Spec)
    assert found.args["labelling"] == "rows"


def test_as_many_labels_as_asked_lie_between_trainings_and_zero_starts_none():
    assert follow(60, Shelf(version(1, 50)), retrain=10) is not None
    assert follow(59, Shelf(version(1, 50)), retrain=10) is None
    assert follow(900, Shelf(), retrain=0) is None
    assert follow(900, Shelf(), model=None) is None


def test_one_training_at_a_time_and_an_interrupted_one_goes_on():
    assert follow(500, Shelf(), training(50, State.READY)) is None
    assert follow(500, Shelf(), training(50, State.INTERRUPTED, "the daemon ended")) == 7
    assert follow(500, Shelf(), training(50, State.INTERRUPTED, "stopped by the user")) is None


def test_a_training_that_failed_is_not_tried_again_with_the_same_labels():
    failed = training(50, State.EXITED)
    assert follow(55, Shelf(), failed) is None
    assert follow(100, Shelf(), failed) is not None


def test_a_queue_lets_an_interrupted_training_go_on():
    ended = Process(9, Spec(Program("queue-data"), {"data": "rows@60", "model": "sorter"}), State.EXITED)
    store: Any = Shelf()
    found = queue_data.PROGRAM.follow_up(ended, store, [training(50, State.INTERRUPTED, "the daemon ended")])
    assert found == 7
    assert queue_data.PROGRAM.follow_up(ended, store, []) is None


def test_the_state_has_labels_model_training_and_what_is_waited_for():
    store: Any = Shelf(version(1, 50), version(2, 60))
    running = replace(training(80, State.READY), progress=Progress("train", 3, 12))
    found = labelling_state(store.dataset("rows"), "sorter", None, store, [running])
    assert (found.dataset, found.labelled, found.unlabelled, found.next_at) == ("rows@100", 100, 900, 130)
    assert found.model is not None
    assert (found.model.ref, found.model.labelled, found.model.value, found.model.is_promoted) == (
        "sorter:2",
        60,
        0.8,
        False,
    )
    assert found.training is not None
    assert (found.training.labelled, found.training.share) == (80, 0.25)
    bare = labelling_state(store.dataset("rows"), None, None, store, [running])
    assert (bare.model, bare.training, bare.next_at) == (None, None, None)


@pytest.mark.parametrize(
    ("kind", "key", "args"),
    [
        (BadInput, "retrain", {"model": "sorter", "retrain": -1}),
        (BadInput, "retrain", {"retrain": 10}),
        (BadSetting, "method", {"model": "sorter", "settings": {"method": "magic"}}),
        (BadSetting, "epoch", {"model": "sorter", "settings": {"epoch": 2}}),
        (BadInput, "name", {"model": "minilm"}),
        (BadInput, "base", {"model": "other", "base": "sorter"}),
        (BadInput, "model", {"model": "rows"}),
    ],
)
def test_a_training_that_cannot_be_is_refused_before_anybody_labels(tmp_path: Path, kind, key, args):
    said = tmp_path / "answers.jsonl"
    said.write_text("")
    store: Any = Shelf(version(1, 50))
    spec = Spec(Program("label-data"), {"data": "rows", "answers": str(said), **args})
    with pytest.raises(kind) as raised:
        label_data.PROGRAM.check(spec, None, AdmissionFacts(store))
    assert raised.value.detail["key"] == key
