"""AdamW with decoupled weight decay, a row-wise form for embeddings, gradient clipping, warm-up and decay.

A step of a few hundred tokens touches one percent of an embedding table. A dense AdamW reads and writes the whole table
and its moments, which takes half of a small encoder's step. The row-wise form (torch's SparseAdam) updates only touched
rows. Weights with a bfloat16 copy have a step of their own (training/mixed_precision.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from llmos.abi.recipe import Recipe
from llmos.training.mixed_precision import MixedAdamW, MixedWeights

BETAS = (0.9, 0.999)


def _nothing() -> None:
    pass


class Optimizer:
    """Optimizer steps over named weights; all state is in named tensors, so that a checkpoint is a plain file."""

    def __init__(
        self, weights: Mapping[str, nn.Parameter], tables: set[str], recipe: Recipe, mixed: MixedWeights
    ) -> None:
        assert recipe.learning_rate is not None
        assert recipe.head_rate_ratio is not None
        self._weights = dict(weights)
        rate = recipe.learning_rate
        dense = {name: p for name, p in weights.items() if name not in tables}
        groups = []
        self.mixed: list[tuple[MixedAdamW, float]] = []
        for is_head in (False, True):
            for decays in (False, True):
                names = [
                    name for name, p in dense.items() if name.startswith("head.") == is_head and (p.dim() > 1) == decays
                ]
                own = [dense[name] for name in names if name not in mixed.masters]
                at = rate * (recipe.head_rate_ratio if is_head else 1)
                decay = recipe.weight_decay if decays else 0.0
                if own:
                    groups.append({"params": own, "lr": at, "weight_decay": decay})
                if len(own) < len(names):
                    copied = [name for name in names if name in mixed.masters]
                    self.mixed.append((MixedAdamW(mixed, copied, decay, BETAS), at))
        self._all: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, betas=BETAS, fused=True)] if groups else []
        if tables:
            self._all.append(torch.optim.SparseAdam([weights[name] for name in sorted(tables)], lr=rate, betas=BETAS))
        self._rates = [[float(group["lr"]) for group in one.param_groups] for one in self._all]
        self._clip_norm = recipe.clip_norm

    def step(
        self,
        factor: float,
        parts: Mapping[str, Sequence[Tensor]] | None = None,
        before_clear: Callable[[], None] = _nothing,
    ) -> None:
        """Clip the gradients, step at `factor` times the learning rates, and clear the gradients.

        `parts` are the gradients of mixed weights, to be summed; those of others stand at the weights.
        """
        scale = self._clip(parts or {})
        for one, rates in zip(self._all, self._rates, strict=True):
            for group, rate in zip(one.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            one.step()
        for mixed, rate in self.mixed:
            mixed.step(parts or {}, rate * factor, scale)
        before_clear()
        self.clear()

    def clear(self) -> None:
        """Forget the gradients at the weights."""
        for one in self._all:
            one.zero_grad(set_to_none=True)

    def _clip(self, parts: Mapping[str, Sequence[Tensor]]) -> float:
        """Scale the gradients at the weights; returns the factor, which is still to be applied to the mixed ones."""
        gradients: list[Tensor] = []
        for parameter in self._weights.values():
            if parameter.grad is not None and parameter.grad.is_sparse:
                parameter.grad = parameter.grad.coalesce()
                gradients.append(parameter.grad.values())
            elif parameter.grad is not None:
                gradients.append(parameter.grad)
        norms = torch._foreach_norm(gradients) if gradients else ()
        if self.mixed:
            norms = (*norms, torch.tensor(math.sqrt(sum(mixed.squares(parts) for mixed, _ in self.mixed))))
        norm = torch.linalg.vector_norm(torch.stack(norms))
        scale = (self._clip_norm / (norm + 1e-6)).clamp(max=1.0)
        if gradients:
            torch._foreach_mul_(gradients, scale)
        return float(scale)

    def state(self) -> dict[str, Tensor]:
        """Moments and step counts, by weight and kind."""
        return {f"{name}/{kind}": value for name, kind, value in self._held_rows()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a state that `state` returned, bit for bit."""
        owners = {id(p): name for name, p in self._weights.items()}
        for name in self._weights:
            held = {key.rpartition("/")[2]: x for key, x in state.items() if key.rpartition("/")[0] == name}
            for mixed, _ in self.mixed:
                mixed.load(name, held)
        for one in self._all:
            for group in one.param_groups:
                for parameter in group["params"]:
                    name = owners[id(parameter)]
                    held = {key.rpartition("/")[2]: x for key, x in state.items() if key.rpartition("/")[0] == name}
                    one.state[parameter] = {
                        kind: int(x)
                        if isinstance(one, torch.optim.SparseAdam) and kind == "step"
                        else x.to(parameter.device, copy=True)
                        for kind, x in held.items()
                    }

    def _held_rows(self) -> Iterator[tuple[str, str, Tensor]]:
        for name, parameter in self._weights.items():
            for one in self._all:
                for kind, value in one.state.get(parameter, {}).items():
                    yield name, kind, value if isinstance(value, Tensor) else torch.tensor(value)
            for mixed, _ in self.mixed:
                for kind, value in mixed.state(name).items():
                    yield name, kind, value


def factor_at(step: int, total: int, warmup_share: float, schedule: str) -> float:
    """The learning rate's factor at a step: linear warm-up, then linear or cosine decay."""
    warmup = max(1, round(total * warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    left = (total - step) / max(1, total - warmup)
    return left if schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left))
