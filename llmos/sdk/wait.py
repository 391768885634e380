"""Waiting for a process: the events of its stream, and its end as a result or an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from llmos.abi.error import Cancelled, Fault, LlmosError, ProcessDied, Unavailable, error_of
from llmos.abi.json_type import Json
from llmos.abi.process import Process, State


@dataclass(slots=True)
class SSEParser:
    """Parses server-sent events from the lines of a stream."""

    _name: str = ""
    _data: list[str] = field(default_factory=list)

    def feed(self, line: str) -> Iterator[tuple[str, Json]]:
        """The event that ends with this line, or None; an error event is raised."""
        key, _, value = line.partition(":")
        if key == "event":
            self._name = value.strip()
        elif key == "data":
            self._data.append(value.removeprefix(" "))
        elif not line and self._data:
            name, text = self._name, "\n".join(self._data)
            self._name, self._data = "", []
            data = json.loads(text)
            if name == "error":
                raise fault_in(data)
            yield name, data


def fault_in(body: Json) -> LlmosError:
    """The error in a refusal's body."""
    error = body["error"]
    return error_of(Fault(error["code"], error["message"], error.get("detail") or {}))


def raise_unless_done(process: Process) -> Process:
    """Return a process that ended well; else raise its error, or an error that says how to continue it."""
    if process.fault is not None:
        raise error_of(process.fault)
    if process.state is State.INTERRUPTED:
        raise Cancelled(f"pid {process.pid} was interrupted. Go on from its checkpoint: llmos resume {process.pid}")
    if not process.is_ended:
        raise Unavailable(
            f"The daemon went down while pid {process.pid} was {process.state}. Start it again (llmos up), then "
            "see the state of the process: llmos ps --all",
            pid=process.pid,
            state=process.state,
        )
    if process.exit_code:
        hint = f"pid {process.pid} ended with exit code {process.exit_code}. See why: llmos logs {process.pid}"
        raise ProcessDied(hint, pid=process.pid, exit_code=process.exit_code)
    return process
