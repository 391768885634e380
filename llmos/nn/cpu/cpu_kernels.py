"""C kernels (kernels.c): compiled once per CPU path with the system's compiler, and called through ctypes.

Whoever calls has another way for where there is none, with the same numbers up to the order of sums. The same way is
taken for tensors that a loop was not made for: it then returns None, and has changed nothing.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from ctypes import POINTER, Structure, byref, c_float, c_int, c_int64, c_long, c_void_p
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from llmos.abi.cpu import COMPILERS, NATIVE, SETTING, CpuPath, compiler, features
from llmos.abi.error import BadSetting
from llmos.nn.cpu import cpu_path
from llmos.nn.cpu.int4 import Int4Weights

SOURCE = Path(__file__).with_name("kernels.c")
PANEL, BLOCK = 16, 64  # as in kernels.c: outputs side by side; inputs that share a scale
# What -ffast-math has, less what makes a compiler believe that no number is NaN or infinite.
FLAGS = (
    *("-O3", "-std=gnu11", "-shared", "-fPIC", "-fopenmp", "-fno-math-errno", "-fno-trapping-math"),
    *("-fno-signed-zeros", "-fassociative-math", "-freciprocal-math"),
)


class Matrix(Structure):
    """As in kernels.c."""

    _fields_ = (
        *((name, c_void_p) for name in ("nibbles", "packed", "scales", "less", "bias")),
        ("ins", c_int64),
        ("outs", c_int64),
    )


class HeldKV(Structure):
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
    """A product with weights that are packed: rows [..., ins] -> [..., outs] in float32 on the CPU, None for others."""

    def __init__(
        self, function: Any, ins: int, outs: int, bias: Tensor | None, **packed: Tensor
    ) -> None:  # Any: a function of a library, which has no type of its own
        self._function, self._ins, self._outs = function, ins, outs
        if bias is not None:  # another tensor on the same numbers: a parameter may be given others
            packed["bias"] = bias.detach().float().contiguous()
        self._held = packed  # whose addresses follow
        self.matrix = Matrix(ins=ins, outs=outs, **{name: x.data_ptr() for name, x in self._held.items()})

    def __call__(self, x: Tensor) -> Tensor | None:
        if not _takes(x) or x.shape[-1] != self._ins:
            return None
        x = x.contiguous()
        out = x.new_empty(*x.shape[:-1], self._outs)
        rows = x.numel() // self._ins
        _check_memory(self._function(x.data_ptr(), rows, byref(self.matrix), out.data_ptr(), torch.get_num_threads()))
        return out


def _check_memory(lacks_memory: int) -> None:
    if lacks_memory:
        raise MemoryError("There is no memory for what a layer computes in between")


def _cached_kv(held: tuple[Tensor, Tensor], reach: tuple[Tensor, Tensor, Tensor, Tensor, Tensor]) -> HeldKV:
    keys, values = held
    is_half = keys.dtype == torch.float16
    return HeldKV(keys.data_ptr(), values.data_ptr(), *(x.data_ptr() for x in reach[:-1]), keys.shape[2], is_half)


def _takes(*tensors: Tensor) -> bool:
    """The loops can read these: dense float32 on the CPU, some numbers of at least one dimension."""
    return all(
        x.dtype == torch.float32 and x.device.type == "cpu" and x.layout == torch.strided and x.dim() and x.numel()
        for x in tensors
    )


def fits(*tensors: Tensor) -> bool:
    """The loops can compute with these as they are: no gradient is wanted, and no product is to be in another dtype."""
    return torch.is_inference_mode_enabled() and not torch.is_autocast_enabled("cpu") and _takes(*tensors)


class Kernels:
    """The functions of kernels.c over tensors on the CPU, of float32 where nothing else is said.

    Each checks what it is given before it reads or writes any of it, for a loop in C believes what it is told.
    """

    def __init__(self, path: Path, name: str) -> None:
        """The library at this place, and the name of the CPU path that it was compiled for."""
        library = ctypes.CDLL(str(path))
        self.name = name
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
            *(POINTER(HeldKV), c_void_p, c_long, c_long, c_long, c_long, c_float, c_void_p, c_int),
        ]
        self._decode.argtypes = [
            *(POINTER(Decoder), c_void_p, c_long, c_void_p, c_void_p, POINTER(HeldKV), c_void_p, c_int),
        ]

    def _holds(self, held: tuple[Tensor, Tensor], kv_heads: int, d: int) -> bool:
        keys, values = held
        dtypes = (torch.float32, torch.float16) if self.has_halves else (torch.float32,)
        return (
            (keys.shape, keys.dtype, keys.device.type) == (values.shape, values.dtype, values.device.type)
            and keys.dim() == 4
            and keys.shape[1::2] == (kv_heads, d)
            and keys.dtype in dtypes
            and keys.device.type == "cpu"
            and keys.is_contiguous()
            and values.is_contiguous()
        )

    def attends(self, new: tuple[Tensor, Tensor, Tensor], held: tuple[Tensor, Tensor]) -> bool:
        """Whether `attend`, and `row` over what is read of `held`, can compute these queries, keys and values."""
        query, key, _ = new
        is_right = _go_together(*new) and query.shape[1] == key.shape[1]
        return is_right and self._holds(held, len(key), query.shape[2])

    def product(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Product:
        """A layer's int8 weights, [outs, ins], and what one of every BLOCK of an output's is worth.

        Of four weights that are added up at once those of one sign are at most 128 together (int8_linear.py, REACH).
        """
        outs, ins = weight.shape
        panels, blocks = -(-outs // PANEL), -(-ins // BLOCK)
        packed = torch.empty(panels * PANEL * blocks * BLOCK, dtype=torch.int8)
        scales = torch.empty(panels * blocks * PANEL)
        less = torch.empty(panels * blocks * PANEL, dtype=torch.int32)
        weight, scale = weight.to(torch.int8).contiguous(), scale.float().contiguous()
        told = (x.data_ptr() for x in (packed, scales, less))
        self._pack(weight.data_ptr(), scale.data_ptr(), outs, ins, *told, torch.get_num_threads())
        return Product(self._product, ins, outs, bias, packed=packed, scales=scales, less=less)

    def reach(self, weight: Tensor) -> int:
        """Of int8 weights, [outs, ins], the largest sum of four that are added up at once (int8_linear.py, REACH)."""
        weight = weight.contiguous()
        return int(self._reach(weight.data_ptr(), *weight.shape, torch.get_num_threads()))

    def product_of_nibbles(self, weights: Int4Weights, bias: Tensor | None) -> Product:
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

        Only for what `attends` says yes to: half of it cannot be taken back.

        `new` are queries, keys and values of a row, [heads, T, d]; `held` [blocks, kv heads, size, d]; `out` [T, heads,
        d]; `held` may be of float16 where `has_halves`. `reach` says of each such token: all tokens' blocks (int32),
        where its own begin, the first and the last position that it sees, and its place in the row (int64).
        """
        assert self.attends(new, held), "attends says which tensors these may be"
        assert (out.dtype, out.shape) == (torch.float32, new[0].transpose(0, 1).shape)
        query, key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in new)
        heads, kv_heads, d = len(query), len(key), query.shape[2]
        places = reach[-1]
        lacks = self._attend(
            *(part for x in (query, key, value) for part in (x.data_ptr(), x.stride(0), x.stride(1))),
            *(byref(_cached_kv(held, reach)), places.data_ptr()),
            *(len(places), heads, kv_heads, d, scale, out.data_ptr()),
            torch.get_num_threads(),
        )
        _check_memory(lacks)

    def decode(
        self,
        layer: Decoder,
        x: Tensor,
        positions: tuple[Tensor, Tensor],
        held: tuple[Tensor, Tensor],
        reach: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    ) -> Tensor | None:
        """A layer over tokens that all continue their sequences alone, [T, hidden] -> [T, hidden]; more as in `attend`.

        `positions` are cosines and sines, [T, d]. What `layer` points to is the caller's to keep.
        """
        tokens = len(reach[-1])
        if not _takes(x, *positions) or not self._holds(held, layer.kv_heads, layer.d):
            return None
        if x.shape != (tokens, layer.out.outs) or any(one.shape != (tokens, layer.d) for one in positions):
            return None
        x, cosine, sine = (one.contiguous() for one in (x, *positions))
        out = torch.empty_like(x)
        lacks = self._decode(
            byref(layer),
            *(x.data_ptr(), tokens, cosine.data_ptr(), sine.data_ptr(), byref(_cached_kv(held, reach)), out.data_ptr()),
            torch.get_num_threads(),
        )
        _check_memory(lacks)
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
    ) -> Tensor | None:
        """Sequences side by side, each within its own: queries [heads, T, d], keys and values -> [T, heads, d].

        `asked` and `held` are where each one's queries and keys begin, and the end; a sequence's last query is its last
        key's. A query sees those of its position and before if causal, and only those nearer than `window`.
        """
        if not _go_together(*qkv) or not _cover(asked, qkv[0].shape[1]) or not _cover(held, qkv[1].shape[1]):
            return None
        if len(asked) != len(held) or ((is_causal or window) and not _reach_back(asked, held)):
            return None
        query, key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in qkv)
        heads, kv_heads, d = len(query), len(key), query.shape[2]
        out = query.new_empty(query.shape[1], heads, d)
        places = torch.tensor([asked, held])
        lacks = self._row(
            *(part for x in (query, key, value) for part in (x.data_ptr(), x.stride(0), x.stride(1))),
            *(places.data_ptr(), places.data_ptr() + places[0].nbytes, len(asked) - 1),
            *(heads, kv_heads, d, scale, is_causal, window or 0, out.data_ptr()),
            torch.get_num_threads(),
        )
        _check_memory(lacks)
        return out

    def gelu(self, x: Tensor) -> Tensor | None:
        """Gaussian error linear units (Hendrycks and Gimpel 2016, arXiv:1606.08415), within 1.5e-7 of x of them."""
        if not _takes(x):
            return None
        x = x.contiguous()
        out = torch.empty_like(x)
        self._gelu(x.data_ptr(), x.numel(), out.data_ptr(), torch.get_num_threads())
        return out

    def norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor | None:
        """Root mean square norm (Zhang and Sennrich 2019, arXiv:1910.07467) over the last dimension."""
        if not _takes(x, weight) or weight.shape != x.shape[-1:]:
            return None
        x, weight = x.contiguous(), weight.contiguous()
        out, d = torch.empty_like(x), x.shape[-1]
        self._norm(x.data_ptr(), weight.data_ptr(), eps, x.numel() // d, d, out.data_ptr(), torch.get_num_threads())
        return out

    def centre(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor | None:
        """Layer normalization (Ba, Kiros and Hinton 2016, arXiv:1607.06450) over the last dimension."""
        if not _takes(x, weight, bias) or not weight.shape == bias.shape == x.shape[-1:]:
            return None
        x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()
        out, d = torch.empty_like(x), x.shape[-1]
        told = x.data_ptr(), weight.data_ptr(), bias.data_ptr(), eps, x.numel() // d, d, out.data_ptr()
        self._centre(*told, torch.get_num_threads())
        return out

    def encode(self, layer: Encoder, x: Tensor, lengths: Sequence[int]) -> Tensor | None:
        """An encoder's layer over sequences of these lengths side by side, [T, hidden] -> [T, hidden].

        What `layer` points to is the caller's to keep.
        """
        if not _takes(x) or x.shape != (sum(lengths), layer.out.outs) or min(lengths) <= 0:
            return None
        x = x.contiguous()
        starts, out = torch.tensor((0, *accumulate(lengths))), torch.empty_like(x)
        told = byref(layer), x.data_ptr(), starts.data_ptr(), len(lengths), out.data_ptr()
        _check_memory(self._encode(*told, torch.get_num_threads()))
        return out

    def gate(self, gate: Tensor, up: Tensor) -> Tensor | None:
        """SiLU of the gate times `up`, both of one shape; in the gate's memory where both lie there in one order."""
        if not _takes(gate, up) or gate.shape != up.shape:
            return None
        is_turned = gate.dim() > 1 and gate.mT.is_contiguous() and up.mT.is_contiguous()
        if not is_turned:
            gate, up = gate.contiguous(), up.contiguous()
        self._gate(gate.data_ptr(), up.data_ptr(), gate.numel(), torch.get_num_threads())
        return gate

    def rotate(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor | None:
        """Rotary positions (Su et al. 2021, arXiv:2104.09864) of [..., T, heads, d], in place where it lies in order.

        `cosine` and `sine` are [..., T, d].
        """
        if not _takes(x, cosine, sine) or x.dim() < 3 or x.shape[-1] % 2:
            return None
        heads, d = x.shape[-2:]
        tokens = x.numel() // (heads * d)
        if not all(one.shape[-1] == d and one.numel() == tokens * d for one in (cosine, sine)):
            return None
        x, cosine, sine = x.contiguous(), cosine.contiguous(), sine.contiguous()
        self._rotate(x.data_ptr(), tokens, heads, d, cosine.data_ptr(), sine.data_ptr(), torch.get_num_threads())
        return x


def _go_together(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Queries, [heads, T, d], whose heads share those of keys and values, [kv heads, S, d]."""
    if not _takes(query, key, value) or any(x.dim() != 3 for x in (query, key, value)):
        return False
    return len(query) % len(key) == 0 and key.shape == value.shape and key.shape[2] == query.shape[2]


def _cover(bounds: Sequence[int], count: int) -> bool:
    """Where sequences begin, and the end, of so many: none is empty."""
    return len(bounds) > 1 and (bounds[0], bounds[-1]) == (0, count) and all(one < end for one, end in pairwise(bounds))


def _reach_back(asked: Sequence[int], held: Sequence[int]) -> bool:
    """Each sequence has a key for each of its queries."""
    return all(b - a <= d - c for (a, b), (c, d) in zip(pairwise(asked), pairwise(held), strict=True))


def kernels() -> Kernels | None:
    """The compiled functions of this process's CPU path (nn/cpu/cpu_path.py); None where there are to be none.

    None too where they cannot be made, with the reason on standard error; BadSetting if the path was asked for by name.
    """
    with _making:
        return _kernels(cpu_path.setting())


_making = Lock()


@cache
def _kernels(setting: str) -> Kernels | None:
    path = cpu_path.path()
    if path is None:
        return None
    try:
        return load_library(path)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or error
        if cpu_path.is_forced():
            raise BadSetting(
                f"{SETTING} is {setting!r}, and its loops cannot be made: {said}. Leave the setting at auto",
                key=SETTING,
                value=setting,
                expected="auto",
            ) from error
        print(f"kernels.c could not be compiled, so that generation is slower: {said}", file=sys.stderr)  # noqa: T201
        return None


def load_library(path: CpuPath, source: Path = SOURCE, compilers: Sequence[str] = COMPILERS) -> Kernels:
    """The library for this source and this path, beside it; made anew where it is damaged or not there.

    Where that folder cannot be written, it is compiled for this process alone. OSError where there is no compiler,
    CalledProcessError with what it said where it fails.
    """
    name = path.loops or path.name
    there = source.with_name(f"kernels-{name}-{_fingerprint(source, path)}.so")
    if there.exists():
        with suppress(OSError):  # damaged, by a full disk it may be
            return Kernels(there, name)
    command = compiler(compilers)
    if command is None:
        raise OSError(f"there is no C compiler ({', '.join(compilers)}). Install one, such as gcc, and start again")
    if os.access(source.parent, os.W_OK):
        with TemporaryDirectory(prefix=".kernels-", dir=source.parent) as folder:
            return Kernels(_compile(command, source, path, Path(folder)).rename(there), name)  # whole, for others too
    with TemporaryDirectory(prefix="llmos-kernels-") as folder:
        return Kernels(_compile(command, source, path, Path(folder)), name)


def _compile(command: str, source: Path, path: CpuPath, folder: Path) -> Path:
    made = folder / "kernels.so"
    asked = [command, *path.flags, *FLAGS, str(source), "-o", str(made), "-lm"]
    subprocess.run(asked, check=True, capture_output=True, text=True)
    return made


def _fingerprint(source: Path, path: CpuPath) -> str:
    """Of all that decides the library's bytes: a folder may be shared by machines with different processors.

    A path's flags are all that its library may use, and a path is only chosen where the processor has them; where the
    compiler itself asks the processor, what that has is a part of it.
    """
    has = " ".join(sorted(features())) if path.name == NATIVE else ""
    parts = source.read_text(), " ".join((*path.flags, *FLAGS)), platform.machine(), platform.libc_ver()[1], has
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
