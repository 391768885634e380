"""The crew: a step's gradients are the same sums however many compute them, and it ends with its trainer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.torch

ALONE = """
import os, signal, sys, torch
from llmos.training.gradient_workers import GradientWorkers
weights = {"w": torch.nn.Parameter(torch.ones(3))}
def compute(part, masses):
    loss = (weights["w"] * len(part)).sum() / masses[0]
    loss.backward()
    return [float(loss.detach())]
with GradientWorkers(weights, set(), compute, 2, seed=7) as crew:
    crew.gradients(0, [0, 1], [1, 1], [1.0])
    print(crew._workers[0].os_pid, flush=True)
    if sys.argv[1] == "trainer":
        os.kill(os.getpid(), signal.SIGKILL)
    os.kill(crew._workers[0].os_pid, signal.SIGKILL)
    try:
        crew.gradients(1, [0, 1], [1, 1], [1.0])
    except Exception as error:
        print(type(error).__name__, error, flush=True)
"""


@settings(deadline=None)  # the first example imports torch
@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=64),
    st.integers(1, 8),
)
def test_shares_hold_every_example_once_and_none_is_empty(lengths: list[int], size: int) -> None:
    from llmos.training.gradient_workers import shares

    parts = shares(range(len(lengths)), lengths, size)
    assert sorted(i for part in parts for i in part) == list(range(len(lengths)))
    assert all(parts)
    assert len(parts) <= size
    heaviest = max(sum(lengths[i] for i in part) for part in parts)
    assert heaviest <= sum(lengths) / size + max(lengths)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_two_compute_the_sums_that_one_computes_and_draw_the_same_numbers_again(dropout: float) -> None:
    import torch
    from torch import nn

    from llmos.training.gradient_workers import GradientWorkers

    torch.manual_seed(3)
    examples = torch.randint(0, 50, (12, 5))
    table, layer = nn.Embedding(50, 8, sparse=True), nn.Sequential(nn.Dropout(dropout), nn.Linear(8, 3))
    weights = {"table": table.weight, **dict(layer.named_parameters())}

    def compute(part: object, normalizers: list[float]) -> list[float]:
        loss = layer(table(examples[part])).square().sum() / normalizers[0]
        loss.backward()
        return [float(loss.detach())]

    def computed(size: int) -> tuple[float, dict[str, torch.Tensor]]:
        with GradientWorkers(weights, {"table"}, compute, size, seed=7) as crew:
            (loss,) = crew.gradients(4, range(12), [5] * 12, [12.0])
        found = {name: p.grad.to_dense().clone() for name, p in weights.items()}
        for parameter in weights.values():
            parameter.grad = None
        return loss, found

    loss, found = computed(3)
    again, same = computed(3)
    assert loss == again
    assert all(torch.equal(found[name], same[name]) for name in weights)
    if not dropout:
        alone, sums = computed(1)
        assert loss == pytest.approx(alone, rel=1e-6)
        assert all(torch.allclose(found[name], sums[name], atol=1e-6) for name in weights)


def test_a_worker_ends_with_its_trainer_even_if_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", ALONE, "trainer"], stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout is not None
        worker = int(trainer.stdout.readline())
        assert trainer.wait() == -signal.SIGKILL
    try:
        watched = os.pidfd_open(worker)
    except ProcessLookupError:
        return
    import select

    ended, _, _ = select.select([watched], [], [], 10)
    os.close(watched)
    assert ended


def test_a_worker_that_dies_ends_the_step_with_a_sentence() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE, "worker"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1].startswith("Unavailable A gradient worker has died")


def test_a_run_in_two_shares_learns_what_a_run_alone_learns(tmp_path: Path) -> None:
    from dataclasses import replace

    import tiny_training

    from llmos.programs import train
    from llmos.testing.daemon import beside

    path = tiny_training.sorting(tmp_path)
    recipe = {"task": "classify", "epochs": 10.0, "data": {"train": str(path)}}
    daemon, channel, close = beside()
    try:
        train.main(channel, replace(tiny_training.assignment(tmp_path, recipe), threads=2))
    finally:
        close()
    assert next(iter(daemon.offers[1].draft["evidence"]["metrics"].values())) > 0.8
