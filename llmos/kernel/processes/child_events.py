"""How the process table changes on what children report and how they exit."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmos.abi.device import Lease, LeaseKind
from llmos.abi.error import CODES, BadInput, Fault, NotFound, ProcessDied
from llmos.abi.process import PAUSED, Process, State
from llmos.kernel import effects as do
from llmos.kernel import events as ev
from llmos.kernel.effects import Effect
from llmos.kernel.events import Event
from llmos.kernel.processes.process_runtime import ALIVE, without_models
from llmos.kernel.processes.scheduler import STARTS_TO_FAIL, backoff_s

if TYPE_CHECKING:
    from llmos.kernel.processes.process_table import ProcessTable

PASSING_FAULTS = frozenset({"offline", "unavailable", "disk_full", "no_room", "cancelled"})
FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGSTOP})
CONTINUATIONS = 8  # in a row, of a process that goes on by itself
HEALTHY_AFTER_S = 10.0  # a serve process that was ready this long starts again without a crash count


def on_forked(table: ProcessTable, event: ev.Forked) -> list[Effect]:
    process = table.process(event.pid)
    if process.state not in ALIVE:  # it ended right after its start, and that was reported first
        return []
    table.runtimes[event.pid] = replace(table.runtimes[event.pid], born_at=event.born_at)
    table.put(replace(process, os_pid=event.os_pid))
    return []


def on_start_failed(table: ProcessTable, event: ev.StartFailed) -> list[Effect]:
    process = replace(table.process(event.pid), fault=event.fault)
    is_resumable = table.traits(process).is_resumable
    state = State.INTERRUPTED if is_resumable and not _is_final(event.fault) else State.EXITED
    ended = table.end(process, event.at, state, _fault_sentence(process.pid, event.fault, state))
    return [*ended, *table.fail_calls(process, event.fault)]


def on_ready(table: ProcessTable, event: ev.Ready) -> list[Effect]:
    process = table.process(event.pid)
    if process.state is not State.STARTING:  # it was stopped or suspended just before
        return []
    table.runtimes[event.pid] = replace(table.runtimes[event.pid], ready_at=event.at)
    if event.weights_bytes:
        process = _weigh(table, process, event.weights_bytes)
    if not table.traits(process).answers_calls:
        table.put(process.moved(State.READY))
        return []
    table.put(process.moved(State.READY, progress=None))  # how far it was with loading
    return [do.ReleaseCalls(process.pid)]


def on_attached(table: ProcessTable, event: ev.Attached) -> list[Effect]:
    """The model is attached: its loading time is the cost of evicting it."""
    runtime = table.runtimes[event.pid]
    if event.model in runtime.models:
        table.runtimes[event.pid] = replace(runtime, loads={**runtime.loads, event.model: event.took_s})
    return []


def on_detached(table: ProcessTable, event: ev.Detached) -> list[Effect]:
    table.detach(event.pid, event.model)
    return []


def on_settled(table: ProcessTable, event: ev.Settled) -> list[Effect]:
    """The process has decided its open arguments: a later life has them too, and it holds what it needs with them."""
    process = table.process(event.pid)
    runtime = table.runtimes[event.pid]
    if process.state in ALIVE:
        for kind in {*runtime.needs, *event.needs}:
            _lease(table, process, kind, event.needs.get(kind, 0) - runtime.needs.get(kind, 0))
    table.runtimes[event.pid] = replace(runtime, needs=event.needs)
    spec = replace(process.spec, args={**process.spec.args, **event.args}, need_bytes=sum(event.needs.values()))
    table.put(replace(process, spec=spec))
    return []


def on_renice_refused(table: ProcessTable, event: ev.ReniceRefused) -> list[Effect]:
    process = table.process(event.pid)
    if (
        process.state in ALIVE - {State.STOPPING} and process.spec.priority is event.priority
    ):  # a stop has another reason
        said = (
            f"the operating system lets only root raise it to {event.priority}, so that it runs on as slowly as before"
        )
        table.put(replace(process, reason=said))
    return []


def on_report(table: ProcessTable, event: ev.Report) -> list[Effect]:
    table.put(replace(table.process(event.pid), progress=event.progress))
    return []


def on_usage_report(table: ProcessTable, event: ev.UsageReport) -> list[Effect]:
    table.put(replace(table.process(event.pid), usage=event.usage))
    return []


def on_unresponsive(table: ProcessTable, event: ev.Unresponsive) -> list[Effect]:
    process = table.process(event.pid)
    if process.os_pid == event.os_pid:
        table.put(replace(process, unresponsive_since=event.since))
    return []


def on_responsive(table: ProcessTable, event: ev.Responsive) -> list[Effect]:
    process = table.process(event.pid)
    if process.os_pid == event.os_pid:
        table.put(replace(process, unresponsive_since=None))
    return []


def on_hung(table: ProcessTable, event: ev.Hung) -> list[Effect]:
    """Kill a hung process; its exit is handled as any other."""
    process = table.process(event.pid)
    if process.os_pid != event.os_pid or process.state not in (State.STARTING, State.READY):
        return []  # it has ended, or is about to
    table.runtimes[event.pid] = replace(table.runtimes[event.pid], hung=event.reason)
    return [do.Signal(event.pid, signal.SIGKILL)]


def on_failed(table: ProcessTable, event: ev.Failed) -> list[Effect]:
    table.put(replace(table.process(event.pid), fault=event.fault, reason=event.fault.message))
    return []


def on_exited(table: ProcessTable, event: ev.ChildExited) -> list[Effect]:
    process = table.process(event.pid)
    usage, progress = event.usage or process.usage, event.progress or process.progress
    process = replace(process, exit_code=event.code, usage=usage, progress=progress)
    if process.state not in ALIVE:
        return []
    if table.traits(process).is_restarted and process.state is not State.STOPPING:
        return _on_serve_crash(table, process, event)
    runtime = table.runtimes[event.pid]
    if runtime.is_returning:
        return _back_off(table, process, runtime.crashes, 0.0, process.reason)
    may_resume = table.traits(process).is_resumable and not table.is_orphan(process)
    state = _state_after(process, event.code, is_resumable=may_resume)
    if state is State.INTERRUPTED and table.continues(process):
        if table.is_down:
            table.queue_again(process, "to be continued when the daemon is up again")
            return []
        if (again := _continue(table, process, event)) is not None:
            return again
    why = runtime.hung or _why(process, event.code, state)
    ended = table.end(process, event.at, state, why)
    return [*ended, *table.fail_calls(process, _death_fault(process))]


# Any: each handler takes its own event type
HANDLERS: dict[type[Event], Callable[[ProcessTable, Any], list[Effect]]] = {
    ev.Forked: on_forked,
    ev.StartFailed: on_start_failed,
    ev.Ready: on_ready,
    ev.Attached: on_attached,
    ev.Detached: on_detached,
    ev.Settled: on_settled,
    ev.ReniceRefused: on_renice_refused,
    ev.Report: on_report,
    ev.UsageReport: on_usage_report,
    ev.Unresponsive: on_unresponsive,
    ev.Responsive: on_responsive,
    ev.Hung: on_hung,
    ev.Failed: on_failed,
    ev.ChildExited: on_exited,
}


def _on_serve_crash(table: ProcessTable, process: Process, event: ev.ChildExited) -> list[Effect]:
    """A serve process has crashed: restart it after a backoff, unless it repeatedly fails before it is ready."""
    runtime = table.runtimes[event.pid]
    if event.taking_in:
        return _back_off(table, process, runtime.crashes, 0.0, f"{_why(process, event.code, State.QUEUED)} over a call")
    was_ready_s = event.ready_s
    if was_ready_s is None:
        was_ready_s = 0.0 if runtime.ready_at is None else event.at - runtime.ready_at
    crashes = 1 if was_ready_s >= HEALTHY_AFTER_S else runtime.crashes + 1
    is_hopeless = process.fault is not None and process.fault.code not in PASSING_FAULTS
    if runtime.ready_at is None and (is_hopeless or crashes >= STARTS_TO_FAIL):
        fault = process.fault or _death_fault(replace(process, reason=runtime.hung or process.reason))
        ended = table.end(replace(process, fault=fault), event.at, State.EXITED, fault.message)
        return [*ended, *table.fail_calls(process, fault)]
    wait_s = backoff_s(crashes)
    reason = f"{runtime.hung or _why(process, event.code, State.QUEUED)}; starts again in {wait_s:g} s"
    return _back_off(table, process, crashes, wait_s, reason)


def _continue(table: ProcessTable, process: Process, event: ev.ChildExited) -> list[Effect] | None:
    """Queue it again after a backoff; None if it was ready but briefly too many times in a row."""
    runtime = table.runtimes[event.pid]
    was_healthy = runtime.ready_at is not None and event.at - runtime.ready_at >= HEALTHY_AFTER_S
    crashes = 1 if was_healthy else runtime.crashes + 1
    if crashes > CONTINUATIONS:
        return None
    wait_s = backoff_s(crashes)
    reason = f"{_why(process, event.code, State.QUEUED)}; goes on in {wait_s:g} s"
    return _back_off(table, process, crashes, wait_s, reason)


def _weigh(table: ProcessTable, process: Process, weights_bytes: int) -> Process:
    """Correct the process's lease and footprint to its real weights."""
    runtime = table.runtimes[process.pid]
    more = weights_bytes - runtime.needs.get(LeaseKind.WEIGHTS, 0)
    _lease(table, process, LeaseKind.WEIGHTS, more)
    table.runtimes[process.pid] = replace(runtime, needs={**runtime.needs, LeaseKind.WEIGHTS: weights_bytes})
    return replace(process, spec=replace(process.spec, need_bytes=process.spec.need_bytes + more))


def _lease(table: ProcessTable, process: Process, kind: LeaseKind, more: int) -> None:
    """Lease so much more, or less, for a process that runs."""
    difference = Lease(process.pid, process.spec.device, kind, abs(more))
    if more > 0:
        table.ledger.book(difference)  # the memory is in use already, so the account may be overdrawn
    else:
        table.ledger.give_back(difference)


def _back_off(table: ProcessTable, process: Process, crashes: int, wait_s: float, reason: str) -> list[Effect]:
    """Release what the process holds, and queue it to start after a backoff."""
    runtime = table.runtimes[process.pid]
    table.release(process.pid)
    table.runtimes[process.pid] = replace(
        without_models(runtime), crashes=crashes, is_backing_off=True, is_returning=False
    )
    table.put(process.moved(State.QUEUED, os_pid=None, restarts=process.restarts + 1, reason=reason))
    table.enqueue(process.pid)
    return [do.SetTimer(process.pid, runtime.number, "restart", wait_s)]


def is_own_fault(code: int) -> bool:
    """Whether the process ended by its own fault, and was not killed from outside."""
    return code > 0 or (code < 0 and -code not in FROM_OUTSIDE)


def is_paused(process: Process) -> bool:
    """Whether it has said that it ends with a checkpoint, and waits to be resumed."""
    return process.progress is not None and process.progress.phase == PAUSED


def _state_after(process: Process, code: int, *, is_resumable: bool) -> State:
    """INTERRUPTED if the program can resume and there is a reason to; else EXITED."""
    if not is_resumable:
        return State.EXITED
    if process.state is State.STOPPING:
        is_done = code == 0 and any(":" in ref for ref in process.made)
        return State.EXITED if is_done else State.INTERRUPTED
    if code == 0 and is_paused(process):
        return State.INTERRUPTED
    if code == 0 or (process.fault is not None and _is_final(process.fault)):
        return State.EXITED
    return State.INTERRUPTED


def _is_final(fault: Fault) -> bool:
    """Whether a repeat would fail again because the user's input is wrong.

    Any other fault keeps hours of work resumable.
    """
    return issubclass(CODES.get(fault.code, Exception), (BadInput, NotFound))


def _fault_sentence(pid: int, fault: Fault, state: State) -> str:
    """The fault's sentence, with the way to continue if there is one."""
    if state is not State.INTERRUPTED:
        return fault.message
    return f"{fault.message.rstrip('.')}. Go on with: llmos resume {pid}"


def _why(process: Process, code: int, state: State) -> str:
    if process.fault is not None:
        return _fault_sentence(process.pid, process.fault, state)
    if state is State.INTERRUPTED and process.state is State.STOPPING:
        return f"{process.reason}; go on with: llmos resume {process.pid}"
    if state is State.INTERRUPTED and code == 0 and process.progress is not None:
        return process.progress.message
    if code < 0:
        went = f"ended by signal {-code} ({signal.Signals(-code).name})"
        return f"{went}; go on with: llmos resume {process.pid}" if state is State.INTERRUPTED else went
    return process.reason if code == 0 else f"ended with exit code {code}"


def _death_fault(process: Process) -> Fault:
    reason = process.reason or "its process ended"
    return Fault(ProcessDied.code, f"The process that held the call (pid {process.pid}) ended: {reason}")
