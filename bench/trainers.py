"""Two usual ways to fine-tune for token classification: the classic tutorial's loop, and transformers' Trainer."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from seqeval.metrics import f1_score
from torch.optim import AdamW
from torch.utils.data import DataLoader, Dataset
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
    get_linear_schedule_with_warmup,
)
from transformers.utils import logging

from bench.data import Sentence
from bench.relay import Baton
from llmos.nn.load import torch_device

PADDED_TO = 128
IGNORED = -100
WARMUP_SHARE = 0.1

Example = dict[str, Any]  # Any: lists of ids, as the tokenizer gives them


@dataclass(frozen=True, slots=True)
class Work:
    """The same for every runner: the base, the sentences, the passes over them, the rate and the batch."""

    base: str
    train: list[Sentence]
    test: list[Sentence]
    labels: tuple[str, ...]
    epochs: int
    learning_rate: float
    batch_size: int
    device: str  # as the daemon names it
    dtype: str  # what llmos computes in; the peers compute in fp32, as they come
    seed: int = 7

    @property
    def place(self) -> torch.device:
        return torch_device(self.device)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a training: entity F1 on the test rows; and the threads it ran on."""

    f1: float
    threads: int


def tutorial(baton: Baton, work: Work) -> Outcome:
    """A plain PyTorch loop: every sentence padded to 128, fp32, AdamW, one linear schedule."""
    tokenizer, model = _begin(work)
    rows = _examples(tokenizer, work.train, work.labels, padding="max_length")
    loader: DataLoader[Example] = DataLoader(
        _Rows(rows), work.batch_size, shuffle=True, collate_fn=default_data_collator
    )
    steps = work.epochs * len(loader)
    optimizer = AdamW(model.parameters(), lr=work.learning_rate)
    schedule = get_linear_schedule_with_warmup(optimizer, int(WARMUP_SHARE * steps), steps)
    model.train()
    baton.start()
    for _ in range(work.epochs):
        for batch in loader:
            loss = model(**{key: value.to(work.place) for key, value in batch.items()}).loss
            loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            baton.step(len(batch["labels"]))
    baton.stop()
    return _outcome(model, tokenizer, work)


def trainer(baton: Baton, work: Work) -> Outcome:
    """transformers' Trainer as it comes, with the collator that pads each batch to its own longest sentence."""
    tokenizer, model = _begin(work)
    rows = _examples(tokenizer, work.train, work.labels, padding=False)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=work.batch_size,
            num_train_epochs=work.epochs,
            learning_rate=work.learning_rate,
            warmup_steps=WARMUP_SHARE,
            seed=work.seed,
            use_cpu=work.place.type == "cpu",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        collator = DataCollatorForTokenClassification(tokenizer)
        run = Trainer(model, arguments, collator, _Rows(rows), callbacks=[_Turns(baton, work.batch_size)])
        run.remove_callback(PrinterCallback)  # it would print into a record that is asked for as JSON
        run.train()
    return _outcome(model, tokenizer, work)


class _Rows(Dataset[Example]):
    def __init__(self, rows: list[Example]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Example:
        return self._rows[index]


class _Turns(TrainerCallback):  # type: ignore[misc]  # transformers is read without its types
    def __init__(self, baton: Baton, batch_size: int) -> None:
        self._baton = baton
        self._batch_size = batch_size

    def on_train_begin(self, *_: object, **__: object) -> None:
        self._baton.start()

    def on_step_end(self, *_: object, **__: object) -> None:
        self._baton.step(self._batch_size)

    def on_train_end(self, *_: object, **__: object) -> None:
        self._baton.stop()


def _begin(work: Work) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.manual_seed(work.seed)
    tokenizer = AutoTokenizer.from_pretrained(work.base)
    model = AutoModelForTokenClassification.from_pretrained(work.base, num_labels=len(work.labels), dtype=torch.float32)
    return tokenizer, model.to(work.place)


def _examples(
    tokenizer: PreTrainedTokenizerBase, sentences: Sequence[Sentence], labels: Sequence[str], padding: str | bool
) -> list[Example]:
    """As the tutorials do it: the label of a word goes to its first token, the others are ignored."""
    number = {label: index for index, label in enumerate(labels)}
    rows: list[Example] = []
    for words, tags in sentences:
        encoded = tokenizer(words, is_split_into_words=True, truncation=True, max_length=PADDED_TO, padding=padding)
        row: Example = dict(encoded)
        row["labels"] = [IGNORED if w is None else number[tags[w]] for w in first_tokens(encoded.word_ids())]
        rows.append(row)
    return rows


def first_tokens(words: Sequence[int | None]) -> list[int | None]:
    """The word of each token that is its word's first, None for all others."""
    return [word if word != before else None for before, word in zip([None, *words], words, strict=False)]


def _outcome(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, work: Work) -> Outcome:
    """Entity F1 by seqeval; words beyond the tutorial's 128 tokens count as tagged O."""
    model.eval()
    said = [_tags(model, tokenizer, words, work) for words, _ in work.test]
    f1 = f1_score([tags for _, tags in work.test], said)
    return Outcome(float(f1), torch.get_num_threads())


def _tags(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, words: Sequence[str], work: Work) -> list[str]:
    encoded = tokenizer(words, is_split_into_words=True, truncation=True, max_length=PADDED_TO, return_tensors="pt")
    with torch.inference_mode():
        best = model(**encoded.to(work.place)).logits[0].argmax(-1).tolist()
    tags = ["O"] * len(words)
    for word, index in zip(first_tokens(encoded.word_ids()), best, strict=True):
        if word is not None:
            tags[word] = work.labels[index]
    return tags
