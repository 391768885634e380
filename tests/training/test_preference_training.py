"""Learning from preferences: the losses are the papers', references are computed once, and models learn to prefer."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_training

torch = pytest.importorskip("torch")

from torch.nn.functional import cross_entropy

from llmos.abi.error import BadInput
from llmos.abi.objective import DETECT, objective_named
from llmos.abi.recipe import Data, Recipe
from llmos.data.dataset import gather
from llmos.data.row import PreferenceRow
from llmos.evaluation.evaluator import Evaluator
from llmos.evaluation.predictions import predict
from llmos.nn.load import load_folder
from llmos.nn.next_token import NextHead
from llmos.programs.preference_training import with_form
from llmos.tasks import Settings
from llmos.testing import tiny
from llmos.testing.errors import fails_with
from llmos.training.candidate import Candidate, begin
from llmos.training.checkpoint import Checkpoints
from llmos.training.examples import make_examples
from llmos.training.log_probabilities import answer_log_probabilities
from llmos.training.mismatched import with_mismatched
from llmos.training.objectives import loss_of
from llmos.training.objectives.dpo import dpo_losses
from llmos.training.objectives.kto import kto_losses
from llmos.training.objectives.orpo import odds_ratio_losses
from llmos.training.recipe import resolve
from llmos.training.reference import References, with_reference
from llmos.training.trainer import Hooks, Trainer

pytestmark = pytest.mark.torch

CHOSEN, REJECTED = torch.tensor([-3.0, -1.0, 0.5]), torch.tensor([-2.0, -4.0, 0.5])
RUNS = [("dpo", True, "lora"), ("orpo", True, "lora"), ("kto", True, "lora"), ("kto", False, "lora")]
RUNS += [("dpo", True, method) for method in ("prefix", "houlsby", "bitfit", "loha")] + [("orpo", True, "full")]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_dpo_is_the_papers_formula() -> None:
    found = dpo_losses(CHOSEN, REJECTED, 0.5).tolist()
    wanted = [-math.log(sigmoid(0.5 * (c - r))) for c, r in zip(CHOSEN.tolist(), REJECTED.tolist(), strict=True)]
    assert found == pytest.approx(wanted, rel=1e-6)
    assert dpo_losses(CHOSEN, REJECTED, 0.5, 0.5)[2].item() == pytest.approx(math.log(2))


def test_orpo_is_the_papers_formula() -> None:
    chosen, rejected = torch.tensor([-0.1, -2.0]), torch.tensor([-1.0, -0.5])
    odds = [[math.exp(x) / (1 - math.exp(x)) for x in some.tolist()] for some in (chosen, rejected)]
    wanted = [-math.log(sigmoid(math.log(c / r))) for c, r in zip(*odds, strict=True)]
    assert odds_ratio_losses(chosen, rejected).tolist() == pytest.approx(wanted, rel=1e-5)
    assert torch.isfinite(odds_ratio_losses(torch.zeros(1), torch.zeros(1))).all()


def test_kto_is_the_papers_formula() -> None:
    found = kto_losses(torch.tensor([2.0, 2.0]), torch.tensor([True, False]), torch.tensor(0.5), 0.1, (3.0, 2.0))
    assert found.tolist() == pytest.approx([2 * (1 - sigmoid(0.15)), 3 * (1 - sigmoid(-0.15))], rel=1e-6)


def test_losses_of_tokens_have_the_gradients_of_whole_logits(tmp_path: Path) -> None:
    loaded = load_folder(tiny.write(tmp_path / "base", "llama"), trainable=True)
    head = NextHead(loaded)
    hidden = torch.randn(7, loaded.hidden_size, requires_grad=True)
    targets, shares = torch.arange(7), torch.linspace(-1, 1, 7)
    assert loaded.causal is not None
    weight = loaded.causal.get_output_embeddings().weight
    found = torch.autograd.grad((head.token_losses(hidden, targets) * shares).sum(), [hidden, weight])
    whole = cross_entropy(head.logits(hidden @ weight.T), targets, reduction="none")
    wanted = torch.autograd.grad((whole * shares).sum(), [hidden, weight])
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def recipe_of(
    folder: Path, objective: str, *, pairs: bool = True, method: str = "lora", **changes: Any
) -> tuple[Recipe, Any]:
    path = tiny_training.preferring(folder, pairs=pairs)
    recipe = Recipe(
        "generate",
        "n",
        "tiny:1",
        Data(str(path)),
        method=method,
        options={"objective": objective},
        epochs=12.0,
        batch_size=8,
        learning_rate=3e-3 if method == "full" else 3e-2,
        save_best=False,
    )
    recipe = replace(recipe, **changes)
    data = gather(recipe.data, recipe.task, {**recipe.options, "preferences": DETECT}, {})
    return resolve(with_form(recipe, data), len(data.splits.train), 0), data


def made(folder: Path, objective: str, *, stops_at: int | None = None, **how: Any) -> tuple[Trainer, Evaluator, Any]:
    folder.mkdir(exist_ok=True)
    recipe, data = recipe_of(folder, objective, **how)
    candidate = begin(tiny_training.base(folder, "llama"), recipe, 0, "float32", "cpu0")
    evaluator = Evaluator(candidate, recipe.task, Settings((), recipe.options, candidate.loaded.max_tokens))
    train, spec = evaluator.examples(data.splits.train), objective_named(objective)
    train = with_mismatched(train, candidate.loaded.max_tokens) if spec.needs_mismatched else train
    train = with_reference(candidate, train) if spec.needs_reference else train
    seen: list[int] = []
    around = Hooks(lambda progress: seen.append(progress.done), lambda: seen[-1:] == [stops_at], lambda: 0.5)
    loss = loss_of(recipe, 0, None, candidate.head)
    return Trainer(candidate, loss, train, recipe, Checkpoints(folder / "checkpoints"), around, "d"), evaluator, data


@pytest.mark.parametrize(("objective", "pairs", "method"), RUNS)
def test_a_model_learns_what_is_preferred_of_prompts_it_has_not_seen(
    tmp_path: Path, objective: str, pairs: bool, method: str
) -> None:
    run, evaluator, data = made(tmp_path, objective, pairs=pairs, method=method)
    assert run.train()
    rows = data.splits.test
    metrics = evaluator.judge(rows, evaluator.predict(rows)).metrics
    name = objective_named(objective).primary_metric
    assert next(iter(metrics)) == name
    assert metrics[name] >= 0.8
    assert run.position.marks[-1].loss < run.position.marks[0].loss


def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path) -> None:
    short = {"epochs": 2.0, "learning_rate": 1e-3}
    whole, _, _ = made(tmp_path / "whole", "kto", **short)
    assert whole.train()
    first, _, _ = made(tmp_path / "cut", "kto", stops_at=5, **short)
    assert not first.train()
    second, _, _ = made(tmp_path / "cut", "kto", **short)
    assert second.resume()
    assert second.train()
    for name, weight in whole.weights.items():
        torch.testing.assert_close(weight, second.weights[name], atol=1e-5, rtol=1e-4)


def test_the_reference_is_the_base_alone_and_computed_once(tmp_path: Path) -> None:
    recipe, data = recipe_of(tmp_path, "dpo", method="prefix")
    base = tiny_training.base(tmp_path, "llama")
    candidate = begin(base, recipe, 0, "float32", "cpu0")
    settings = Settings((), recipe.options, candidate.loaded.max_tokens)
    examples = make_examples("generate", data.splits.train[:5], candidate.loaded.tokenizer, settings)
    counts: list[int] = []
    known = References(tmp_path / "reference.json", "d")
    found = with_reference(candidate, examples, known, on_done=counts.append)
    loaded = load_folder(Path(base.folder))
    plain = Candidate(loaded, NextHead(loaded), "float32", "cpu0")
    with torch.inference_mode():
        given = plain.logits([ids for one in examples for ids in one.sequences])
        wanted = answer_log_probabilities(plain.next_head, given, examples).tolist()
    assert [x for one in found for x in one.target.reference] == pytest.approx(wanted, rel=1e-4)
    again = References(tmp_path / "reference.json", "d")
    again.read()
    assert with_reference(candidate, examples, again, on_done=counts.append) == found
    assert counts == [5]
    other = References(tmp_path / "reference.json", "another")
    other.read()
    assert other.known == {}


def test_before_training_no_answer_is_preferred_to_what_the_base_prefers(tmp_path: Path) -> None:
    _, evaluator, data = made(tmp_path, "dpo")
    metrics = evaluator.judge(data.splits.test, evaluator.predict(data.splits.test)).metrics
    assert metrics["reward_margin"] == pytest.approx(0, abs=1e-4)


def test_the_answer_to_another_prompt_is_cut_to_what_the_model_takes(tmp_path: Path) -> None:
    recipe, data = recipe_of(tmp_path, "kto")
    candidate = begin(tiny_training.base(tmp_path, "llama"), recipe, 0, "float32", "cpu0")
    settings = Settings((), recipe.options, candidate.loaded.max_tokens)
    examples = make_examples("generate", data.splits.train[:3], candidate.loaded.tokenizer, settings)
    found = with_mismatched(examples, 10)
    for one, before, following in zip(found, examples, [*examples[1:], examples[0]], strict=True):
        assert one.target.own == 2
        assert one.rendered.context[:2] == before.rendered.context
        added = one.rendered.context[2]
        assert len(added.ids) <= 10
        assert added.targets == following.rendered.context[0].targets[: len(added.targets)]
    assert with_mismatched(examples[:1], 10) == examples[:1]


def test_only_the_last_answer_of_a_conversation_is_compared(tmp_path: Path) -> None:
    base = tiny_training.base(tmp_path, "llama")
    loaded = load_folder(Path(base.folder))
    talk = [{"role": role, "content": text} for role, text in (("user", "u"), ("assistant", "iron"), ("user", "v"))]
    row = PreferenceRow({"messages": talk}, "apple", "f", 1, "", "iron")
    (one,) = make_examples("chat", [row], loaded.tokenizer, Settings((), {}, loaded.max_tokens))
    alone = replace(row, input={"messages": talk[-1:]})
    (short,) = make_examples("chat", [alone], loaded.tokenizer, Settings((), {}, loaded.max_tokens))
    assert one.target.sizes == short.target.sizes
    assert len(one.sequences) == 2


def test_rows_of_another_form_are_refused_with_an_example(tmp_path: Path) -> None:
    path = tiny_training.preferring(tmp_path, pairs=False)
    recipe = Recipe("generate", "n", "b", Data(str(path)), options={"objective": "dpo"}, method="lora")
    data = gather(recipe.data, recipe.task, {"preferences": DETECT}, {})
    with fails_with(BadInput, key="objective", expected=["paired"]):
        with_form(recipe, data)
    with fails_with(BadInput, key="objective", expected="kto"):
        with_form(replace(recipe, options={}), data)


def test_predictions_of_pairs_know_all_scores(tmp_path: Path) -> None:
    _, evaluator, data = made(tmp_path, "orpo")
    examples = evaluator.examples(data.splits.test)
    (first, *_) = predict(evaluator.candidate, "generate", examples, evaluator.settings)
    assert set(first.scores) == {"preference", "preference_sum"}
    assert json.dumps(first.scores)
