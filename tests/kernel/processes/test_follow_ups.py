"""What starts because another process has ended well."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from llmos.abi.error import BadInput, Fault
from llmos.abi.model import DatasetManifest, Kind, Manifest
from llmos.abi.process import DONE, Process, Program, Progress, Spec, State
from llmos.kernel.processes.follow_ups import FollowUps

ARGS = {"data": "rows@50", "model": "sorter"}
ENDED = Process(1, Spec(Program("label-data"), ARGS), State.EXITED, progress=Progress(DONE), made=("rows@60",))


class Shelf:
    """A store with rows and these models."""

    def __init__(self, *models: Manifest) -> None:
        self.models = list(models)

    def dataset(self, ref: str) -> DatasetManifest:
        return DatasetManifest("rows", int(ref.partition("@")[2]), "classify", (), splits={"train": 60})

    def manifests(self) -> list[Manifest]:
        return self.models

    def datasets(self) -> list[DatasetManifest]:
        return []

    def promotions(self, name: str) -> tuple[int, ...]:
        return ()


class Service:
    """Remembers what was asked of it."""

    def __init__(self, *processes: Process, is_full: bool = False) -> None:
        self.processes, self.is_full = list(processes), is_full
        self.done: list[object] = []

    def all(self) -> list[Process]:
        return list(self.processes)

    async def submit(self, spec: Spec) -> Process:
        self.done.append(spec.args["data"])
        if self.is_full:
            raise BadInput("no room")
        self.processes.append(Process(5, spec))
        return self.processes[-1]

    async def remove(self, refs: Any) -> None:
        self.done.append(refs)

    async def resume(self, pid: int) -> Process:
        self.done.append(pid)
        return self.processes[-1]


def look_at(service: Any, *processes: Process, models: Sequence[Manifest] = ()) -> list[object]:
    # Any: as much of a service as is asked
    async def main() -> None:
        store: Any = Shelf(*models)  # Any: likewise
        follow_ups = FollowUps(store, service, service.remove)
        for one in processes:
            follow_ups.look(one)
        await follow_ups.close()

    asyncio.run(main())
    found: list[object] = service.done
    return found


def test_a_training_follows_answers_once_whatever_else_ends():
    assert look_at(Service(), ENDED, ENDED) == [{"train": "rows@60"}]


@pytest.mark.parametrize(
    "ended",
    [
        replace(ENDED, state=State.READY),
        replace(ENDED, state=State.INTERRUPTED),
        replace(ENDED, fault=Fault("bad_input", "no")),
        replace(ENDED, progress=None),
        replace(ENDED, spec=Spec(Program("gone"), ARGS)),
        replace(ENDED, spec=Spec(Program("split-data"), ARGS)),
    ],
)
def test_nothing_follows_what_has_not_ended_well_or_declares_nothing(ended):
    assert look_at(Service(), ended) == []


def test_an_interrupted_training_goes_on():
    args = {"name": "sorter", "data": {"train": "rows@50"}}
    lost = Process(3, Spec(Program("train"), args), State.INTERRUPTED, reason="the daemon ended")
    assert look_at(Service(lost), ENDED) == [3]


def test_a_refusal_is_logged_and_stops_nothing(caplog):
    assert len(look_at(Service(is_full=True), ENDED)) == 1
    assert "no room" in caplog.text


def test_candidates_that_nobody_needs_go_after_the_training_that_made_a_newer_one():
    lineage = {"recipe": {"labelling": "rows"}}
    models = [Manifest("sorter", n, Kind.MODEL, "classify", (), base="minilm:1", lineage=lineage) for n in (1, 2)]
    trained = Process(3, Spec(Program("train"), {"name": "sorter", "labelling": "rows"}), State.EXITED)
    trained = replace(trained, progress=Progress(DONE), made=("sorter:2",))
    assert look_at(Service(), trained, models=models) == [["sorter:1"]]
    assert look_at(Service(), replace(trained, fault=Fault("bad_input", "no")), models=models) == []
