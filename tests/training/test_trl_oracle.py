"""Losses on preferences equal those of TRL's trainers on the same tokens, models and settings.

TRL is large and no dependency: `pip install 'trl>=1.16,<2' datasets accelerate`, and these tests run.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl", reason="TRL, which the losses are compared with, is not installed")
pytest.importorskip("datasets", reason="TRL reads Hugging Face's datasets, which are not installed")

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmos.nn.load import load_folder
from llmos.nn.next_token import NextHead
from llmos.tasks import Rendered
from llmos.tasks.sft_example import SFTExample
from llmos.testing import tiny
from llmos.training.candidate import Candidate
from llmos.training.examples import Example
from llmos.training.log_probabilities import answer_log_probabilities
from llmos.training.objectives.dpo import DPOLoss
from llmos.training.objectives.kto import KTOLoss
from llmos.training.objectives.orpo import odds_ratio_losses
from llmos.training.objectives.preferences import PreferenceTarget

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]  # TRL's own deprecations

PROMPTS = ("uuu kk", "vvv ll", "uuu mm n", "vvv k")
ANSWERS = ("apple pear", "iron", "zinc gold gold", "plum")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny base, and the same with other weights: reference and policy."""
    base = tiny.write(tmp_path_factory.mktemp("base"), "llama")
    policy = tmp_path_factory.mktemp("policy")
    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(policy)
    AutoTokenizer.from_pretrained(base).save_pretrained(policy)
    return base, policy


def theirs(folders: tuple[Path, Path], folder: Path, kind: str, rows: list[dict[str, Any]], **how: Any) -> Any:
    """A trainer of TRL's with these rows."""
    import trl

    base, policy = folders
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.pad_token = tokenizer.eos_token
    config = getattr(trl, f"{kind}Config")(
        output_dir=str(folder),
        per_device_train_batch_size=4,
        report_to=[],
        use_cpu=True,
        bf16=False,
        max_length=64,
        **how,
    )
    made = getattr(trl, f"{kind}Trainer")(
        model=AutoModelForCausalLM.from_pretrained(policy),
        ref_model=AutoModelForCausalLM.from_pretrained(base),
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    made.model.eval()
    return made


def lesson(ids: Any, mask: Any, answer: Any) -> SFTExample:
    """One of TRL's padded sequences with its mask of the answer, as a sequence of ours."""
    real = [int(one) for one, there in zip(ids, mask, strict=True) if there]
    said = [bool(one) for one, there in zip(answer, mask, strict=True) if there]
    first = said.index(True)
    return SFTExample(real[:-1], list(range(first - 1, len(real) - 1)), real[first:])


def example(lessons: list[SFTExample], is_good: tuple[bool, ...]) -> Example[PreferenceTarget]:
    target = PreferenceTarget(tuple(len(one.targets) for one in lessons), is_good, len(is_good))
    return Example(Rendered([], tuple(lessons), tuple(one.ids for one in lessons)), target)


def candidate(folder: Path) -> Candidate:
    loaded = load_folder(folder)
    made = Candidate(loaded, NextHead(loaded), "float32", "cpu0")
    made.train(False)
    return made


def log_probabilities(one: Candidate, examples: list[Example[PreferenceTarget]]) -> Any:
    given = one.logits([ids for some in examples for ids in some.sequences])
    return given, answer_log_probabilities(one.next_head, given, examples)


def referred(base: Path, examples: list[Example[PreferenceTarget]]) -> list[Example[PreferenceTarget]]:
    _, values = log_probabilities(candidate(base), examples)
    parts = torch.split(values, [len(one.target.sizes) for one in examples])
    return [
        replace(one, target=replace(one.target, reference=tuple(its.tolist())))
        for one, its in zip(examples, parts, strict=True)
    ]


def test_dpo_is_trls(folders: tuple[Path, Path], tmp_path: Path) -> None:
    rows = [
        {"prompt": p, "chosen": f" {a}", "rejected": f" {b}"}
        for p, a, b in zip(PROMPTS, ANSWERS, ANSWERS[::-1], strict=True)
    ]
    trainer = theirs(folders, tmp_path, "DPO", rows, beta=0.3)
    batch = next(iter(trainer.get_train_dataloader()))
    with torch.no_grad():
        wanted = trainer.compute_loss(trainer.model, batch)
    half = len(batch["input_ids"]) // 2
    lessons = [
        lesson(*one) for one in zip(batch["input_ids"], batch["attention_mask"], batch["completion_mask"], strict=True)
    ]
    examples = [example([lessons[i], lessons[half + i]], (True, False)) for i in range(half)]
    base, policy = folders
    mine = candidate(policy)
    loss = DPOLoss(mine.next_head, {"beta": 0.3, "smoothing": 0.0, "nll_weight": 0.0})
    examples = referred(base, examples)
    given, _ = log_probabilities(mine, examples)
    assert (loss(given, examples) / loss.normalizer(examples)).item() == pytest.approx(wanted.item(), rel=1e-4)


def test_kto_is_trls(folders: tuple[Path, Path], tmp_path: Path) -> None:
    rows = [
        {"prompt": p, "completion": f" {a}", "label": i % 2 == 0}
        for i, (p, a) in enumerate(zip(PROMPTS, ANSWERS, strict=True))
    ]
    trainer = theirs(folders, tmp_path, "KTO", rows, beta=0.3, desirable_weight=1.5, undesirable_weight=0.7)
    batch = next(iter(trainer.get_train_dataloader()))
    with torch.no_grad():
        wanted = trainer.compute_loss(trainer.model, batch)
    own = zip(batch["input_ids"], batch["attention_mask"], batch["completion_mask"], strict=True)
    other = zip(batch["KL_input_ids"], batch["KL_attention_mask"], batch["KL_completion_mask"], strict=True)
    examples = [
        example([lesson(*one), lesson(*its)], (bool(label),))
        for one, its, label in zip(own, other, batch["label"], strict=True)
    ]
    base, policy = folders
    mine = candidate(policy)
    loss = KTOLoss(mine.next_head, {"beta": 0.3, "desirable_weight": 1.5, "undesirable_weight": 0.7})
    examples = referred(base, examples)
    given, _ = log_probabilities(mine, examples)
    assert (loss(given, examples) / loss.normalizer(examples)).item() == pytest.approx(wanted.item(), rel=1e-4)


def test_the_odds_ratio_is_trls() -> None:
    from trl.experimental.orpo import ORPOTrainer

    chosen, rejected = torch.tensor([-0.2, -1.5, -3.0]), torch.tensor([-1.0, -0.4, -3.0])
    self = SimpleNamespace(beta=0.4, accelerator=SimpleNamespace(device="cpu"))
    ratios, *_ = ORPOTrainer.odds_ratio_loss(self, chosen, rejected)
    assert (0.4 * odds_ratio_losses(chosen, rejected)).tolist() == pytest.approx((-ratios).tolist(), rel=1e-4)
