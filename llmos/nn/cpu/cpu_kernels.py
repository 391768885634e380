"""C kernels (kernels.c): compiled once per CPU path with the system's compiler, and called through ctypes.

Without a compiler, callers compute the same numbers in torch, up to the order of sums. A kernel returns None for
tensors that it does not support, and has then changed nothing; the caller uses torch for these too.
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
from llmos.nn.cpu.training_kernels import TrainingKernels

SOURCE = Path(__file__).with_name("kernels.c")
PANEL, BLOCK = 16, 64  # as in kernels.c: outputs per panel; inputs that share a scale
# The flags of -ffast-math, without those that assume there is no NaN and no infinity.
FLAGS = (
    *("-O3", "-std=gnu11", "-shared", "-fPIC", "-fopenmp", "-fno-math-errno", "-fno-trapping-math"),
    *("-fno-signed-zeros", "-fassociative-math", "-freciprocal-math"),
)


class Matrix(Structure):
    """A weight matrix; the same struct as in kernels.c."""

    _fields_ = (
        *((name, c_void_p) for name in ("nibbles", "packed", "scales", "less", "bias")),
        ("ins", c_int64),
        ("outs", c_int64),
    )


class HeldKV(Structure):
    """The KV cache and block tables of one attention call; the same struct as in kernels.c."""

    _fields_ = (
        *((name, c_void_p) for name in ("keys", "values", "tables", "starts", "first", "last")),
        *((name, c_int64) for name in ("block", "is_half")),
    )


class Decoder(Structure):
    """A decoder layer; the same struct as in kernels.c."""

    _fields_ = (
        *((name, Matrix) for name in ("query", "key", "value", "out", "gate", "up", "down")),
        *((name, c_void_p) for name in ("before", "after", "query_norm", "key_norm")),
        *((name, c_float) for name in ("before_eps", "after_eps", "query_eps", "key_eps", "scale")),
        *((name, c_int64) for name in ("heads", "kv_heads", "d")),
    )


class Encoder(Structure):
    """An encoder layer; the same struct as in kernels.c."""

    _fields_ = (
        *((name, Matrix) for name in ("query", "key", "value", "out", "widen", "narrow")),
        *((name, c_void_p) for name in ("first", "first_bias", "second", "second_bias")),
        *((name, c_float) for name in ("first_eps", "second_eps", "scale")),
        *((name, c_int64) for name in ("heads", "d")),
    )


class Product:
    """A product with packed weights: float32 rows [..., ins] -> [..., outs] on the CPU; None for other tensors."""

    def __init__(
        self, function: Any, ins: int, outs: int, bias: Tensor | None, **packed: Tensor
    ) -> None:  # Any: a ctypes function has no type of its own
        self._function, self._ins, self._outs = function, ins, outs
        if bias is not None:  # a copy, because a parameter's data may be replaced
            packed["bias"] = bias.detach().float().contiguous()
        self._held = packed  # keeps the tensors alive whose addresses are in the struct
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
    """Whether the kernels can read these: non-empty, dense float32 tensors on the CPU."""
    return all(
        x.dtype == torch.float32 and x.device.type == "cpu" and x.layout == torch.strided and x.dim() and x.numel()
        for x in tensors
    )


def fits(*tensors: Tensor) -> bool:
    """Whether the kernels can compute with these now: inference mode, no autocast, readable tensors."""
    return torch.is_inference_mode_enabled() and not torch.is_autocast_enabled("cpu") and _takes(*tensors)


class Kernels:
    """The functions of kernels.c over tensors on the CPU, in float32 unless stated otherwise.

    Each checks its arguments before it reads or writes memory, because C checks nothing.
    """

    def __init__(self, path: Path, name: str) -> None:
        """Open the library at this path; `name` is the CPU path that it was compiled for."""
        library = ctypes.CDLL(str(path))
        self.name = name
        self.training = TrainingKernels(library)
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
        """Whether `attend` and `row` support these queries, keys and values with this KV cache."""
        query, key, _ = new
        is_right = _go_together(*new) and query.shape[1] == key.shape[1]
        return is_right and self._holds(held, len(key), query.shape[2])

    def product(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Product:
        """Pack a layer's int8 weights, [outs, ins], with the scale of every BLOCK of an output's inputs.

        The kernel adds four products at once: their weights of one sign may sum to at most 128 (int8_linear.py, REACH).
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
        """The largest sum of four int8 weights, [outs, ins], that the kernel adds at once (int8_linear.py, REACH)."""
        weight = weight.contiguous()
        return int(self._reach(weight.data_ptr(), *weight.shape, torch.get_num_threads()))

    def product_of_nibbles(self, weights: Int4Weights, bias: Tensor | None) -> Product:
        """Pack a layer's 4-bit weights, as `product` does for int8."""
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
        """Decode: attention of sequences with one new token each; writes their keys and values to `held`, outputs to
        `out`.

        Call it only if `attends` is true: a call that fails halfway cannot be undone. `new` are the row's queries, keys
        and values, [heads, T, d]; `held` is [blocks, kv heads, size, d], in float16 only if `has_halves`; `out` is [T,
        heads, d]. `reach` holds, for these tokens: the block tables one after another (int32), the start of each table,
        the first and the last visible position, and the token's place in the row (int64).
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
        """Compute a decoder layer for sequences with one new token each, [T, hidden] -> [T, hidden]; see `attend`.

        `positions` are cosines and sines, [T, d]. The caller keeps the tensors alive that `layer` points to.
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
        """Attention of several sequences in a row: queries [heads, T, d], keys and values -> [T, heads, d].

        `asked` and `held` are the offsets of each sequence's queries and keys, with the end; the last query has the
        position of the last key. A causal query sees keys up to its own position, and with a window only the nearest
        `window` of these.
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
        """Gaussian error linear units (Hendrycks and Gimpel 2016, arXiv:1606.08415), with an error below 1.5e-7 times
        x."""
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
        """Compute an encoder layer over sequences of these lengths, [T, hidden] -> [T, hidden].

        The caller keeps the tensors alive that `layer` points to.
        """
        if not _takes(x) or x.shape != (sum(lengths), layer.out.outs) or min(lengths) <= 0:
            return None
        x = x.contiguous()
        starts, out = torch.tensor((0, *accumulate(lengths))), torch.empty_like(x)
        told = byref(layer), x.data_ptr(), starts.data_ptr(), len(lengths), out.data_ptr()
        _check_memory(self._encode(*told, torch.get_num_threads()))
        return out

    def gate(self, gate: Tensor, up: Tensor) -> Tensor | None:
        """SiLU of the gate times `up`, both of one shape; written over the gate if both are contiguous alike."""
        if not _takes(gate, up) or gate.shape != up.shape:
            return None
        is_turned = gate.dim() > 1 and gate.mT.is_contiguous() and up.mT.is_contiguous()
        if not is_turned:
            gate, up = gate.contiguous(), up.contiguous()
        self._gate(gate.data_ptr(), up.data_ptr(), gate.numel(), torch.get_num_threads())
        return gate

    def rotate(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor | None:
        """Rotary positions (Su et al. 2021, arXiv:2104.09864) of [..., T, heads, d], in place if x is contiguous.

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
    """Whether queries, [heads, T, d], match keys and values, [kv heads, S, d]: the heads are a multiple of the kv
    heads."""
    if not _takes(query, key, value) or any(x.dim() != 3 for x in (query, key, value)):
        return False
    return len(query) % len(key) == 0 and key.shape == value.shape and key.shape[2] == query.shape[2]


def _cover(bounds: Sequence[int], count: int) -> bool:
    """Whether these offsets, with the end, cover `count` tokens, with no sequence empty."""
    return len(bounds) > 1 and (bounds[0], bounds[-1]) == (0, count) and all(one < end for one, end in pairwise(bounds))


def _reach_back(asked: Sequence[int], held: Sequence[int]) -> bool:
    """Whether each sequence has at least as many keys as queries."""
    return all(b - a <= d - c for (a, b), (c, d) in zip(pairwise(asked), pairwise(held), strict=True))


def kernels() -> Kernels | None:
    """The compiled kernels of this process's CPU path (nn/cpu/cpu_path.py); None if C kernels are switched off.

    Also None, with the reason on standard error, if they cannot be compiled; BadSetting if the path was set by name.
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
    """Load the library for this source and CPU path, kept beside the source; compile it if it is missing or damaged.

    If that folder is not writable, the library is compiled for this process alone. OSError without a compiler;
    CalledProcessError with the compiler's message if it fails.
    """
    name = path.loops or path.name
    there = source.with_name(f"kernels-{name}-{_fingerprint(source, path)}.so")
    if there.exists():
        with suppress(OSError):  # a damaged file, for example after a full disk
            return Kernels(there, name)
    command = compiler(compilers)
    if command is None:
        raise OSError(f"there is no C compiler ({', '.join(compilers)}). Install one, such as gcc, and start again")
    if os.access(source.parent, os.W_OK):
        with TemporaryDirectory(prefix=".kernels-", dir=source.parent) as folder:
            # renamed when whole, so that other processes never see a part
            return Kernels(_compile(command, source, path, Path(folder)).rename(there), name)
    with TemporaryDirectory(prefix="llmos-kernels-") as folder:
        return Kernels(_compile(command, source, path, Path(folder)), name)


def _compile(command: str, source: Path, path: CpuPath, folder: Path) -> Path:
    made = folder / "kernels.so"
    asked = [command, *path.flags, *FLAGS, str(source), "-o", str(made), "-lm"]
    subprocess.run(asked, check=True, capture_output=True, text=True)
    return made


def _fingerprint(source: Path, path: CpuPath) -> str:
    """A digest of everything that decides the library's bytes, because machines with other processors may share the
    folder.

    A path's flags bound the instructions that its library uses. If the compiler reads the processor itself, the
    processor's features are part of the digest.
    """
    has = " ".join(sorted(features())) if path.name == NATIVE else ""
    parts = source.read_text(), " ".join((*path.flags, *FLAGS)), platform.machine(), platform.libc_ver()[1], has
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
