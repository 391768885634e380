"""The zygote: two processes that have imported what children need, and fork them on request.

The light one, which the daemon starts, holds no torch: it forks the children of programs that need none. At its start
it forks the full one, which imports torch, and passes the other requests on to it. When one of the two dies, both end,
and the daemon starts another zygote. Both have one thread, compute nothing and touch no device: what they hold, every
child shares. Each child is forked twice, so that the daemon becomes its parent: the zygote may then die and touch no
child. When the daemon has gone, both end.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module

from llmos.abi.task import BUILT_IN

# without pyarrow, whose import starts threads
LIGHT = ("llmos.programs.child", "llmos.programs.dataset_operation", "llmos.programs.import_data")
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
    """Serve fork requests on this socket until the daemon closes it, or the full zygote ends."""
    control = socket.socket(fileno=int(arguments[0]))
    daemon_pid, engine = int(arguments[1]), arguments[2]
    _end_with_parent(daemon_pid)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # else numpy starts threads at its import, which forks would lose
    # threads that spin at a barrier take the core of the thread they wait for
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    full_pid, full = _fork_full(control, engine, daemon_pid)
    _import(LIGHT)
    _freeze()
    serve_light(control, full, daemon_pid)
    with suppress(ProcessLookupError):
        os.kill(full_pid, signal.SIGKILL)
    os.waitpid(full_pid, 0)


def serve_light(control: socket.socket, full: socket.socket, daemon_pid: int) -> None:
    """Fork for requests that are light, and pass the others and their answers on, until either side closes."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(full, select.POLLIN)
    with suppress(BrokenPipeError, ConnectionResetError):  # the daemon has gone, or it asks the next zygote
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if full.fileno() in ready:
                if not (answer := full.recv(REQUEST_BYTES)):
                    return
                control.send(answer)
            if control.fileno() in ready:
                message, fds, _, _ = socket.recv_fds(control, REQUEST_BYTES, MAX_FDS)
                if not message:
                    return
                asked = json.loads(message)
                if asked.get("is_light"):
                    _fork(control, asked["request"], fds, daemon_pid, also_closes=full)
                else:
                    socket.send_fds(full, [message], fds)
                _close(fds)


def _fork_full(control: socket.socket, engine: str, daemon_pid: int) -> tuple[int, socket.socket]:
    """The full zygote's pid, and the socket on which it is asked and answers."""
    light_pid = os.getpid()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os_pid = os.fork()
    if os_pid:
        theirs.close()
        return os_pid, ours
    try:
        ours.close()
        control.close()
        _end_with_parent(light_pid)
        preload(engine)
        _freeze()
        theirs.send(json.dumps({"warm": True}).encode())
        while True:
            message, fds, _, _ = socket.recv_fds(theirs, REQUEST_BYTES, MAX_FDS)
            if not message:
                os._exit(0)
            _fork(theirs, json.loads(message)["request"], fds, daemon_pid)
            _close(fds)
    except BaseException:  # noqa: BLE001  # the top of a process: its end is what the others see
        traceback.print_exc()
        os._exit(1)


def _end_with_parent(parent_pid: int) -> None:
    # a stopped process does not notice that a socket closes
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(0)


def _freeze() -> None:
    gc.collect()
    gc.freeze()


def preload(engine: str) -> None:
    """Import what children of this engine need. An import that fails is reported by the child that repeats it."""
    _import(PRELOAD.get(engine, PRELOAD["pytorch"]))  # whatever engine serves, pytorch trains


def _import(names: Iterable[str]) -> None:
    for name in names:
        try:
            import_module(name)
        except ImportError:
            traceback.print_exc()


def _fork(
    asker: socket.socket,
    request: int,
    fds: list[int],
    daemon_pid: int,
    *,
    also_closes: socket.socket | None = None,
) -> None:
    """Fork a child that closes the zygote's own sockets; `asker` is answered."""
    try:
        between = os.fork()
    except OSError as error:
        asker.send(json.dumps({"request": request, "error": f"Cannot fork: {error}"}).encode())
        return
    if between == 0:
        _be_between(asker, request, fds, daemon_pid, also_closes)
    os.waitpid(between, 0)


def _be_between(
    asker: socket.socket, request: int, fds: list[int], daemon_pid: int, also_closes: socket.socket | None
) -> None:
    try:
        os_pid = os.fork()
    except OSError as error:
        asker.send(json.dumps({"request": request, "error": f"Cannot fork: {error}"}).encode())
        os._exit(1)
    if os_pid == 0:
        asker.close()
        if also_closes is not None:
            also_closes.close()
        from llmos.programs.child import be_child  # imported late: the zygote itself does not need it

        be_child(fds[0], fds[1], daemon_pid)
    asker.send(json.dumps({"request": request, "os_pid": os_pid}).encode())
    os._exit(0)


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


if __name__ == "__main__":
    main(sys.argv[1:])
