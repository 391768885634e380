"""Mixed precision (Micikevicius et al. 2018, arXiv:1710.03740): linear layers compute copies in bfloat16.

Autocast would make the copy anew in every pass, and a float32 gradient of every bfloat16 one. Here the optimizer's step
writes the copy, and reads the bfloat16 gradients of all workers: a step of few tokens is mostly such traffic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from llmos.nn.cpu.cpu_kernels import kernels
from llmos.nn.cpu.training_kernels import AdamWStep


class MixedWeights:
    """The trained weights and biases of a backbone's linear layers, and their copies while a training computes."""

    def __init__(
        self, backbone: nn.Module, weights: Mapping[str, nn.Parameter], output: nn.Module | None = None
    ) -> None:
        """Of these weights, takes those that stand in one linear layer and nowhere else.

        Not those of `output`: the loss computes with them itself, in float32.
        """
        names = {id(parameter): name for name, parameter in weights.items()}
        uses = Counter(id(p) for _, p in backbone.named_parameters(remove_duplicate=False))
        self.masters: dict[str, nn.Parameter] = {}
        self.copies: dict[str, nn.Parameter] = {}  # only inside `computing`
        self._places: dict[str, tuple[nn.Module, str]] = {}
        self._sums: dict[str, Tensor] = {}
        for module in backbone.modules():
            if (
                type(module) is nn.Linear and module is not output
            ):  # a subclass may compute something else with its weight
                for kind, parameter in module.named_parameters(recurse=False):
                    if id(parameter) in names and uses[id(parameter)] == 1:
                        name = names[id(parameter)]
                        self.masters[name], self._places[name] = parameter, (module, kind)

    @contextmanager
    def computing(self) -> Iterator[Mapping[str, nn.Parameter]]:
        """Inside this block, the layers compute with bfloat16 copies, which it yields by name."""
        self.copies = {name: nn.Parameter(x.detach().to(torch.bfloat16)) for name, x in self.masters.items()}
        self._put(self.copies)
        try:
            yield self.copies
        finally:
            self._put(self.masters)
            self.copies = {}

    def _put(self, parameters: Mapping[str, nn.Parameter]) -> None:
        for name, (module, kind) in self._places.items():
            setattr(module, kind, parameters[name])

    def add_up(self, *, is_last: bool) -> None:
        """After one of several backward passes, add its gradients up in float32; after the last, round the sums."""
        for name, copy in self.copies.items():
            if copy.grad is not None:
                kept = self._sums.get(name)
                self._sums[name] = copy.grad.float() if kept is None else kept.add_(copy.grad)
            copy.grad = None
            if is_last and name in self._sums:
                copy.grad = self._sums.pop(name).to(copy.dtype)


class MixedAdamW:
    """AdamW for one group of mixed weights: one pass over memory that sums gradients, steps, and writes the copy."""

    def __init__(self, mixed: MixedWeights, names: Iterable[str], decay: float, betas: tuple[float, float]) -> None:
        self._mixed, self._decay, self._betas = mixed, decay, betas
        self._moments = {
            name: (torch.zeros_like(mixed.masters[name]), torch.zeros_like(mixed.masters[name])) for name in names
        }
        self._steps = dict.fromkeys(self._moments, 0)
        found = kernels()
        self.kernels = found.training if found else None

    def squares(self, gradients: Mapping[str, Sequence[Tensor]]) -> float:
        """The sum of the squares of these weights' gradients, which come in parts."""
        return sum(self._squares(gradients[name]) for name in self._moments if gradients.get(name))

    def _squares(self, parts: Sequence[Tensor]) -> float:
        if self.kernels:
            return self.kernels.squares(parts)
        return float(_sum(parts).square().sum(dtype=torch.float64))

    @torch.no_grad()
    def step(self, gradients: Mapping[str, Sequence[Tensor]], rate: float, scale: float) -> None:
        """Step every weight that has a gradient, which is the sum of its parts times `scale`."""
        for name, moments in self._moments.items():
            if not gradients.get(name):
                continue
            self._steps[name] += 1
            by = AdamWStep(scale, rate, self._decay, self._betas, 1e-8, self._steps[name])
            told = self._mixed.masters[name].data, moments, self._mixed.copies[name].data, gradients[name], by
            if self.kernels:
                self.kernels.adamw(*told)
            else:
                _adamw(*told)

    def state(self, name: str) -> dict[str, Tensor]:
        """Moments and step count of a weight, with the names of torch's AdamW; empty if it is not in this group."""
        if name not in self._moments:
            return {}
        mean, square = self._moments[name]
        return {"step": torch.tensor(float(self._steps[name])), "exp_avg": mean, "exp_avg_sq": square}

    def load(self, name: str, state: Mapping[str, Tensor]) -> None:
        """Continue from what `state` returned, or torch's AdamW."""
        if name in self._moments and state:
            self._steps[name] = int(state["step"])
            for mine, kind in zip(self._moments[name], ("exp_avg", "exp_avg_sq"), strict=True):
                mine.copy_(state[kind])


def _sum(parts: Sequence[Tensor]) -> Tensor:
    total = parts[0].float()
    for one in parts[1:]:
        total += one
    return total


def _adamw(
    weight: Tensor, moments: tuple[Tensor, Tensor], copy: Tensor, parts: Sequence[Tensor], by: AdamWStep
) -> None:
    """The step of TrainingKernels.adamw in torch, where there is no compiler."""
    gradient = _sum(parts).mul_(by.scale)
    mean, square = moments
    first, second = by.corrections
    mean.lerp_(gradient, 1 - by.betas[0])
    square.mul_(by.betas[1]).addcmul_(gradient, gradient, value=1 - by.betas[1])
    weight.mul_(1 - by.rate * by.decay)
    weight.addcdiv_(mean, (square / second).sqrt_().add_(by.eps), value=-by.rate / first)
    copy.copy_(weight)
