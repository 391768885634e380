"""vLLM's server as an operating system process: started on a free port, watched, and ended with this one."""

from __future__ import annotations

import ctypes
import http.client
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from llmos.abi.engine import ENGINES
from llmos.abi.error import Missing, ProcessDied, Unavailable
from llmos.abi.stdio import STDOUT

HOST = "127.0.0.1"
LOOK_EVERY_S = 0.2
START_WITHIN_S = 1800.0  # large weights, kernels compiled at the first start
END_WITHIN_S = 15.0
READ_BYTES = 1 << 16
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class VllmServer:
    """One server process. Its output goes to this process's output, which is its log."""

    def __init__(self, command: str, arguments: Sequence[str], gpu: int) -> None:
        argv = shlex.split(command)
        found = shutil.which(argv[0]) if argv else None
        if found is None:
            extra = ENGINES["vllm"].extra
            raise Missing(
                f"The engine vllm needs vLLM, and there is no command {command!r} here. Install it on this GPU machine "
                f"(in llmos's folder: .venv/bin/pip install -e '.[{extra}]', or in an environment of its own) and name "
                "it: vllm_command",
                extra=extra,
                command=command,
            )
        self.port = _free_port()
        self.key = secrets.token_urlsafe(24)  # other users of this machine can reach the port, but do not have the key
        told = {"VLLM_API_KEY": self.key, "CUDA_VISIBLE_DEVICES": str(gpu)}
        self.process = subprocess.Popen(
            [found, *argv[1:], *arguments, "--host", HOST, "--port", str(self.port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,  # so that its children can be ended with it
            preexec_fn=lambda: _become(told),
        )
        assert self.process.stdout is not None
        threading.Thread(target=_pass_on, args=(self.process.stdout,), name="vllm's log", daemon=True).start()

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def wait_ready(self) -> None:
        """Wait until /health answers; ProcessDied if the server ends first, Unavailable after START_WITHIN_S."""
        for _ in range(int(START_WITHIN_S / LOOK_EVERY_S)):
            if self._is_healthy():
                return
            try:
                self.process.wait(LOOK_EVERY_S)
            except subprocess.TimeoutExpired:
                continue
            raise self.death()
        self.close()
        raise Unavailable(
            f"vLLM's server was not ready within {START_WITHIN_S:,.0f} s. Its log says more: llmos logs PID"
        )

    def death(self) -> ProcessDied:
        """The error for a server that has ended."""
        code = self.process.poll()
        how = f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
        return ProcessDied(f"vLLM's server {how}. Its log says more: llmos logs PID", exit_code=code)

    def close(self) -> None:
        """End the server and its children."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.has_ended:
                break
            os.killpg(self.process.pid, number)
            try:
                self.process.wait(END_WITHIN_S)
            except subprocess.TimeoutExpired:
                continue

    def _is_healthy(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5.0)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def _pass_on(said: IO[bytes]) -> None:
    """Print what the server prints. It cannot write to the log itself, because it would not notice log rotation."""
    with said:
        while data := os.read(said.fileno(), READ_BYTES):
            with suppress(OSError):  # the log's disk may be full
                os.write(STDOUT, data)


def _become(told: dict[str, str]) -> None:
    """Runs in the new process: sets secrets that must not appear in process lists, and makes it die with its parent."""
    for name, value in told.items():
        os.putenv(name, value)
    LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _free_port() -> int:
    """A port that is free now. If another process takes it first, the start fails and must be repeated."""
    with socket.socket() as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])
