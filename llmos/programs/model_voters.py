"""Voters that ask a model of the store: its own labels, or a base's vectors against descriptions of labels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from llmos.abi.error import BadInput, WrongTask
from llmos.abi.form import form_dtype
from llmos.abi.frame import Job, ModelPath
from llmos.abi.method import is_on_base
from llmos.abi.task import Family, spec_of
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.weak_labels.rules import ChatRule, ModelRule, RuleFile, WeakRule, ZeroShotRule, asked_by
from llmos.data.weak_labels.voters import ABSTAIN, Voter, text_of_row
from llmos.evaluation.evaluator import Evaluator, load_evaluator
from llmos.evaluation.self_training import believing
from llmos.nn.frozen_vectors import FrozenEncoder
from llmos.programs.channel import Channel
from llmos.programs.chat_voter import chat_voter
from llmos.programs.resident import with_resident
from llmos.programs.rewriters import load_writer
from llmos.tasks.zeroshot import SHARPNESS, label_sentence

Stored = StoredRow[Any]  # Any: a row of the task's family


@contextmanager
def model_voters(channel: Channel, job: Job, rules: RuleFile, numbers: Mapping[str, int]) -> Iterator[dict[str, Voter]]:
    """The voters of the rules that ask a model, by the rule's name; each model is loaded once."""
    torch.set_num_threads(1)
    with ExitStack() as stack:
        loaded: dict[str, Any] = {}  # Any: an evaluator, an encoder or a model in its engine
        found: dict[str, Voter] = {}
        for rule in rules.rules:
            if not (name := asked_by(rule)):
                continue
            where = f"{rules.file}, line {rule.line}"
            model = _named_model(job, rules, rule, name, where)
            if isinstance(rule, ModelRule):
                if name not in loaded:
                    loaded[name] = _load_model(channel, job, model, where)
                found[rule.name] = _model_voter(rule, loaded[name], numbers, where)
            elif isinstance(rule, ChatRule):
                engine = (job.args.get("engines") or {}).get(name)
                if name not in loaded and engine is not None:
                    loaded[name] = stack.enter_context(load_writer(channel, job, name, str(engine)))
                found[rule.name] = chat_voter(
                    channel, loaded.get(name), rule, [numbers[one] for one in rule.labels], where
                )
            else:
                assert isinstance(rule, ZeroShotRule)
                if name not in loaded:
                    loaded[name] = _load_encoder(channel, job, model)
                found[rule.name] = _zero_shot_voter(rule, loaded[name], numbers)
        yield found


def _named_model(job: Job, rules: RuleFile, rule: WeakRule, name: str, where: str) -> ModelPath:
    model = job.models.get(name)
    if model is None:
        raise BadInput(
            f"{where}: the rule {rule.name!r} asks {name}, which is not among the models named. Name all that the "
            f"rules ask: models {list(rules.models)}",
            key="models",
            line=rule.line,
            value=name,
            expected=list(rules.models),
        )
    return model


def _load_encoder(channel: Channel, job: Job, model: ModelPath) -> FrozenEncoder:
    threads = job.threads or len(os.sched_getaffinity(0))
    return FrozenEncoder(with_resident(channel, job, model), dtype=job.dtype, threads=threads)


def _load_model(channel: Channel, job: Job, model: ModelPath, where: str) -> Evaluator:
    manifest = model.manifest
    if not manifest.labels or spec_of(manifest.task).family is not Family.LABELS or manifest.options.get("multi_label"):
        raise WrongTask(
            f"{where}: {manifest.ref} does not give a text one label. Name a model for classify: llmos ls",
            model=manifest.ref,
            has=manifest.task,
        )
    dtype = form_dtype(manifest.dtype, job.dtype)
    if is_on_base(manifest.method):
        model = with_resident(channel, replace(job, dtype=dtype), model)
    return load_evaluator(model, manifest.task, dtype, job.device)


@dataclass(frozen=True, slots=True)
class ModelVoter:
    """The likeliest label of a model, where it is at least as sure as the rule says."""

    evaluator: Evaluator
    votes_of: tuple[int, ...]  # of each label of the model, the number it votes for
    least: float

    def votes(self, rows: Sequence[Stored]) -> list[int]:
        blank = believing(self.evaluator.task).blank  # the rows have no label yet
        told = self.evaluator.predict([blank(stored.row) for stored in rows])
        shares = np.stack([one.probabilities for one in told])
        return _sure_votes(shares, self.votes_of, self.least)


def _model_voter(rule: ModelRule, evaluator: Evaluator, numbers: Mapping[str, int], where: str) -> ModelVoter:
    own = evaluator.settings.labels
    if strange := [label for label in rule.labels if label not in own]:
        raise BadInput(
            f"{where}: {rule.model} has no label {strange[0]!r}. It has: {', '.join(own[:10])}",
            key="labels",
            value=strange[0],
            expected=list(own)[:10],
        )
    votes = tuple(numbers.get(rule.labels.get(label, label), ABSTAIN) for label in own)
    if all(vote == ABSTAIN for vote in votes):
        raise BadInput(
            f"{where}: no label of {rule.model} ({', '.join(own[:10])}) is one of the rows'. Translate them: labels: "
            f"{{{own[0]}: {next(iter(numbers))}}}",
            key="labels",
            expected=list(numbers)[:10],
        )
    return ModelVoter(evaluator, votes, rule.least)


@dataclass(frozen=True, slots=True)
class ZeroShotVoter:
    """The label whose description is nearest to the text, as `classify` with labels in the call answers."""

    encoder: FrozenEncoder
    described: Any  # Any: [labels, size], the descriptions' vectors of length 1
    votes_of: tuple[int, ...]
    least: float

    def votes(self, rows: Sequence[Stored]) -> list[int]:
        near = SHARPNESS * (self.encoder.texts([text_of_row(one) for one in rows]) @ self.described.T)
        grown = np.exp(near - near.max(axis=1, keepdims=True))
        return _sure_votes(grown / grown.sum(axis=1, keepdims=True), self.votes_of, self.least)


def _zero_shot_voter(rule: ZeroShotRule, encoder: FrozenEncoder, numbers: Mapping[str, int]) -> ZeroShotVoter:
    texts = [label_sentence(text, {"hypothesis": rule.hypothesis}) for text in rule.labels.values()]
    return ZeroShotVoter(encoder, encoder.texts(texts), tuple(numbers[label] for label in rule.labels), rule.least)


def _sure_votes(shares: Any, votes_of: Sequence[int], least: float) -> list[int]:  # Any: an array, [rows, labels]
    best = shares.argmax(axis=1)
    sure = shares[np.arange(len(shares)), best] >= least
    return [votes_of[int(one)] if is_sure else ABSTAIN for one, is_sure in zip(best, sure, strict=True)]
