"""Fidelity: what a base loses in another number format, measured on a few texts without labels.

Of a base that embeds: the cosine of its vectors to those in float32. Of one that generates: how far what it thinks of
the next token diverges from that in float32 (Kullback and Leibler 1951), in nats a token; the loss would not do, for
texts that become less likely and others that become more so make up for each other. Neither says what a fine-tune of
it loses on its own rows; that is measured on those.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from llmos.abi.error import BadInput
from llmos.nn.load import Loaded
from llmos.nn.packing import forward, pack, pool

TOKENS_AT_ONCE = 512
TEXTS = (
    "The parcel was to come on Tuesday. It is Friday now, the tracking page has not changed, and nobody answers.",
    "I was charged twice for the same subscription in March; please send one of the two payments back to my card.",
    "How do I change the address of an order that has been paid for but has not left the warehouse yet?",
    "The app closes as soon as I open the camera. Installing it again did not help, nor did a restart.",
    "Thank you for the quick help yesterday, the new password works on the laptop and on the tablet as well.",
    "The hotel lies five minutes from the station; the room was clean, but the street is loud until midnight.",
    "A slow first hour, then two actors who seem to mean every word. I left the cinema in a better mood than I came.",
    "Nothing in this film is new, and nothing in it is done as well as it was done the first time.",
    "The central bank left its rate unchanged for the third time in a row and said that prices rose more slowly.",
    "After a goal in the last minute the visitors took the point home that nobody had expected of them.",
    "The council voted to close the old bridge to lorries until its bearings have been replaced next summer.",
    "Water boils at a lower temperature on a mountain, because the air above presses on it with less force.",
    "A cell copies its DNA before it divides, so that each of the two new cells has every instruction of the old one.",
    "The treaty was signed in the spring, and by autumn both sides were accusing each other of having broken it.",
    "If a function is continuous on a closed interval, it takes there a largest and a smallest value.",
    "def mean(values):\n    total = 0.0\n    for one in values:\n        total += one\n    return total / len(values)",
    "SELECT customer, SUM(amount) FROM orders WHERE placed_at >= '2024-01-01' GROUP BY customer ORDER BY 2 DESC;",
    "To make the dough, stir flour, salt and yeast together, add lukewarm water, and knead it for ten minutes.",
    "First unplug the machine. Then open the lid, take out the filter, rinse it under the tap, and let it dry.",
    "The tenant shall give notice in writing not later than three months before the end of the rental period.",
    "She had kept the letter for forty years without opening it, and now that he was dead she could not find it.",
    "Dear Ms Keller, unfortunately I have to move our appointment on Thursday. Would the following Monday suit you?",
    "Question: What is the capital of Australia? Answer: Canberra, although many people think that it is Sydney.",
    "The patient complains of a headache since this morning; no fever, blood pressure normal, no earlier illness.",
    "Take the second road on the left after the church, and go on until you see a red house with a blue door.",
    "In 1869 the two railway lines met in Utah, and a journey of months became a journey of about a week.",
    "Whales breathe air, feed their young with milk, and descend from animals that walked on land.",
    "Version 2.4 corrects an error in which exported dates lost their time zone; no change of settings is needed.",
    "The company expects sales of 4.2 billion this year, 7% more than last year, and wants to hire 600 engineers.",
    "You are right that the price is higher; it includes the delivery, the assembly and five years of guarantee.",
    "Die Rechnung ist angekommen, aber der Betrag stimmt nicht mit dem Angebot überein, das wir angenommen hatten.",
    "Le train de huit heures est supprimé; le suivant part à neuf heures vingt du quai numéro trois.",
)


@dataclass(frozen=True, slots=True)
class Fidelity:
    """What was measured, in float32 and in the other dtype, and what is lost: the difference, 0 for nothing."""

    measure: str
    plain: float
    other: float
    lost: float
    figures: dict[str, float]


@torch.inference_mode()
def compare_bases(plain: Loaded, other: Loaded, pooling: str = "mean") -> Fidelity:
    """The same base twice; BadInput if one of them computes what is not a number."""
    found = _compare_vectors(plain, other, pooling)
    if not all(map(isfinite, found.figures.values())):
        raise BadInput(
            f"Its {found.measure} is not a number: the weights are damaged. Bring the base in again",
            reason="not_finite",
        )
    return found


def _compare_vectors(plain: Loaded, other: Loaded, pooling: str) -> Fidelity:
    if plain.causal is not None and other.causal is not None:
        figures = _beliefs_compared(plain, other)
        return Fidelity("divergence", 0.0, figures["divergence"], max(0.0, figures["divergence"]), figures)
    cosines = torch.cosine_similarity(_vectors(plain, pooling), _vectors(other, pooling))
    mean, least = cosines.mean().item(), cosines.min().item()
    return Fidelity("mean_cosine", 1.0, mean, max(0.0, 1.0 - mean), {"mean_cosine": mean, "least_cosine": least})


def _batches(loaded: Loaded) -> Iterator[list[list[int]]]:
    """The texts as tokens, as many at once as one pass should take."""
    batch: list[list[int]] = []
    for encoding in loaded.tokenizer.encode(TEXTS):
        ids = list(encoding.ids)[: loaded.max_tokens]
        if batch and sum(map(len, batch)) + len(ids) > TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(ids)
    yield batch


def _vectors(loaded: Loaded, pooling: str) -> Tensor:
    packed = [pack(batch, loaded.device) for batch in _batches(loaded)]
    return torch.cat([pool(forward(loaded.backbone, one), one.lengths, pooling) for one in packed])


def _beliefs_compared(plain: Loaded, other: Loaded) -> dict[str, float]:
    """The mean of minus the logarithm of each next token's probability in both, and the divergence, in nats."""
    before, after, apart, count = 0.0, 0.0, 0.0, 0
    for batch in _batches(plain):
        for ids, wanted, got in zip(batch, _beliefs(plain, batch), _beliefs(other, batch), strict=True):
            follow = torch.tensor(ids[1:])[:, None]
            before -= wanted.gather(1, follow).sum().item()
            after -= got.gather(1, follow).sum().item()
            apart += (wanted.exp() * (wanted - got)).sum().item()
            count += len(ids) - 1
    count = max(1, count)
    return {"loss": after / count, "loss_float32": before / count, "divergence": apart / count}


def _beliefs(loaded: Loaded, batch: list[list[int]]) -> Iterator[Tensor]:
    """The logarithm of each next token's probability, [tokens - 1, vocabulary] of each text."""
    causal: Any = loaded.causal  # Any: a model of some architecture, with transformers' methods
    head = causal.get_output_embeddings()
    config = loaded.config  # some architectures do something to their logits, as nn/next_token.py knows too
    scale = float(getattr(config, "logit_scale", None) or 1.0 / getattr(config, "logits_scaling", 1.0))
    cap = getattr(config, "final_logit_softcapping", None)
    hidden = forward(loaded.backbone, pack(batch, loaded.device))
    for states in torch.split(hidden, [len(ids) for ids in batch]):
        logits = head(states[:-1]).float() * scale
        yield (logits if cap is None else cap * torch.tanh(logits / cap)).log_softmax(-1).cpu()
