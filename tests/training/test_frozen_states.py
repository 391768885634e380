"""A head alone is trained on vectors that its frozen base gives once: the same logits, the same weights, once a row."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.test_steps import made_run

pytestmark = pytest.mark.torch


def test_kept_vectors_give_the_logits_that_the_whole_model_gives(tmp_path: Path, dtype: str) -> None:
    import torch

    run = made_run(tmp_path, method="head", dtype=dtype)
    run.candidate.train(False)
    assert run.states.compute(lambda done, count: False)
    some = [7, 0, 31, 4]
    with torch.no_grad():
        whole = run.candidate.logits([ids for i in some for ids in run.examples[i].sequences])
        torch.testing.assert_close(run.states.logits(some), whole, atol=1e-5 if dtype == "float32" else 2e-2, rtol=1e-3)


def test_a_token_head_has_a_vector_of_every_token(tmp_path: Path) -> None:
    import torch

    from llmos.nn.adapters.head import TokenHead
    from llmos.training.frozen_states import states_for

    run = made_run(tmp_path, method="head")
    run.candidate.head = TokenHead(run.candidate.loaded.hidden_size, 5)
    run.candidate.train(False)
    states = states_for(run.candidate, run.examples)
    assert states is not None
    assert states.compute(lambda done, count: False)
    some = [3, 30, 3]
    with torch.no_grad():
        whole = run.candidate.logits([ids for i in some for ids in run.examples[i].sequences])
        torch.testing.assert_close(states.logits(some), whole, atol=1e-5, rtol=1e-4)


def test_a_run_on_kept_vectors_learns_what_a_run_through_the_base_learns(tmp_path: Path) -> None:
    import torch

    results = []
    for keeps in (True, False):
        run = made_run(tmp_path, method="head", learning_rate=1e-2)
        run.position.threads = 1
        for module in [*run.candidate.loaded.backbone.modules(), *run.candidate.head.modules()]:
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # which a base that runs once has not, and which draws otherwise
        if not keeps:
            run.states = None
        assert run.train()
        results.append({name: p.detach().clone() for name, p in run.weights.items()})
    for name, weight in results[0].items():
        torch.testing.assert_close(weight, results[1][name], atol=1e-5, rtol=1e-4)


def test_the_base_runs_once_for_each_text_however_many_epochs(tmp_path: Path) -> None:
    run = made_run(tmp_path, method="head", epochs=5.0, save_best=False)
    seen = []
    forward = run.candidate.loaded.backbone.forward

    def counted(**given):  # type: ignore[no-untyped-def]
        seen.append(given["layout"].lengths)
        return forward(**given)

    run.candidate.loaded.backbone.forward = counted
    assert run.train()
    assert sum(map(len, seen)) == len(run.examples)


def test_a_run_stops_while_the_base_runs_and_begins_again(tmp_path: Path) -> None:
    from dataclasses import replace

    run = made_run(tmp_path, method="head")
    run.around = replace(run.around, stop_asked=lambda: True)
    assert not run.train()
    assert not run.states.is_kept
    assert run.position.step == 0
    run.around = replace(run.around, stop_asked=lambda: False)
    assert run.train()


@pytest.mark.parametrize("method", ["lora", "full", "bitfit"])
def test_whatever_trains_more_than_a_head_keeps_no_vectors(tmp_path: Path, method: str) -> None:
    assert made_run(tmp_path, method=method).states is None


def test_vectors_that_do_not_fit_into_their_memory_are_computed_in_each_pass(tmp_path: Path) -> None:
    from llmos.training.frozen_states import states_for

    run = made_run(tmp_path, method="head")
    assert states_for(run.candidate, run.examples, most_bytes=1000) is None
    assert states_for(run.candidate, run.examples) is not None
