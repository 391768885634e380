"""adapt: a base that has read a user's own texts, offered to the store with what it gained on others like them and what
that costs.

Arguments: those of llmos/abi/adaptation.py.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from llmos.abi.adaptation import Adaptation, adaptation_of, recipe_of_adaptation
from llmos.abi.error import BadInput
from llmos.abi.frame import Job, ModelPath
from llmos.abi.process import DONE, Progress
from llmos.abi.recipe import Recipe
from llmos.abi.wire import to_json
from llmos.data.raw_texts import Texts, TextSplits, read_texts, split_texts
from llmos.evaluation.adaptation import change_of, decide, likelihood
from llmos.evaluation.fidelity import TEXTS
from llmos.nn.called import calling_folder
from llmos.nn.load import Loaded, load_folder
from llmos.nn.static_embeddings import StaticEmbeddings
from llmos.nn.windows import cut_windows
from llmos.programs.adapted_base import AdaptedBase, offer_adapted
from llmos.programs.channel import Channel
from llmos.programs.derived_base import weights_folder
from llmos.training.adaptation import AdaptationForm, Learner, TextLoss, Windows, form_of
from llmos.training.candidate import Candidate
from llmos.training.checkpoint import Checkpoints
from llmos.training.trainer import Hooks, Trainer

WINDOW = 256  # tokens, where nothing was said
ROUNDS = 4  # of targets, when it is measured
HEAD, WHOLE = "fit head", "train"  # the phases; the name of one is that of its checkpoints too
NO_TEXTS: tuple[Texts, ...] = ()


def main(channel: Channel, job: Job) -> None:
    """Adapt to the end, or to a checkpoint when asked to stop; the same call again continues from there."""
    wanted = adaptation_of(job.args)
    torch.set_num_threads(job.threads or len(os.sched_getaffinity(0)))
    channel.report(Progress("read", unit="texts"))
    corpus = read_corpus(job, wanted)
    base = job.models["base"]
    source = weights_folder(channel, job, base)
    with calling_folder(source, base.manifest.ref):
        loaded = load_folder(source, dtype="float32", device=job.device, trainable=True)
        check_base(base, loaded)
        run = AdaptationRun(channel, job, wanted, corpus, base, source, loaded)
        run.run()


@dataclass(frozen=True, slots=True)
class Corpus:
    """The texts of an adaptation: those of the domain by split, and those that the cost is measured on."""

    splits: TextSplits
    general: tuple[Texts, ...]
    rows: int
    digest: str


def read_corpus(job: Job, wanted: Adaptation) -> Corpus:
    """Every text, each once, and none twice in two splits."""
    data, folders, pairs = wanted.data, job.datasets, wanted.pairs
    read = read_texts(data, folders, pairs=pairs, most=wanted.texts)
    held = {
        key: read_texts(data, folders, pairs=pairs, source=named).texts if named else NO_TEXTS
        for key, named in (("validation", data.validation), ("test", data.test))
    }
    for note in read.notes:
        print(note, flush=True)
    splits = split_texts(read.texts, held["validation"], held["test"], data.train)
    general: tuple[Texts, ...] = () if pairs else tuple((text,) for text in TEXTS)
    if wanted.general:
        general = read_texts(data, folders, pairs=pairs, most=1000, source=wanted.general).texts
    digest = hashlib.sha256(to_json([splits.train, splits.validation, splits.test])).hexdigest()
    return Corpus(splits, general, read.rows, digest)


def check_base(base: ModelPath, loaded: Loaded) -> None:
    """BadInput for a base that no objective can adapt."""
    if isinstance(loaded.backbone, StaticEmbeddings):
        raise BadInput(
            f"{base.manifest.ref} is a table of token vectors, which learns nothing from the order of tokens. Adapt "
            "the base it was made of, and make a table of that (llmos shrink --static)",
            key="base",
            value=base.manifest.ref,
            reason="static",
        )
    if loaded.reader is not None:
        raise BadInput(
            f"{base.manifest.ref} is an encoder with a decoder, which no objective here adapts. Take an encoder or a "
            "decoder",
            key="base",
            value=base.manifest.ref,
            reason="encoder_decoder",
        )


class AdaptationRun:
    """One adaptation with its state."""

    def __init__(
        self,
        channel: Channel,
        job: Job,
        wanted: Adaptation,
        corpus: Corpus,
        base: ModelPath,
        source: Path,
        loaded: Loaded,
    ) -> None:
        self.channel, self.job, self.wanted, self.corpus = channel, job, wanted, corpus
        self.base, self.source, self.loaded = base, source, loaded
        self.form: AdaptationForm = form_of(wanted.objective)
        self.dtype = wanted.dtype or job.dtype
        self.short = 0  # texts that are too short to learn from

    def run(self) -> None:
        """Train, and offer the base with its evidence."""
        splits = self.corpus.splits
        train = self._windows(splits.train)
        if not train:
            raise BadInput(
                f"None of the texts of {self.wanted.data.train} has two tokens. Give longer texts", reason="too_short"
            )
        pooling = str(self.base.manifest.options.get("pooling", "mean"))
        learner = self.form.learner(self.wanted, self.loaded, str(self.source), pooling, train)
        candidate = Candidate(self.loaded, learner.head, self.dtype, self.job.device)
        recipe = recipe_of_adaptation(self.wanted, sum(map(len, train)))
        if learner.is_fresh and not self._fit_head(candidate, learner, recipe, train):
            return
        before = self._measure(candidate, "measure the base")
        run = self._trainer(WHOLE, candidate, learner, recipe, train)
        if run.resume():
            print(f"Goes on from step {run.position.step:,}", flush=True)
        if not run.train():
            return
        candidate.train(False)
        made = AdaptedBase(self.wanted, recipe, self.base, self.source, candidate)
        made.round_weights()
        after = self._measure(candidate, "measure the adapted base")
        held = change_of(before[0], after[0])
        general = change_of(before[1], after[1]) if before[1] else None
        promoted = self.job.models.get("promoted")
        verdict = decide(held, self.base.manifest.ref, None if promoted is None else promoted.manifest.ref)
        facts = {
            "texts": len(splits.train),
            "rows": self.corpus.rows,
            "too short": self.short,
            "tokens": run.position.step * self._tokens_of_step(train, recipe),
            "trained_s": round(run.position.trained_s, 1),
            "kept_step": run.position.best_step,
            "steps": run.position.step,
        }
        ref = offer_adapted(self.channel, self.job, made, held, general, verdict, facts)
        word = "is promoted" if verdict.promote else "stays a candidate"
        others = "" if general is None else f"; on other texts {general.sentence}"
        said = f"{ref} {word}: {verdict.reason}{others}"
        figures = {"loss": held.after, "loss_before": held.before}
        self.channel.report(Progress(DONE, 1, 1, "runs", figures, said))

    def _windows(self, texts: Sequence[Texts]) -> list[Windows]:
        """The windows of each text that is long enough; of a pair, the first window of both."""
        limit = min(self.loaded.max_tokens, self.wanted.max_tokens or WINDOW)
        told = self.base.manifest.options.get("max_tokens")
        limit = min(limit, int(told)) if isinstance(told, int) else limit
        parts = [cut_windows(self.loaded.tokenizer, column, limit) for column in zip(*texts, strict=True)]
        long = [windows for windows in zip(*parts, strict=True) if all(windows)]
        found = [[one[0] for one in windows] if self.wanted.pairs else windows[0] for windows in long]
        self.short += len(texts) - len(found)
        return found

    @cached_property
    def _measured_windows(self) -> tuple[list[Windows], list[Windows]]:
        """The windows that the evidence is of: of the domain, and of other texts."""
        test = self._windows(self.corpus.splits.test)
        return test, self._windows(self.corpus.general) if self.corpus.general else []

    def _measure(self, candidate: Candidate, phase: str) -> tuple[list[TextLoss], list[TextLoss]]:
        candidate.train(False)
        self.channel.report(Progress(phase, unit="texts"))
        test, general = (
            self.form.measure(self.wanted, candidate, windows, rounds=ROUNDS) for windows in self._measured_windows
        )
        return test, general

    def _fit_head(self, candidate: Candidate, learner: Learner, recipe: Recipe, train: list[Windows]) -> bool:
        """Fit a new head on the frozen base, by as many steps as the base then has; False when it was asked to stop.

        What a loss says of the base before is what the best such head makes of it.
        """
        candidate.loaded.backbone.requires_grad_(False)
        run = self._trainer(HEAD, candidate, learner, replace(recipe, save_best=False), train)
        if run.resume():
            print(f"Goes on from step {run.position.step:,} of the head", flush=True)
        is_done = run.train()
        if is_done:
            run.save()
            candidate.loaded.backbone.requires_grad_(True)
        return is_done

    def _trainer(
        self, phase: str, candidate: Candidate, learner: Learner, recipe: Recipe, train: list[Windows]
    ) -> Trainer:
        validation = self._windows(self.corpus.splits.validation)

        def validate() -> float:
            return likelihood(self.form.measure(self.wanted, candidate, validation))

        hooks = Hooks(self._report_as(phase), lambda: self.channel.stop_asked, validate)
        place = Checkpoints(Path(self.job.scratch) / phase.replace(" ", "-"))
        examples = self.form.examples(self.wanted, self.loaded, train)
        return Trainer(candidate, learner.loss, examples, recipe, place, hooks, self._digest)

    def _report_as(self, phase: str) -> Callable[[Progress], None]:
        def report(progress: Progress) -> None:
            if progress.message:
                print(progress.message, flush=True)
            self.channel.report(replace(progress, phase=phase))

        return report

    @cached_property
    def _digest(self) -> str:
        """What a checkpoint must be of to go on from it."""
        said: dict[str, Any] = {key: value for key, value in self.job.args.items() if key != "data"}
        whole = to_json([said, self.corpus.digest, self.base.manifest.base_digest, self.dtype])
        return hashlib.sha256(whole).hexdigest()

    def _tokens_of_step(self, train: Sequence[Windows], recipe: Recipe) -> int:
        tokens = sum(len(ids) for windows in train for ids in windows)
        count = len(self.form.examples(self.wanted, self.loaded, train))
        return round(tokens / max(1, count) * (recipe.batch_size or 1))
