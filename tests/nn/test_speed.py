"""Speeds are of one core and of every run by its name, whatever the number of threads was."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from llmos.nn.speed import tokens_per_second

pytestmark = pytest.mark.torch


def test_runs_take_turns_on_one_thread_and_each_has_a_speed() -> None:
    turns: list[tuple[str, int]] = []
    before = torch.get_num_threads()

    def run(name: str) -> None:
        turns.append((name, torch.get_num_threads()))
        torch.ones(64, 64) @ torch.ones(64, 64)

    found = tokens_per_second({"one": (lambda: run("one"), 10), "two": (lambda: run("two"), 1000)}, rounds=2)
    assert turns == [("one", 1), ("two", 1)] * 3
    assert found.keys() == {"one", "two"}
    assert all(speed > 0 for speed in found.values())
    assert torch.get_num_threads() == before
