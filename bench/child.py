"""A serve process without a daemon: the very child the daemon forks, spoken to in frames over its socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import psutil

from bench.engine import TOKEN_BUDGET, calls, vectors
from bench.record import ROOT
from bench.stop import Stop
from llmos.abi.call import Call, Chunk
from llmos.abi.error import error_of
from llmos.abi.frame import Ask, Attach, AttachFailed, Chunks, Failed, FromChild, Job, ModelPath, Ready, ToChild
from llmos.abi.process import Program
from llmos.abi.wire import Splitter, encode
from llmos.programs.child import be_child

READ_BYTES = 1 << 18


class Child:
    """The process while the `with` lasts."""

    def __init__(
        self, base: ModelPath, texts: Sequence[str] = (), *, device: str, dtype: str, call_texts: int = 1
    ) -> None:
        self._asks = [Ask(call) for call in calls(texts, call_texts)]
        self._scratch = tempfile.TemporaryDirectory()
        self._assignment = Job(
            pid=1,
            program=Program("serve"),
            is_ready_when_it_says=True,
            args={"base": base.manifest.ref, "engine": "pytorch", "token_budget": TOKEN_BUDGET},
            scratch=self._scratch.name,
            device=device,
            dtype=dtype,
            models={"base": replace(base, resident=base.resident or base.folder)},  # for no daemon takes a form in
        )

    def __enter__(self) -> Child:
        self._socket, theirs = socket.socketpair()
        command = [sys.executable, "-m", "bench.child", str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=ROOT)
        theirs.close()
        self._frames = self._read()
        self._send([self._assignment])
        while not isinstance(next(self._frames), Ready):
            pass
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        self._socket.close()  # a child whose daemon has gone ends by itself
        self._process.wait()
        self._scratch.cleanup()

    def run(self) -> np.ndarray:
        self._send(self._asks)
        return vectors(self._answers(len(self._asks)))

    def attach(self, models: Sequence[ModelPath]) -> None:
        """Make these models answerable; the calls that name them may follow at once."""
        self._send([Attach(model) for model in models])

    def ask(self, call: Call) -> Chunk:
        """One call's whole answer, when it has come."""
        self._send([Ask(call)])
        (chunk,) = self._answers(1)
        return chunk

    @property
    def rss_bytes(self) -> int:
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def _answers(self, count: int) -> list[Chunk]:
        chunks: list[Chunk] = []
        while len(chunks) < count:
            frame = next(self._frames)
            chunks += frame.chunks if isinstance(frame, Chunks) else ()
        return chunks

    def _send(self, frames: Sequence[ToChild]) -> None:
        self._socket.sendall(b"".join(encode(frame) for frame in frames))

    def _read(self) -> Iterator[FromChild | ToChild]:
        splitter = Splitter()
        while data := self._socket.recv(READ_BYTES):
            for frame in splitter.feed(data):
                if isinstance(frame, Failed | AttachFailed):
                    raise error_of(frame.fault)
                yield frame
        raise Stop("The serve process ended before it had answered; its own words stand above")


if __name__ == "__main__":
    be_child(int(sys.argv[1]), os.dup(2), os.getppid())
