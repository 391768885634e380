"""Training an encoder with a decoder: the loss is transformers' own, and a model that has learned answers."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import tiny_training

from llmos.abi.error import BadInput
from llmos.abi.frame import Stop
from llmos.abi.json_type import Json
from llmos.abi.model import OfferKind
from llmos.abi.recipe import Data, Recipe
from llmos.data.dataset import gather
from llmos.testing.daemon import beside
from llmos.testing.errors import fails_with

pytestmark = pytest.mark.torch

WORDS = {"apple": "fruit", "pear": "fruit", "iron": "metal", "zinc": "metal"}


def pairs(folder: Path, rows: int = 100) -> Path:
    chance = random.Random(3)
    path = folder / "pairs.jsonl"
    made = [(word, i) for i in range(rows) for word in [chance.choice(sorted(WORDS))]]
    path.write_text("\n".join(json.dumps({"source": f"{word} {i}", "target": WORDS[word]}) for word, i in made))
    return path


@pytest.mark.parametrize("name", ["t5", "t5_gated", "marian", "bart"])
def test_loss_and_gradients_are_those_that_transformers_has_one_pair_at_a_time(
    tmp_path: Path, name: str, dtype: str
) -> None:
    """In bfloat16 the gradients of a tensor point where those in float32 do."""
    import torch
    from transformers import AutoModelForSeq2SeqLM

    from llmos.tasks import Settings
    from llmos.training.candidate import begin
    from llmos.training.examples import make_examples
    from llmos.training.objectives import loss_of

    base = tiny_training.base(tmp_path, name)
    recipe = Recipe("translate", "n", "tiny:1", Data(str(pairs(tmp_path, 24))), method="full")
    data = gather(recipe.data, "translate", {}, {})
    candidate = begin(base, recipe, 0, dtype, "cpu0")
    candidate.train(False)
    options = {"target_language": "German"} if name.startswith("t5") else {}
    examples = make_examples("translate", data.splits.train, candidate.loaded.tokenizer, Settings((), options, 128))
    total = loss_of(recipe, 0, head=candidate.head)(
        candidate.logits([ids for one in examples for ids in one.sequences]), examples
    )
    total.backward()  # type: ignore[no-untyped-call]  # torch leaves it so
    theirs = AutoModelForSeq2SeqLM.from_pretrained(base.folder).eval()
    summed = 0.0
    for one in examples:
        source, ids = one.sequences
        (lesson,) = one.rendered.context
        logits = theirs(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([ids])).logits[0]
        assert len(logits) - len(lesson.targets) == (1 if name == "bart" else 0)  # its forced first token is not learnt
        wanted = torch.tensor(lesson.targets)
        part = torch.nn.functional.cross_entropy(logits[lesson.places], wanted, reduction="sum")
        part.backward()
        summed += float(part.detach())
    assert float(total.detach()) == pytest.approx(summed, rel=tiny_training.RELATIVE[dtype])
    found = {id(p): p.grad for p in candidate.weights().values()}
    named = dict(theirs.named_parameters())
    assert len(found) == len(named)
    ours = dict((candidate.loaded.causal or candidate.loaded.backbone).named_parameters())
    for key, parameter in named.items():
        if parameter.requires_grad:
            grad = found[id(ours[key])]
            assert (grad is None) == (parameter.grad is None), key  # some releases have a table that nothing reads
            if grad is None:
                continue
            if dtype == "float32":
                torch.testing.assert_close(grad, parameter.grad, atol=1e-4, rtol=1e-3)
            elif parameter.grad.norm() > 1e-2:
                assert torch.cosine_similarity(grad.flatten(), parameter.grad.flatten(), dim=0) > 0.98, key


@pytest.mark.parametrize(
    ("name", "method", "rate", "epochs", "dtype"),
    [
        ("t5", "full", 1e-2, 20.0, "bfloat16"),
        ("marian", "full", 5e-3, 14.0, "float32"),
        ("bart", "lora", 5e-3, 14.0, "float32"),
    ],
    indirect=["dtype"],
)
def test_pairs_become_a_model_that_writes_their_targets_and_ends_them(
    tmp_path: Path, name: str, method: str, rate: float, epochs: float, dtype: str
) -> None:
    from test_trainer import located, trained

    from llmos.abi.call import Call
    from llmos.engines import driver

    told = {"task": "translate", "method": method, "epochs": epochs, "learning_rate": rate}
    options: Json = {"answered_rows": 7} | ({"target_language": "German"} if name.startswith("t5") else {})
    base = tiny_training.base(tmp_path, name)
    _, model = trained(
        tmp_path, {**told, "options": options, "data": {"train": str(pairs(tmp_path))}}, base=base, dtype=dtype
    ).offers
    metrics = model.draft["evidence"]["metrics"]
    assert list(metrics)[:3] == ["chrf", "likelihood", "perplexity"]
    assert metrics["likelihood"] > (0.5 if method == "full" else 0.3)  # its frozen last layer knows no more
    assert metrics["chrf"] > 0.7
    engine = driver("pytorch")
    engine.load(base, "cpu0", dtype, 1)
    engine.attach(located(model, base))
    for i, word in enumerate(sorted(WORDS)):
        engine.add(Call(i, "sorter:1", "translate", (f"{word} 7",), {"max_tokens": 12}))
    engine.add(Call(9, "tiny:1", "summarize", ("zinc 7",), {"max_tokens": 12}))  # the base, which has not learned
    said = {chunk.call_id: chunk.outputs[0] for _ in range(40) for chunk in engine.step()}
    answers = [(said[i]["text"], said[i]["finish_reason"]) for i in range(len(WORDS))]
    assert answers == [(WORDS[word], "stop") for word in sorted(WORDS)]
    assert said[9]["text"] != "metal"


def test_a_stopped_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    from test_trainer import trained

    from llmos.programs import train

    base = tiny_training.base(tmp_path, "marian")
    recipe = {
        "task": "translate",
        "epochs": 1.0,
        "options": {"answered_rows": 2},
        "data": {"train": str(pairs(tmp_path))},
    }
    daemon, channel, close = beside()
    daemon.send(Stop("make room"))
    while not channel.stop_asked:
        pass
    train.main(channel, tiny_training.assignment(tmp_path, recipe, base=base))
    close()
    assert [offer.kind for offer in daemon.offers] == [OfferKind.DATASET]
    assert trained(tmp_path, recipe, base=base).offers[-1].kind is OfferKind.MODEL


def test_what_cannot_be_is_said_before_training(tmp_path: Path) -> None:
    from test_trainer import trained

    recipe = {"task": "translate", "data": {"train": str(pairs(tmp_path))}}
    with fails_with(BadInput, key="target_language", reason="lacking"):
        trained(tmp_path, recipe, base=tiny_training.base(tmp_path, "t5"))
    recipe["options"] = {"target_language": "German"}
    with fails_with(BadInput, key="target_language", reason="one_pair"):
        trained(tmp_path, recipe, base=tiny_training.base(tmp_path, "marian"))


def test_a_marian_with_sentencepiece_files_and_its_adapter_learn_unseen_dates(
    tmp_path: Path,
) -> None:
    from test_trainer import located, trained

    from llmos.abi.call import Call
    from llmos.abi.frame import ModelPath
    from llmos.abi.model import Kind, Manifest
    from llmos.engines import driver
    from llmos.testing import dates

    def learnt(base: ModelPath, form: str, method: str) -> Any:  # Any: an offer
        folder = tmp_path / form
        folder.mkdir()
        train, test = dates.write_rows(folder, form)
        told = {"task": "translate", "method": method, "epochs": 10.0, "learning_rate": 1e-2, "batch_size": 16}
        told |= {"data": {"train": str(train), "test": str(test)}, "name": form}
        return trained(folder, told, base=base).offers[-1]

    def base_in(folder: str) -> ModelPath:
        return ModelPath(Manifest("tiny", 1, Kind.BASE, "translate", (), base_digest="0" * 64), folder, folder)

    english = learnt(base_in(str(dates.write_marian(tmp_path / "marian"))), "english", "full")
    assert english.draft["evidence"]["metrics"]["exact_match"] > 0.9
    base = base_in(english.folder)  # with the files of its tokenizer beside its weights
    german = learnt(base, "german", "lora")
    assert german.draft["evidence"]["metrics"]["exact_match"] > 0.7
    engine = driver("pytorch")
    engine.load(base, "cpu0", "float32", 1)
    engine.attach(located(german, base))
    days = list(dates.held_out("english"))
    for i, ref in enumerate(("tiny:1", "german:1")):
        engine.add(Call(i, ref, "translate", tuple(days), {"max_tokens": 12}))
    said = {chunk.call_id: [one["text"] for one in chunk.outputs] for _ in range(60) for chunk in engine.step()}
    for i, (form, least) in enumerate((("english", 0.9), ("german", 0.7))):
        wanted = dates.held_out(form).values()
        assert sum(one == true for one, true in zip(said[i], wanted, strict=True)) > least * len(days)


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("name", ["t5", "marian", "bart"])
def test_a_model_that_writes_learns_in_bfloat16(tmp_path: Path, name: str, method: str) -> None:
    """Its loss reads the output layer in float32, which some backbones hold among their linear layers."""
    from llmos.tasks import Settings
    from llmos.training.candidate import begin
    from llmos.training.checkpoint import Checkpoints
    from llmos.training.examples import make_examples
    from llmos.training.objectives import loss_of
    from llmos.training.recipe import resolve
    from llmos.training.trainer import Hooks, Trainer

    recipe = Recipe("translate", "n", "tiny:1", Data(str(pairs(tmp_path, 24))), method=method, epochs=1.0, batch_size=8)
    data = gather(recipe.data, "translate", {}, {})
    recipe = resolve(recipe, len(data.splits.train), 0)
    candidate = begin(tiny_training.base(tmp_path, name), recipe, 0, "bfloat16", "cpu0")
    options = {"target_language": "German"} if name == "t5" else {}
    examples = make_examples("translate", data.splits.train, candidate.loaded.tokenizer, Settings((), options, 128))
    around = Hooks(lambda progress: None, lambda: False, lambda: 0.0)
    loss = loss_of(recipe, 0, head=candidate.head)
    run = Trainer(candidate, loss, examples, recipe, Checkpoints(tmp_path / "checkpoints"), around, "")
    before = {name: p.detach().clone() for name, p in run.weights.items()}
    assert len(run.mixed.masters) + len(run.frozen)
    assert run.train()
    assert any((p != before[name]).any() for name, p in run.weights.items())
