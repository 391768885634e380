"""What int8 would save on this machine, in bytes and in time, measured before a base is converted.

Bytes follow from the tensors' shapes. Time is measured on products of these shapes, float and int8 in turn; the fastest
of a few tries counts, because other programs may run beside.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from llmos.abi.form import INT8, form_dtype, rest_of
from llmos.nn import load
from llmos.nn.cpu import int8_linear
from llmos.nn.cpu.cpu_kernels import BLOCK
from llmos.nn.cpu.few_row_matmul import turn
from llmos.nn.cpu.int8_linear import Int8

ROWS = (1, 16, 128)  # tokens per pass: decode of one sequence, decode of a batch, a text or a prompt
BUDGET_S = 2.5
TRIES = 5
# of a product that is tried; of a larger layer this many weights are tried and the time is scaled up
MOST_WEIGHTS = 1 << 21
MOST_SHAPES = 8

Shapes = Mapping[tuple[int, int], int]  # (out, in) -> the number of layers of this shape
Measure = Callable[["GainPlan", str], Mapping[int, float]]  # -> the speed of int8 relative to float, by rows
Run = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class GainPlan:
    """A base by the shapes of its tensors: the bytes of its forms, and the products that it computes.

    `is_whole` is false if some layers may be recovered in 4 bits (GGUF); int8 then takes less than computed here.
    """

    shapes: Shapes
    other: int  # elements outside of the layers that int8 converts
    floats: int  # elements of the float form, where layers may share weights
    generates: bool
    is_whole: bool = True

    def float_bytes(self, dtype: str) -> int:
        return self.floats * load.torch_dtype(dtype).itemsize

    def int8_bytes(self, dtype: str) -> int:
        """The bytes of the int8 form, for a device that computes in `dtype`."""
        integers = sum(count * (out * ins + 4 * out * -(-ins // BLOCK)) for (out, ins), count in self.shapes.items())
        return integers + self.other * load.torch_dtype(rest_of(form_dtype(INT8, dtype))).itemsize


@dataclass(frozen=True, slots=True)
class Gain:
    """The bytes of a base's weights in the device's dtype and in int8, and the speed of int8's products relative to
    float."""

    dtype: str
    float_bytes: int
    int8_bytes: int
    speeds: Mapping[int, float]  # by rows
    is_whole: bool = True

    @property
    def is_smaller(self) -> bool:
        return self.int8_bytes < self.float_bytes

    @property
    def is_faster(self) -> bool:
        """Whether int8 is faster for some number of rows."""
        return any(speed > 1 for speed in self.speeds.values())

    @property
    def plain(self) -> dict[str, object]:
        """The figures in the form that evidence stores."""
        speeds = {str(rows): round(speed, 3) for rows, speed in self.speeds.items()}
        sizes: dict[str, object] = {"float_bytes": self.float_bytes, "int8_bytes": self.int8_bytes}
        return {"dtype": self.dtype, **sizes, "is_whole": self.is_whole, "speeds": speeds}

    @property
    def figures(self) -> dict[str, float]:
        """The figures in the form that progress reports carry."""
        speeds = {f"speed_{rows}": round(speed, 3) for rows, speed in self.speeds.items()}
        return {"float_bytes": float(self.float_bytes), "int8_bytes": float(self.int8_bytes), **speeds}

    @property
    def sentence(self) -> str:
        """The expected gain in one sentence, or that there is none."""
        at_most = "" if self.is_whole else "at most "
        sizes = f"{at_most}{self.int8_bytes / 1e6:,.1f} MB for {self.float_bytes / 1e6:,.1f} MB in {self.dtype}"
        speeds = ", ".join(f"{speed:.2f} for {rows}" for rows, speed in self.speeds.items())
        text = f"int8 here: {sizes}; products {speeds} tokens at once, times as fast"
        hoped = {"smaller": self.is_smaller or not self.is_whole, "faster": self.is_faster}
        lacking = [word for word, is_so in hoped.items() if not is_so]
        return f"{text}. It will not be {' and not '.join(lacking)} on this machine" if lacking else text


def plan(folder: Path, *, is_whole: bool = True) -> GainPlan:
    """Plan from the config of the base in this folder; BadInput for an architecture that int8 does not support."""
    model = load.empty(folder)
    layers = dict(int8_linear.eligible(model))
    names = {path + int8_linear.WEIGHT for path in layers}
    tied = set(model.all_tied_weights_keys)
    state = model.state_dict()
    floats = sum(x.numel() for name, x in state.items() if name not in tied)
    other = sum(x.numel() for name, x in state.items() if name not in tied and name not in names)
    shapes = Counter((len(matrix), matrix.shape[1]) for matrix in map(int8_linear.matrix, layers.values()))
    return GainPlan(shapes, other, floats, model.can_generate(), is_whole)


def gain(plan: GainPlan, dtype: str, measure: Measure | None = None) -> Gain:
    """What int8 saves on a device that computes in `dtype`."""
    speeds = (measure or measure_gain)(plan, dtype)
    return Gain(dtype, plan.float_bytes(dtype), plan.int8_bytes(dtype), speeds, plan.is_whole)


@torch.inference_mode()
def measure_gain(plan: GainPlan, dtype: str, *, clock: Callable[[], float] = time.perf_counter) -> Mapping[int, float]:
    """Time products of the plan's largest shapes in this dtype and in int8, in turn, until the time budget is spent."""
    until = clock() + BUDGET_S
    taken = sorted(plan.shapes.items(), key=lambda one: one[1] * one[0][0] * one[0][1], reverse=True)[:MOST_SHAPES]
    spent = {rows: [0.0, 0.0] for rows in ROWS}
    for (out, ins), count in taken:
        part = min(out, max(int8_linear.LEAST_OUTPUTS, MOST_WEIGHTS // ins))
        both = _both(part, ins, load.torch_dtype(dtype), is_turned=plan.generates)
        for rows in ROWS:
            for at, fastest in enumerate(_time_products(both, rows, ins, clock, until)):
                spent[rows][at] += fastest * count * out / part
        if clock() > until:
            break
    return {rows: floats / integers for rows, (floats, integers) in spent.items() if integers > 0}


def _both(out: int, ins: int, dtype: torch.dtype, *, is_turned: bool) -> tuple[Run, Run]:
    """The same product in this dtype and in int8, in the order that serving would use."""
    layer = nn.Linear(ins, out, bias=False)
    layer.weight = nn.Parameter(torch.randn(out, ins, generator=torch.Generator().manual_seed(0)) * 0.02)
    integers = Int8(int8_linear.quantize_layer(layer), None)
    floats = nn.Sequential(layer.to(dtype))
    if is_turned:
        turn(floats)
    return (lambda x: floats(x.to(dtype))), integers


def _time_products(
    both: tuple[Run, Run], rows: int, ins: int, clock: Callable[[], float], until: float
) -> tuple[float, float]:
    """Each product's fastest time after one warm-up; at least one try, even past the time limit."""
    x = torch.randn(rows, ins, generator=torch.Generator().manual_seed(1))
    for run in both:
        run(x)
    fastest = [float("inf"), float("inf")]
    for _ in range(TRIES):
        for at, run in enumerate(both):
            start = clock()
            run(x)
            fastest[at] = min(fastest[at], clock() - start)
        if clock() > until:
            break
    return fastest[0], fastest[1]
