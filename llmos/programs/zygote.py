"""The zygote: a process that has imported what children need, and forks them on request, so that they start in no time.

It has one thread, computes nothing and touches no device: what it holds, every child shares. Each child is forked
twice, so that the daemon becomes its parent: the zygote may then die and touch no child. When the daemon has gone, it
ends.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import socket
import sys
import traceback
from importlib import import_module

from llmos.abi.task import BUILT_IN

PRELOAD = {
    "null": ("llmos.programs.child", "llmos.programs.serve", "llmos.engines.null"),
    "pytorch": (
        "llmos.programs.child",
        "llmos.programs.serve",
        "torch",
        "transformers.models.auto.modeling_auto",
        "transformers.models.auto.tokenization_auto",
        "transformers.models.bert.modeling_bert",
        "transformers.models.llama.modeling_llama",
        "llmos.engines.pytorch",
        *(f"llmos.tasks.{name}" for name in (*BUILT_IN, "zeroshot")),
    ),
}
PR_SET_PDEATHSIG = 1
REQUEST_BYTES = 4096
MAX_FDS = 2


def main(arguments: list[str]) -> None:
    """Serve fork requests on this socket until the daemon closes it."""
    control = socket.socket(fileno=int(arguments[0]))
    daemon_pid, engine = int(arguments[1]), arguments[2]
    # a stopped process does not notice that a socket closes
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != daemon_pid:
        return
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # else numpy starts threads at its import, which forks would lose
    # threads that spin at a barrier take the core of the thread they wait for
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    preload(engine)
    gc.collect()
    gc.freeze()
    control.send(json.dumps({"warm": True}).encode())
    while True:
        message, fds, _, _ = socket.recv_fds(control, REQUEST_BYTES, MAX_FDS)
        if not message:
            return
        _fork(control, json.loads(message)["request"], fds, daemon_pid)


def preload(engine: str) -> None:
    """Import what children of this engine need. An import that fails is reported by the child that repeats it."""
    for name in PRELOAD.get(engine, PRELOAD["pytorch"]):  # whatever engine serves, pytorch trains
        try:
            import_module(name)
        except ImportError:
            traceback.print_exc()


def _fork(control: socket.socket, request: int, fds: list[int], daemon_pid: int) -> None:
    try:
        between = os.fork()
    except OSError as error:
        control.send(json.dumps({"request": request, "error": f"Cannot fork: {error}"}).encode())
    else:
        if between == 0:
            _be_between(control, request, fds, daemon_pid)
        os.waitpid(between, 0)
    for fd in fds:
        os.close(fd)


def _be_between(control: socket.socket, request: int, fds: list[int], daemon_pid: int) -> None:
    try:
        os_pid = os.fork()
    except OSError as error:
        control.send(json.dumps({"request": request, "error": f"Cannot fork: {error}"}).encode())
        os._exit(1)
    if os_pid == 0:
        control.close()
        from llmos.programs.child import be_child  # imported late: the zygote itself does not need it

        be_child(fds[0], fds[1], daemon_pid)
    control.send(json.dumps({"request": request, "os_pid": os_pid}).encode())
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
