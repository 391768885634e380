"""Requests of children: what a process may start and touch, and what it is told of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from llmos.abi.error import BadInput, IllegalMove
from llmos.abi.frame import Act, ChildChanged, Replied, Requested, ToChild
from llmos.abi.process import Priority, Process, Spec, State
from llmos.kernel.processes.child_requests import ChildRequests

TUNE = Process(1, Spec("tune", priority=Priority.BACKGROUND, device="cuda0"), State.READY)
TRIAL = Process(2, Spec("trial", {"rung": 0}, parent=1), State.INTERRUPTED)
OTHER = Process(3, Spec("train"), State.INTERRUPTED)


class Table:
    """The processes, as a table holds them."""

    def __init__(self) -> None:
        self.processes = {one.pid: one for one in (TUNE, TRIAL, OTHER)}

    def process(self, pid: int) -> Process:
        return self.processes[pid]


class Service:
    """Remembers what was asked of it."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.done: list[tuple[Any, ...]] = []  # Any: what was asked, with its arguments

    async def submit(self, spec: Spec) -> Process:
        self.done.append(("submit", spec))
        if spec.args.get("is_bad"):
            raise BadInput("no such base", key="base")
        return Process(4, spec)

    async def resume(self, pid: int, args: dict[str, Any]) -> Process:
        self.done.append(("resume", pid, args))
        return replace(self._table.process(pid), state=State.QUEUED)

    async def settle(self, pid: int, args: dict[str, Any]) -> Process:
        self.done.append(("settle", pid, args))
        return self._table.process(pid)

    async def kill(self, pid: int, *, reason: str) -> Process:
        raise IllegalMove("it has exited", pid=pid)

    def all(self) -> list[Process]:
        return list(self._table.processes.values())


def replies(act: Callable[[ChildRequests], None]) -> tuple[list[tuple[int, ToChild]], Service]:
    sent: list[tuple[int, ToChild]] = []
    table = Table()
    service = Service(table)

    async def main() -> None:
        requests = ChildRequests(table, service, lambda pid, frame: sent.append((pid, frame)))  # type: ignore[arg-type]
        act(requests)
        await requests.close()

    asyncio.run(main())
    return sent, service


def reply_to(request: Requested) -> tuple[Replied, Service]:
    sent, service = replies(lambda requests: requests.take(1, request))
    ((pid, frame),) = sent
    assert pid == 1
    assert isinstance(frame, Replied)
    assert frame.request_id == request.request_id
    return frame, service


def test_a_program_starts_what_it_declares_with_its_own_priority_and_device():
    reply, service = reply_to(Requested(9, Act.SUBMIT, "trial", {"number": 3}, "a title"))
    spec = Spec("trial", {"number": 3}, "a title", Priority.BACKGROUND, "cuda0", parent=1)
    assert service.done == [("submit", spec)]
    assert [one.pid for one in reply.processes] == [4]


@pytest.mark.parametrize("program", ["serve", "tune", "nothing"])
def test_a_program_that_its_declaration_does_not_name_is_not_started(program):
    reply, service = reply_to(Requested(9, Act.SUBMIT, program))
    assert reply.fault is not None
    assert reply.fault.code == BadInput.code
    assert service.done == []


def test_what_the_kernel_refuses_is_the_reply():
    reply, _ = reply_to(Requested(9, Act.SUBMIT, "trial", {"is_bad": True}))
    assert reply.fault is not None
    assert reply.fault.detail["key"] == "base"
    reply, _ = reply_to(Requested(9, Act.KILL, pid=2))
    assert reply.fault is not None
    assert reply.fault.code == IllegalMove.code


def test_a_process_resumes_its_own_with_other_arguments():
    reply, service = reply_to(Requested(9, Act.RESUME, args={"rung": 1}, pid=2))
    assert service.done == [("resume", 2, {"rung": 1})]
    assert reply.processes[0].state is State.QUEUED


@pytest.mark.parametrize("act", [Act.RESUME, Act.KILL])
def test_a_process_may_not_touch_those_of_others(act):
    reply, service = reply_to(Requested(9, act, pid=3))
    assert reply.fault is not None
    assert service.done == []


def test_what_a_process_decides_is_about_itself_alone():
    reply, service = reply_to(Requested(9, Act.SETTLE, args={"method": "lora"}, pid=3))
    assert service.done == [("settle", 1, {"method": "lora"})]
    assert [one.pid for one in reply.processes] == [1]


def test_a_process_lists_its_own():
    reply, _ = reply_to(Requested(9, Act.LIST))
    assert [one.pid for one in reply.processes] == [2]


def test_a_parent_that_lives_is_told_of_every_change():
    def tell(requests: ChildRequests) -> None:
        requests.tell_parent(TRIAL)
        requests.tell_parent(OTHER)

    sent, _ = replies(tell)
    assert sent == [(1, ChildChanged(TRIAL))]
