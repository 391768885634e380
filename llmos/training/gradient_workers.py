"""Data-parallel workers: forked processes that each compute the gradients of a micro-batch on their own core.

Threads that share a product meet at a barrier in every layer and wait for the slowest one; workers meet once a step.
Weights and gradients are in shared memory. The trainer takes the optimizer step.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import random
import signal
import socket
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from types import TracebackType

import torch
from torch import Tensor, nn

from llmos.abi.error import Fault, Unavailable, error_of, fault_of
from llmos.abi.stdio import LogOutput
from llmos.abi.wire import from_plain, to_plain

ALIGNED_BYTES = 64
READ_BYTES = 1 << 16
PR_SET_PDEATHSIG = 1

Compute = Callable[[Sequence[int], Sequence[float]], list[float]]  # of examples and normalizers: the losses
Cut = Callable[[Sequence[int], Sequence[int], int], list[list[int]]]  # of a batch, all lengths and a number of shares


def shares(batch: Sequence[int], lengths: Sequence[int], size: int) -> list[list[int]]:
    """Cut the batch into at most `size` non-empty micro-batches of about equally many tokens, sorted by length."""
    return cut_evenly(sorted(batch, key=lengths.__getitem__), lengths, size)


def cut_evenly(ordered: Sequence[int], lengths: Sequence[int], size: int) -> list[list[int]]:
    """Cut these examples, in this order, into at most `size` non-empty parts of about equally many tokens."""
    total = sum(lengths[i] for i in ordered)
    parts: list[list[int]] = [[] for _ in range(size)]
    seen = 0
    for i in ordered:
        parts[min(size - 1, (2 * seen + lengths[i]) * size // max(1, 2 * total))].append(i)
        seen += lengths[i]
    return [part for part in parts if part]


@dataclass(slots=True)
class _Worker:
    """One worker as the trainer sees it: its process, its connection, and the memory for its gradients."""

    os_pid: int
    line: socket.socket
    gradients: dict[str, Tensor]
    # for each embedding table, the touched rows; their gradients come first in the table's memory
    rows: dict[str, Tensor]
    _buffer: bytes = field(default=b"")

    def ask(self, words: object) -> None:
        with suppress(ConnectionError):  # the worker has died: `receive` reports it
            self.line.sendall(json.dumps(words).encode() + b"\n")

    def receive(self) -> dict[str, object]:
        while b"\n" not in self._buffer:
            data = b""
            with suppress(ConnectionError):
                data = self.line.recv(READ_BYTES)
            if not data:
                raise Unavailable("A gradient worker has died. The last checkpoint is kept: resume it")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        said: dict[str, object] = json.loads(line)
        return said


class GradientWorkers:
    """Computes the gradients of a step on all workers; a context manager. The same seed and size give the same bits.

    A step may be that of several models, each with a loss and a normalizer.
    """

    def __init__(
        self,
        weights: Mapping[str, nn.Parameter],
        tables: set[str],
        compute: Compute,
        size: int,
        seed: int,
        cut: Cut = shares,
    ) -> None:
        self._weights, self._tables, self._compute, self._cut = dict(weights), tables, compute, cut
        self._size, self._seed = size, seed
        self._threads = torch.get_num_threads()
        self._workers: list[_Worker] = []
        # of bfloat16 weights, the gradients of the last step, a part from each process: to be summed in float32
        self.parts: dict[str, list[Tensor]] = {}

    def __enter__(self) -> GradientWorkers:
        if self._size > 1:
            held = _share_tensors(self._weights)
            with torch.no_grad():
                for name, parameter in self._weights.items():
                    held[name].copy_(parameter)
                    parameter.data = held[name]
            self._workers = [self._fork(index) for index in range(1, self._size)]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for worker in self._workers:
            worker.line.close()  # the worker ends when its connection closes
            os.waitpid(worker.os_pid, 0)
        self._workers = []

    def gradients(
        self, step: int, batch: Sequence[int], lengths: Sequence[int], normalizers: Sequence[float]
    ) -> list[float]:
        """Set the whole batch's gradients on the weights, or in `parts`; returns the losses, each divided by its
        normalizer."""
        parts = self._cut(batch, lengths, self._size)
        busy = self._workers[: len(parts) - 1]
        for worker, part in zip(busy, parts[1:], strict=True):
            worker.ask({"step": step, "part": part, "masses": list(normalizers)})
        if busy:
            torch.set_num_threads(1)
        losses = self._one(0, step, parts[0], normalizers)
        if busy:
            torch.set_num_threads(self._threads)
        self.parts = {}
        for name, parameter in self._weights.items():
            if parameter.dtype == torch.bfloat16 and parameter.grad is not None:
                self.parts[name] = [parameter.grad.contiguous()]
                parameter.grad = None
        for worker in busy:
            losses = [mine + theirs for mine, theirs in zip(losses, self._join(worker), strict=True)]
        return losses

    def _one(self, index: int, step: int, part: Sequence[int], normalizers: Sequence[float]) -> list[float]:
        """Compute one share.

        Its random numbers follow from seed, step and index alone, so a resumed run draws the same.
        """
        torch.manual_seed(random.Random(f"{self._seed} step {step} share {index}").getrandbits(63))
        return self._compute(part, normalizers)

    def _join(self, worker: _Worker) -> list[float]:
        """Add a worker's gradients to those of this process; returns its losses."""
        said = worker.receive()
        if said.get("fault"):
            raise error_of(from_plain(said["fault"], Fault))
        mine: list[Tensor] = []
        theirs: list[Tensor] = []
        for name in said["dense"]:  # type: ignore[attr-defined]  # a list of names, as _work sends it
            parameter = self._weights[name]
            if parameter.dtype == torch.bfloat16:
                self.parts.setdefault(name, []).append(worker.gradients[name])
            elif parameter.grad is None:
                parameter.grad = worker.gradients[name]  # until the next step, at whose start there are none
            else:
                mine.append(parameter.grad)
                theirs.append(worker.gradients[name])
        if mine:
            torch._foreach_add_(mine, theirs)
        for name, count in said["rows"].items():  # type: ignore[attr-defined]  # names and counts, likewise
            self._join_rows(self._weights[name], worker.rows[name][:count], worker.gradients[name][:count])
        return list(said["losses"])  # type: ignore[call-overload,no-any-return]  # likewise

    @staticmethod
    def _join_rows(table: nn.Parameter, rows: Tensor, values: Tensor) -> None:
        mine = table.grad
        if mine is None:
            index, kept = rows.unsqueeze(0).clone(), values.clone()
        else:
            mine = mine.coalesce()
            index = torch.cat([mine.indices(), rows.unsqueeze(0)], 1)
            kept = torch.cat([mine.values(), values])
        table.grad = torch.sparse_coo_tensor(index, kept, table.shape, check_invariants=False)

    def _fork(self, index: int) -> _Worker:
        gradients = _share_tensors(self._weights)
        rows = {name: _tensor(_memory(8 * len(p)), 0, torch.int64, (len(p),)) for name, p in self._rows().items()}
        ours, theirs = socket.socketpair()
        parent = os.getpid()
        os_pid = os.fork()
        if os_pid == 0:
            code = 1
            try:
                _settle(parent, theirs)
                self._work(index, theirs, gradients, rows)
                code = 0
            except BaseException:  # noqa: BLE001  # the top of a process: its log gets the reason, its line the end
                traceback.print_exc()
            finally:
                os._exit(code)
        theirs.close()
        return _Worker(os_pid, ours, gradients, rows)

    def _rows(self) -> dict[str, nn.Parameter]:
        return {name: self._weights[name] for name in sorted(self._tables)}

    def _work(self, index: int, line: socket.socket, gradients: dict[str, Tensor], rows: dict[str, Tensor]) -> None:
        """The worker's loop: one micro-batch after another, until the socket closes."""
        parent, log = os.getppid(), LogOutput.from_fd()
        with line.makefile("rb") as asked:
            for words in asked:
                told = json.loads(words)
                _follow(parent)
                log.reopen()
                try:
                    said = self._compute_share(index, told, gradients, rows)
                except Exception as error:  # noqa: BLE001  # the trainer raises it as its own
                    traceback.print_exc()
                    said = {"fault": to_plain(fault_of(error))}
                line.sendall(json.dumps(said).encode() + b"\n")  # not msgspec, which cannot encode a loss of NaN

    def _compute_share(
        self, index: int, told: dict[str, object], gradients: dict[str, Tensor], rows: dict[str, Tensor]
    ) -> dict[str, object]:
        """Compute one share and write its gradients to shared memory; returns the reply to the trainer."""
        losses = self._one(index, told["step"], told["part"], told["masses"])  # type: ignore[arg-type]  # as `gradients` asked
        found = {name: p.grad for name, p in self._weights.items() if p.grad is not None}
        dense = [name for name, gradient in found.items() if not gradient.is_sparse]
        torch._foreach_copy_([gradients[name] for name in dense], [found[name] for name in dense])
        counts: dict[str, int] = {}
        for name, gradient in found.items():
            if gradient.is_sparse:
                touched = gradient.coalesce()
                counts[name] = count = touched.indices().shape[1]
                rows[name][:count] = touched.indices()[0]
                gradients[name][:count] = touched.values()
        for parameter in self._weights.values():
            parameter.grad = None
        return {"losses": losses, "dense": dense, "rows": counts}


def _settle(parent: int, line: socket.socket) -> None:
    """Set up a forked worker: it dies with its trainer, keeps only its own socket open, and has one thread."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    for fd in (int(name) for name in os.listdir("/proc/self/fd")):
        if fd > 2 and fd != line.fileno():
            with suppress(OSError):  # the descriptor of the listing itself
                os.close(fd)
    torch.set_num_threads(1)  # a forked process does not have the threads that torch assumes


def _follow(parent: int) -> None:
    """Copy the trainer's scheduling priority, which may have changed since the last step."""
    try:
        policy = os.sched_getscheduler(parent)
        if policy != os.sched_getscheduler(0):
            os.sched_setscheduler(0, policy, os.sched_param(0))
        nice = os.getpriority(os.PRIO_PROCESS, parent)
        if nice != os.getpriority(os.PRIO_PROCESS, 0):
            os.setpriority(os.PRIO_PROCESS, 0, nice)
    except OSError:  # the trainer has gone, or this process lacks the permission: the next step tries again
        return


def _share_tensors(like: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Tensors with these shapes in shared memory, visible to processes forked from here."""
    starts: dict[str, int] = {}
    end = 0
    for name, parameter in like.items():
        starts[name] = end
        end += -(-parameter.nbytes // ALIGNED_BYTES) * ALIGNED_BYTES
    memory = _memory(end)
    return {name: _tensor(memory, starts[name], p.dtype, tuple(p.shape)) for name, p in like.items()}


def _memory(size_bytes: int) -> mmap.mmap:
    return mmap.mmap(-1, max(size_bytes, mmap.PAGESIZE))  # anonymous: no file, and no use of /dev/shm


def _tensor(memory: mmap.mmap, start: int, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    if not prod(shape):
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(memory, dtype=dtype, count=prod(shape), offset=start).view(shape)
