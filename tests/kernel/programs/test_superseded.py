"""Which candidates go when a newer one of the same labelling is here, and which stay whatever comes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.model import DatasetManifest, Kind, Manifest
from llmos.abi.process import DONE, Process, Program, Progress, Spec, State
from llmos.kernel.programs import declaration_of
from llmos.kernel.programs.superseded import superseded_candidates


class Shelf:
    """A store with these models and datasets, of which some were promoted in this order."""

    def __init__(self, *models: Manifest, promoted: tuple[int, ...] = (), made: tuple[DatasetManifest, ...] = ()):
        self.models, self.history, self.made = models, promoted, made

    def manifests(self) -> list[Manifest]:
        return list(self.models)

    def datasets(self) -> list[DatasetManifest]:
        return list(self.made)

    def promotions(self, name: str) -> tuple[int, ...]:
        return self.history if name == "sorter" else ()


def version(number: int, labelling: str = "rows", dtype: str = "", name: str = "sorter", **more: Any) -> Manifest:
    lineage = {"recipe": {"labelling": labelling, **more.pop("recipe", {})}}
    fields: dict[str, Any] = {"base": "minilm:1", "lineage": lineage, "dtype": dtype, **more}
    return Manifest(name, number, Kind.MODEL, "classify", (), **fields)


def working(state: State = State.READY, **args: Any) -> Process:
    return Process(4, Spec(Program("evaluate"), args), state)


def gone(store: Shelf, *processes: Process) -> list[str]:
    anything: Any = store
    return superseded_candidates("sorter", anything, processes)


THREE = (version(1), version(2), version(3))


def test_older_candidates_of_the_labelling_go_and_the_newest_stays():
    assert gone(Shelf(*THREE)) == ["sorter:1", "sorter:2"]


@given(st.sets(st.integers(1, 8), min_size=1), st.lists(st.integers(1, 8)))
def test_what_is_promoted_what_rollback_returns_to_and_the_newest_stay(numbers, promoted):
    found = gone(Shelf(*map(version, numbers), promoted=tuple(promoted)))
    assert {int(one.partition(":")[2]) for one in found} == numbers - {max(numbers)} - set(promoted[-2:])


def test_the_best_of_a_labelling_stays_too():
    measured = [version(i, evidence={"metrics": {"accuracy": found}}) for i, found in ((1, 0.7), (2, 0.86), (3, 0.8))]
    assert gone(Shelf(*measured, version(4))) == ["sorter:1", "sorter:3"]


def test_versions_of_a_user_of_another_dataset_or_of_another_dtype_stay():
    assert gone(Shelf(version(1, ""), version(2, "others"), version(3, dtype="int8"), version(4))) == []
    assert gone(Shelf(version(1), version(2, dtype="int8"), version(3), version(4, dtype="int8"))) == [
        "sorter:1",
        "sorter:2",
    ]


def test_what_another_model_or_dataset_was_made_with_stays():
    pupil = version(1, name="pupil", recipe={"teacher": "sorter:1"})
    voted = DatasetManifest("raw", 2, "classify", (), provenance={"operation": {"rules": [{"model": "sorter:2"}]}})
    assert gone(Shelf(*THREE, pupil)) == ["sorter:2"]
    assert gone(Shelf(*THREE, made=(voted,))) == ["sorter:1"]
    assert gone(Shelf(*THREE, version(1, name="small", base="sorter:1"))) == ["sorter:2"]


@pytest.mark.parametrize("state", [State.QUEUED, State.READY, State.INTERRUPTED])
def test_what_a_process_works_with_stays_until_it_has_ended(state):
    assert gone(Shelf(*THREE), working(state, model="sorter:1")) == ["sorter:2"]
    assert gone(Shelf(*THREE), working(state, refs={"a": "sorter:2"})) == ["sorter:1"]
    assert gone(Shelf(*THREE), working(state, model="sorter")) == [], "it may have taken any of them"
    assert len(gone(Shelf(*THREE), working(State.EXITED, model="sorter:1"))) == 2


def test_models_go_after_a_labelling_s_training_or_queue_alone():
    store: Any = Shelf(*THREE)

    def after(program: str, **args: Any) -> list[str]:
        ended = Process(9, Spec(Program(program), args), State.EXITED, progress=Progress(DONE))
        return declaration_of(program).models_to_remove(ended, store, [ended])

    assert after("train", name="sorter", labelling="rows") == ["sorter:1", "sorter:2"]
    assert after("queue-data", model="sorter", data="rows@5") == ["sorter:1", "sorter:2"]
    assert after("train", name="sorter") == []
    assert after("queue-data", data="rows@5") == []
