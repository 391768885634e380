"""The inner loops in C (kernels.c): compiled once for this processor where there is a compiler, and called from here.

Whoever calls has another way for where there is none, with the same numbers up to the order of sums.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from ctypes import POINTER, Structure, byref, c_float, c_int, c_int64, c_long, c_void_p
from functools import cache
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from llmos.nn.nibbles import Nibbles

SOURCE = Path(__file__).with_name("kernels.c")
PANEL, BLOCK = 16, 64  # as in kernels.c: outputs side by side; inputs that share a scale
COMPILERS = ("cc", "gcc", "clang")
# What -ffast-math has, less what makes a compiler believe that no number is NaN or infinite.
FLAGS = (
    *("-O3", "-march=native", "-std=gnu11", "-shared", "-fPIC", "-fopenmp", "-fno-math-errno", "-fno-trapping-math"),
    *("-fno-signed-zeros", "-fassociative-math", "-freciprocal-math"),
)


class Matrix(Structure):
    """As in kernels.c."""

    _fields_ = (
        *((name, c_void_p) for name in ("nibbles", "packed", "scales", "less", "bias")),
        ("ins", c_int64),
        ("outs", c_int64),
    )


class Held(Structure):
    """As in kernels.c."""

    _fields_ = (
        *((name, c_void_p) for name in ("keys", "values", "tables", "starts", "first", "last")),
        *((name, c_int64) for name in ("block", "is_half")),
    )


class Decoder(Structure):
    """As in kernels.c."""

    _fields_ = (
        *((name, Matrix) for name in ("query", "key", "value", "out", "gate", "up", "down")),
        *((name, c_void_p) for name in ("before", "after", "query_norm", "key_norm")),
        *((name, c_float) for name in ("before_eps", "after_eps", "query_eps", "key_eps", "scale")),
        *((name, c_int64) for name in ("heads", "kv_heads", "d")),
    )


class Encoder(Structure):
    """As in kernels.c."""

    _fields_ = (
        *((name, Matrix) for name in ("query", "key", "value", "out", "widen", "narrow")),
        *((name, c_void_p) for name in ("first", "first_bias", "second", "second_bias")),
        *((name, c_float) for name in ("first_eps", "second_eps", "scale")),
        *((name, c_int64) for name in ("heads", "d")),
    )


class Product:
    """A product with weights that are packed: rows [..., ins] -> [..., outs], in float32 on the CPU."""

    def __init__(
        self, function: Any, ins: int, outs: int, bias: Tensor | None, **packed: Tensor
    ) -> None:  # Any: a function of a library, which has no type of its own
        self._function, self._ins, self._outs = function, ins, outs
        self._held = packed if bias is None else {**packed, "bias": bias}  # whose addresses follow
        self.matrix = Matrix(ins=ins, outs=outs, **{name: x.data_ptr() for name, x in self._held.items()})

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self._ins or x.dtype != torch.float32 or x.device.type != "cpu":
            raise RuntimeError(f"{self._ins} numbers a row, of float32 on the CPU, are wanted: {_told(x)}")
        x = x.contiguous()
        out = x.new_empty(*x.shape[:-1], self._outs)
        rows = x.numel() // self._ins
        _done(self._function(x.data_ptr(), rows, byref(self.matrix), out.data_ptr(), torch.get_num_threads()))
        return out


def _done(lacks_memory: int) -> None:
    if lacks_memory:
        raise MemoryError("There is no memory for what a layer computes in between")


def _held(held: tuple[Tensor, Tensor], reach: tuple[Tensor, Tensor, Tensor, Tensor, Tensor]) -> Held:
    keys, values = held
    is_half = keys.dtype == torch.float16
    return Held(keys.data_ptr(), values.data_ptr(), *(x.data_ptr() for x in reach[:-1]), keys.shape[2], is_half)


def _told(x: Tensor) -> str:
    return f"{tuple(x.shape)} of {x.dtype} on {x.device}"


def _check(is_right: bool, *tensors: Tensor) -> None:
    """RuntimeError rather than numbers from beside an array: the loops in C believe what they are told."""
    if not is_right or not all(x.dtype == torch.float32 and x.device.type == "cpu" for x in tensors):
        raise RuntimeError(f"These do not go together: {', '.join(map(_told, tensors))}")


def fits(*tensors: Tensor) -> bool:
    """The loops can compute this: float32 on the CPU, and no gradient is wanted."""
    return torch.is_inference_mode_enabled() and all(
        x.dtype == torch.float32 and x.device.type == "cpu" for x in tensors
    )


class Kernels:
    """The functions of kernels.c over tensors on the CPU, of float32 where nothing else is said."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        self._pack, self._product, self._attend = library.llmos_pack, library.llmos_product, library.llmos_attend
        self._norm, self._gate, self._rotate = library.llmos_norm, library.llmos_gate, library.llmos_rotate
        self._row, self._gelu, self._decode = library.llmos_row, library.llmos_gelu, library.llmos_decode
        self._centre, self._encode = library.llmos_centre, library.llmos_encode
        self.has_halves = bool(library.llmos_has_halves())
        self._pack_nibbles, self._nibbles_bytes = library.llmos_pack_nibbles, library.llmos_nibbles_bytes
        self._nibbles_bytes.restype, self._nibbles_bytes.argtypes = c_long, [c_long, c_long]
        for function in (self._product, self._attend, self._row, self._decode, self._encode):
            function.restype = c_int
        for function in (
            self._pack,
            self._pack_nibbles,
            self._norm,
            self._centre,
            self._gate,
            self._rotate,
            self._gelu,
        ):
            function.restype = None
        self._norm.argtypes = [c_void_p, c_void_p, c_float, c_long, c_long, c_void_p, c_int]
        self._centre.argtypes = [c_void_p, c_void_p, c_void_p, c_float, c_long, c_long, c_void_p, c_int]
        self._encode.argtypes = [POINTER(Encoder), c_void_p, c_void_p, c_long, c_void_p, c_int]
        self._row.argtypes = [
            *(c_void_p, c_long, c_long, c_void_p, c_long, c_long, c_void_p, c_long, c_long),
            *(c_void_p, c_void_p, c_long, c_long, c_long, c_long, c_float, c_int, c_long, c_void_p, c_int),
        ]
        self._gelu.argtypes = [c_void_p, c_long, c_void_p, c_int]
        self._gate.argtypes = [c_void_p, c_void_p, c_long, c_int]
        self._rotate.argtypes = [c_void_p, c_long, c_long, c_long, c_void_p, c_void_p, c_int]
        self._pack.argtypes = [c_void_p, c_void_p, c_long, c_long, c_void_p, c_void_p, c_void_p, c_int]
        self._pack_nibbles.argtypes = [c_void_p, c_void_p, c_void_p, c_long, c_long, c_void_p, c_int]
        self._reach = library.llmos_reach
        self._reach.restype, self._reach.argtypes = c_long, [c_void_p, c_long, c_long, c_int]
        self._product.argtypes = [c_void_p, c_long, POINTER(Matrix), c_void_p, c_int]
        self._attend.argtypes = [
            *(c_void_p, c_long, c_long, c_void_p, c_long, c_long, c_void_p, c_long, c_long),
            *(POINTER(Held), c_void_p, c_long, c_long, c_long, c_long, c_float, c_void_p, c_int),
        ]
        self._decode.argtypes = [
            *(POINTER(Decoder), c_void_p, c_long, c_void_p, c_void_p, POINTER(Held), c_void_p, c_int),
        ]

    def _holds(self, keys: Tensor, values: Tensor, kv_heads: int, d: int) -> bool:
        dtypes = (torch.float32, torch.float16) if self.has_halves else (torch.float32,)
        return (
            (keys.shape, keys.dtype, keys.device.type) == (values.shape, values.dtype, values.device.type)
            and keys.shape[1::2] == (kv_heads, d)
            and keys.dtype in dtypes
            and keys.device.type == "cpu"
        )

    def product(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Product:
        """A layer's int8 weights, [outs, ins], and what one of every BLOCK of an output's is worth.

        Of four weights that are added up at once those of one sign are at most 128 together (nn/quantized.py, REACH).
        """
        outs, ins = weight.shape
        panels, blocks = -(-outs // PANEL), -(-ins // BLOCK)
        packed = torch.empty(panels * PANEL * blocks * BLOCK, dtype=torch.int8)
        scales = torch.empty(panels * blocks * PANEL)
        less = torch.empty(panels * blocks * PANEL, dtype=torch.int32)
        weight, scale = weight.contiguous(), scale.contiguous()
        told = (x.data_ptr() for x in (packed, scales, less))
        self._pack(weight.data_ptr(), scale.data_ptr(), outs, ins, *told, torch.get_num_threads())
        return Product(self._product, ins, outs, bias, packed=packed, scales=scales, less=less)

    def reach(self, weight: Tensor) -> int:
        """Of int8 weights, [outs, ins], the largest sum of four that are added up at once (nn/quantized.py, REACH)."""
        weight = weight.contiguous()
        return int(self._reach(weight.data_ptr(), *weight.shape, torch.get_num_threads()))

    def product_of_nibbles(self, weights: Nibbles, bias: Tensor | None) -> Product:
        """As `product`, of weights of 4 bits."""
        codes, scale, least = weights.codes.contiguous(), weights.scale.float(), weights.least.float()
        outs, ins = len(codes), 2 * codes.shape[1]
        packed = torch.empty(self._nibbles_bytes(outs, ins), dtype=torch.uint8)
        told = (x.data_ptr() for x in (codes, scale, least))
        self._pack_nibbles(*told, outs, ins, packed.data_ptr(), torch.get_num_threads())
        return Product(self._product, ins, outs, bias, nibbles=packed)

    def attend(
        self,
        new: tuple[Tensor, Tensor, Tensor],
        held: tuple[Tensor, Tensor],
        reach: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
        scale: float,
        out: Tensor,
    ) -> None:
        """Tokens that continue their sequences alone: their keys and values join `held`, their outputs go to `out`.

        `new` are queries, keys and values of a row, [heads, T, d]; `held` [blocks, kv heads, size, d]; `out` [T, heads,
        d]; `held` may be of float16 where `has_halves`. `reach` says of each such token: all tokens' blocks (int32),
        where its own begin, the first and the last position that it sees, and its place in the row (int64).
        """
        query, key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in new)
        keys, values = held
        heads, kv_heads, d = len(query), len(key), query.shape[2]
        is_right = (
            heads % kv_heads == 0 and key.shape == value.shape and key.shape[2] == d and query.shape[1] == key.shape[1]
        )
        is_right = is_right and self._holds(keys, values, kv_heads, d)
        _check(is_right, query, key, value, out)
        places = reach[-1]
        lacks = self._attend(
            *(part for x in (query, key, value) for part in (x.data_ptr(), x.stride(0), x.stride(1))),
            *(byref(_held(held, reach)), places.data_ptr()),
            *(len(places), heads, kv_heads, d, scale, out.data_ptr()),
            torch.get_num_threads(),
        )
        _done(lacks)

    def decode(
        self,
        layer: Decoder,
        x: Tensor,
        positions: tuple[Tensor, Tensor],
        held: tuple[Tensor, Tensor],
        reach: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    ) -> Tensor:
        """A layer over tokens that all continue their sequences alone, [T, hidden] -> [T, hidden]; more as in `attend`.

        `positions` are cosines and sines, [T, d]. What `layer` points to is the caller's to keep.
        """
        x, cosine, sine = (one.contiguous() for one in (x, *positions))
        (keys, values), tokens = held, len(reach[-1])
        is_right = x.shape == (tokens, layer.out.outs) and cosine.shape == sine.shape == (tokens, layer.d)
        is_right = is_right and self._holds(keys, values, layer.kv_heads, layer.d)
        _check(is_right, x, cosine, sine)
        out = torch.empty_like(x)
        lacks = self._decode(
            byref(layer),
            *(x.data_ptr(), tokens, cosine.data_ptr(), sine.data_ptr(), byref(_held(held, reach)), out.data_ptr()),
            torch.get_num_threads(),
        )
        _done(lacks)
        return out

    def row(
        self,
        qkv: tuple[Tensor, Tensor, Tensor],
        asked: Sequence[int],
        held: Sequence[int],
        scale: float,
        *,
        is_causal: bool,
        window: int | None,
    ) -> Tensor:
        """Sequences side by side, each within its own: queries [heads, T, d], keys and values -> [T, heads, d].

        `asked` and `held` are where each one's queries and keys begin, and the end; a sequence's last query is its last
        key's. A query sees those of its position and before if causal, and only those nearer than `window`.
        """
        query, key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in qkv)
        heads, kv_heads, d = len(query), len(key), query.shape[2]
        is_right = heads % kv_heads == 0 and key.shape == value.shape and key.shape[2] == d
        is_right = is_right and len(asked) == len(held) and asked[-1] == query.shape[1] and held[-1] == key.shape[1]
        _check(is_right, query, key, value)
        out = query.new_empty(query.shape[1], heads, d)
        places = torch.tensor([asked, held])
        lacks = self._row(
            *(part for x in (query, key, value) for part in (x.data_ptr(), x.stride(0), x.stride(1))),
            *(places.data_ptr(), places.data_ptr() + places[0].nbytes, len(asked) - 1),
            *(heads, kv_heads, d, scale, is_causal, window or 0, out.data_ptr()),
            torch.get_num_threads(),
        )
        _done(lacks)
        return out

    def gelu(self, x: Tensor) -> Tensor:
        """Gaussian error linear units (Hendrycks and Gimpel 2016, arXiv:1606.08415), within 1.5e-7 of x of them."""
        x = x.contiguous()
        out = torch.empty_like(x)
        self._gelu(x.data_ptr(), x.numel(), out.data_ptr(), torch.get_num_threads())
        return out

    def norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Root mean square norm (Zhang and Sennrich 2019, arXiv:1910.07467) over the last dimension."""
        x, weight = x.contiguous(), weight.contiguous()
        _check(weight.shape == x.shape[-1:], x, weight)
        out, d = torch.empty_like(x), x.shape[-1]
        self._norm(x.data_ptr(), weight.data_ptr(), eps, x.numel() // d, d, out.data_ptr(), torch.get_num_threads())
        return out

    def centre(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        """Layer normalization (Ba, Kiros and Hinton 2016, arXiv:1607.06450) over the last dimension."""
        x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()
        _check(weight.shape == bias.shape == x.shape[-1:], x, weight, bias)
        out, d = torch.empty_like(x), x.shape[-1]
        told = x.data_ptr(), weight.data_ptr(), bias.data_ptr(), eps, x.numel() // d, d, out.data_ptr()
        self._centre(*told, torch.get_num_threads())
        return out

    def encode(self, layer: Encoder, x: Tensor, lengths: Sequence[int]) -> Tensor:
        """An encoder's layer over sequences of these lengths side by side, [T, hidden] -> [T, hidden].

        What `layer` points to is the caller's to keep.
        """
        x = x.contiguous()
        _check(x.shape == (sum(lengths), layer.out.outs) and min(lengths) > 0, x)
        starts, out = torch.tensor((0, *accumulate(lengths))), torch.empty_like(x)
        told = byref(layer), x.data_ptr(), starts.data_ptr(), len(lengths), out.data_ptr()
        _done(self._encode(*told, torch.get_num_threads()))
        return out

    def gate(self, gate: Tensor, up: Tensor) -> Tensor:
        """SiLU of the gate times `up`, both of one shape; in the gate's memory where both lie there in one order."""
        is_turned = gate.dim() > 1 and gate.mT.is_contiguous() and up.mT.is_contiguous()
        if not is_turned:
            gate, up = gate.contiguous(), up.contiguous()
        _check(gate.shape == up.shape, gate, up)
        self._gate(gate.data_ptr(), up.data_ptr(), gate.numel(), torch.get_num_threads())
        return gate

    def rotate(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Rotary positions (Su et al. 2021, arXiv:2104.09864) of [..., T, heads, d], in place where it lies in order.

        `cosine` and `sine` are [..., T, d].
        """
        x, cosine, sine = x.contiguous(), cosine.contiguous(), sine.contiguous()
        heads, d = x.shape[-2:]
        tokens = x.numel() // (heads * d)
        _check(d % 2 == 0 and cosine.numel() == sine.numel() == tokens * d, x, cosine, sine)
        self._rotate(x.data_ptr(), tokens, heads, d, cosine.data_ptr(), sine.data_ptr(), torch.get_num_threads())
        return x


def kernels() -> Kernels | None:
    """The compiled functions; None, with the reason on standard error, where they cannot be made."""
    with _making:
        return _kernels()


_making = Lock()


@cache
def _kernels() -> Kernels | None:
    try:
        return loaded()
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or error
        print(f"kernels.c could not be compiled, so that generation is slower: {said}", file=sys.stderr)  # noqa: T201
        return None


def loaded(source: Path = SOURCE, compilers: Sequence[str] = COMPILERS) -> Kernels:
    """The library for this source and this processor, beside it; made anew where it is damaged or not there.

    Where that folder cannot be written, it is compiled for this process alone. OSError where there is no compiler,
    CalledProcessError with what it said where it fails.
    """
    there = source.with_name(f"kernels-{_fingerprint(source)}.so")
    if there.exists():
        with suppress(OSError):  # damaged, by a full disk it may be
            return Kernels(there)
    command = next((found for one in compilers if (found := shutil.which(one))), None)
    if command is None:
        raise OSError(f"there is no C compiler ({', '.join(compilers)}). Install one, such as gcc, and start again")
    if os.access(source.parent, os.W_OK):
        with TemporaryDirectory(prefix=".kernels-", dir=source.parent) as folder:
            return Kernels(_compiled(command, source, Path(folder)).rename(there))  # whole, for who starts beside
    with TemporaryDirectory(prefix="llmos-kernels-") as folder:
        return Kernels(_compiled(command, source, Path(folder)))


def _compiled(command: str, source: Path, folder: Path) -> Path:
    made = folder / "kernels.so"
    subprocess.run([command, *FLAGS, str(source), "-o", str(made), "-lm"], check=True, capture_output=True, text=True)
    return made


def _fingerprint(source: Path) -> str:
    """Of all that decides the library's bytes: a folder may be shared by machines with different processors."""
    told = Path("/proc/cpuinfo")
    flags = (
        next((line for line in told.read_text().splitlines() if line[:5] in ("flags", "Featu")), "")
        if told.exists()
        else ""
    )
    parts = (source.read_text(), " ".join(FLAGS), platform.machine(), platform.libc_ver()[1], flags)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
