"""The files of an adapted base, its evidence, and its offer to the store."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from llmos.abi.adaptation import Adaptation
from llmos.abi.frame import Job, ModelPath
from llmos.abi.json_type import Json
from llmos.abi.matryoshka import MATRYOSHKA
from llmos.abi.model import Offer, OfferKind, Verdict
from llmos.abi.process import Progress
from llmos.abi.recipe import Recipe
from llmos.evaluation.adaptation import LossChange, gate_of
from llmos.evaluation.fidelity import Fidelity, compare_bases
from llmos.nn.load import WEIGHTS, load_folder, read_weights
from llmos.nn.masked_token import MaskedHead
from llmos.nn.shrink import write_model
from llmos.programs.channel import Channel
from llmos.programs.derived_base import copy_beside
from llmos.programs.describe import choose_files, describe
from llmos.programs.resident import offer_resident
from llmos.training.candidate import CONFIG, Candidate

OFFER = 1
HALVES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True, slots=True)
class AdaptedBase:
    """A trained base that was made of the one in the folder `source`."""

    wanted: Adaptation
    recipe: Recipe
    base: ModelPath
    source: Path
    candidate: Candidate

    @torch.no_grad()
    def round_weights(self) -> None:
        """Round the weights as they were published, before they are measured: so they are kept."""
        dtype = self._published_dtype
        if dtype in HALVES:
            for parameter in self.candidate.loaded.backbone.parameters():
                parameter.copy_(parameter.to(dtype))

    @property
    def _published_dtype(self) -> torch.dtype:
        return max((x for x in read_weights(self.source).values() if x.is_floating_point()), key=torch.numel).dtype

    def write(self, out: Path) -> None:
        """All files, into this folder."""
        shutil.rmtree(out, ignore_errors=True)
        copy_beside(self.base, self.source, out)
        loaded = self.candidate.loaded
        write_model(loaded.causal or loaded.backbone, out)
        shutil.copyfile(self.source / CONFIG, out / CONFIG)  # the architecture and the dtype are the same
        dtype = self._published_dtype
        weights = load_file(out / WEIGHTS)
        if dtype in HALVES:
            weights = {name: x.to(dtype) if x.is_floating_point() else x for name, x in weights.items()}
        head = self.candidate.head
        if self.wanted.keep_head and isinstance(head, MaskedHead):
            own = head.tensors(str(loaded.config.model_type))
            weights |= {name: x.detach().to(dtype).contiguous() for name, x in own.items()}
        save_file(weights, out / WEIGHTS, {"format": "pt"})


def offer_adapted(
    channel: Channel,
    job: Job,
    made: AdaptedBase,
    held: LossChange,
    general: LossChange | None,
    verdict: Verdict,
    facts: Mapping[str, Json],
) -> str:
    """Write and offer the base; returns its ref. The same offer again gives the same version."""
    channel.report(Progress("write", message="writing the adapted base"))
    out, base = Path(job.scratch) / "adapted", made.base.manifest
    made.write(out)
    moved = _distance(made, out)
    files = choose_files([str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()], base.ref)
    draft = describe(out, [path for path, _ in files])
    evidence = {
        "metrics": {"loss": held.after},
        "adaptation": {
            "objective": made.wanted.objective,
            "held_out": held.plain(),
            **_of_others(made, general),
            "moved": moved.figures,
            **facts,
        },
        "gate": gate_of(held, verdict),
    }
    draft |= {
        "license": base.license or draft["license"],
        "source": f"adapt, pid {job.pid}",
        "options": draft["options"] | _kept_options(made),
        "evidence": evidence,
        "lineage": _lineage(job, made, held, general, moved, facts),
    }
    name = made.wanted.name
    accepted = channel.offer(Offer(OFFER, OfferKind.BASE, name, str(out), tuple(files), draft, verdict))
    offer_resident(channel, accepted.ref, Path(accepted.folder), job.dtype, Path(job.scratch) / "resident")
    return accepted.ref


def _of_others(made: AdaptedBase, general: LossChange | None) -> dict[str, Json]:
    """What texts of another kind have lost; nothing where none were measured."""
    if general is None:
        return {}
    return {"other_texts": general.plain() | {"source": made.wanted.general or "texts that come with llmos"}}


def _distance(made: AdaptedBase, out: Path) -> Fidelity:
    """How far its answers to texts of all kinds lie from those of the base it was made of."""
    pooling = str(made.base.manifest.options.get("pooling", "mean"))
    return compare_bases(load_folder(made.source), load_folder(out), pooling)


def _kept_options(made: AdaptedBase) -> dict[str, Json]:
    """What the base has of the one before, and the lengths that its vectors may be cut to."""
    known = {key: value for key, value in made.base.manifest.options.items() if key == "rate_factor"}
    lengths = list(made.wanted.matryoshka)
    return known | ({MATRYOSHKA: [*lengths, made.candidate.loaded.hidden_size]} if lengths else {})


def _lineage(
    job: Job,
    made: AdaptedBase,
    held: LossChange,
    general: LossChange | None,
    moved: Fidelity,
    facts: Mapping[str, Json],
) -> dict[str, Json]:
    recipe, base = made.recipe, made.base.manifest
    return {
        "process": job.pid,
        "offer": OFFER,
        "made of": base.ref,
        "made of digest": base.base_digest or "",
        "objective": made.wanted.objective,
        "data": made.wanted.data.train,
        "epochs": recipe.epochs,
        "learning rate": recipe.learning_rate,
        "batch": recipe.batch_size,
        "seed": recipe.seed,
        "held-out texts": held.sentence,
        **({} if general is None else {"other texts": general.sentence}),
        "moved": f"{moved.measure} {moved.other:.4f}" if made.candidate.loaded.causal is None else _divergence(moved),
        "read": f"{facts['texts']:,} texts, {facts['tokens']:,} tokens in {facts['trained_s']:,} s of training",
    }


def _divergence(moved: Fidelity) -> str:
    return f"divergence {moved.lost:.4f} nats a token"
