"""Runs of the benches whose results are kept: what goes on, what is not made again, and what the clock has seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.kept_runs import Measured, kept, run, version_of
from bench.stop import Stop

ARGS = {"name": "mood", "seed": 1}


class Box:
    """A daemon whose processes are as they are told here."""

    def __init__(self, *processes: dict[str, Any], ends: dict[str, Any] | None = None) -> None:  # Any: as JSON
        self.processes = {one["pid"]: one for one in processes}
        self.ends = ends or {"state": "exited", "exit_code": 0}
        self.asked: list[tuple[str, str]] = []

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        self.asked.append((method, path))
        if (method, path) == ("GET", "/v1/processes"):
            return {"data": list(self.processes.values())}
        if (method, path) == ("POST", "/v1/processes"):
            self.processes[9] = process(9, **self.ends)
            return self.processes[9]
        if path.endswith("/resume"):
            self.processes[int(path.split("/")[-2])] |= self.ends
            return {}
        return self.processes[int(path.split("/")[-1])]


def process(pid: int, cpu_s: float = 0.0, **more: Any) -> dict[str, Any]:
    spec = {"program": "train", "args": ARGS, "parent": more.pop("parent", None)}
    return {"pid": pid, "spec": spec, "usage": {"cpu_s": cpu_s}, "started_at": 1.0, **more}


def test_a_result_that_is_kept_is_not_made_again(tmp_path: Path):
    made: list[int] = []

    def make() -> Measured:
        made.append(1)
        return Measured(0.5, 0.4, 0.6)

    assert [kept(tmp_path / "at" / "one.json", Measured, make) for _ in range(2)] == [Measured(0.5, 0.4, 0.6)] * 2
    assert made == [1]


def test_a_run_that_was_begun_goes_on_and_so_does_its_clock(tmp_path: Path):
    clock = tmp_path / "clock.json"
    clock.write_text(json.dumps({"seconds": 100.0, "cpu_s": {"5 from 0.5": 7.0}}))
    box = Box(process(5, 3.0, state="interrupted", exit_code=0))
    found, taken = run(box, "train", ARGS, priority="batch", clock=clock)
    assert found["pid"] == 5
    assert taken.seconds >= 100.0
    assert taken.all_cpu_s == 10.0
    assert json.loads(clock.read_text())["cpu_s"] == {"5 from 0.5": 7.0, "5 from 1.0": 3.0}


@pytest.mark.parametrize("other", [{"program": "tune"}, {"args": {"name": "mood", "seed": 2}}])
def test_a_run_of_other_arguments_does_not_go_on(tmp_path: Path, other: dict[str, Any]):
    before = process(5, state="interrupted", exit_code=0)
    before["spec"] |= other
    clock = tmp_path / "clock.json"
    clock.write_text(json.dumps({"seconds": 100.0, "cpu_s": {}}))
    found, taken = run(Box(before), "train", ARGS, priority="batch", clock=clock)
    assert found["pid"] == 9
    assert taken.seconds < 100.0


def test_the_processor_time_is_that_of_the_children_too(tmp_path: Path):
    box = Box(process(10, 5.0, parent=9, state="exited"), process(11, 50.0, parent=3, state="exited"))
    box.ends |= {"cpu_s": 2.0}
    _, taken = run(box, "train", ARGS, priority="batch", clock=tmp_path / "clock.json")
    assert taken.all_cpu_s == 7.0


def test_a_run_that_fails_stops_the_bench_and_says_why():
    with pytest.raises(Stop) as stop:
        run(Box(ends={"state": "exited", "exit_code": 1, "reason": "no rows"}), "train", ARGS, priority="batch")
    assert "no rows" in str(stop.value)


def test_the_version_of_a_run_is_not_its_dataset():
    box = Box()
    box.ask = lambda method, path, body=None: path  # type: ignore[method-assign,misc]
    assert version_of(box, {"made": ["mood@1", "mood:2"]}) == "/v1/models/mood:2"
