"""The process table: what each event changes, and what is then to be done."""

from __future__ import annotations

import signal
from dataclasses import replace

import msgspec
import pytest

from llmos.abi.device import Device, LeaseKind
from llmos.abi.error import Fault, IllegalMove, ProcessNotFound, Unavailable
from llmos.abi.model import Offer, OfferKind, Verdict
from llmos.abi.process import Priority, Process, Spec, State
from llmos.kernel import effects as do
from llmos.kernel import events as ev
from llmos.kernel.processes.child_events import is_own_fault
from llmos.kernel.processes.eviction import EvictionCandidate, IdleTarget
from llmos.kernel.processes.process_runtime import Snapshot
from llmos.kernel.processes.process_table import ProcessTable
from llmos.kernel.processes.scheduler import view_of

CPU = Device("cpu0", "cpu", "a processor", memory_bytes=1000, cores=2)
SERVE = Spec("serve", {"base": "tiny:1"}, priority=Priority.INTERACTIVE, need_bytes=10)
TRAIN = Spec("train", {"base": "tiny:1"}, priority=Priority.BACKGROUND, need_bytes=10)


def table_with(spec: Spec, state: State = State.QUEUED) -> ProcessTable:
    """A table with one process, pid 1, brought to this state by events."""
    table = ProcessTable(memory_share=1.0, stop_grace_s=5.0)
    path: list[ev.Event] = [
        ev.DevicesFound(0.0, (CPU,), "key"),
        ev.Submitted(1.0, 1, spec, {LeaseKind.WEIGHTS: spec.need_bytes}),
        ev.Admitted(2.0, 1),
        ev.Forked(3.0, 1, os_pid=77, born_at=2.5),
        ev.Ready(4.0, 1),
    ]
    for event in path[: {State.QUEUED: 2, State.STARTING: 4}.get(state, 5)]:
        table.apply(event)
    assert state in (State.QUEUED, State.STARTING, State.READY)
    return table


def exited(code: int, at: float = 100.0) -> ev.ChildExited:
    return ev.ChildExited(at, 1, 77, code)


def test_an_admitted_process_holds_its_memory_and_is_started():
    table = table_with(SERVE)
    assert table.apply(ev.Admitted(2.0, 1)) == [do.Start(1)]
    assert table.process(1).state is State.STARTING
    assert table.ledger.held_bytes(1, "cpu0") == 10


def test_a_ready_serve_process_gets_the_calls_that_waited():
    table = table_with(SERVE, State.STARTING)
    assert table.apply(ev.Ready(4.0, 1)) == [do.ReleaseCalls(1)]


def test_a_killed_serve_process_restarts_later_and_frees_its_memory_meanwhile():
    table = table_with(SERVE, State.READY)
    assert table.apply(exited(-9)) == [do.SetTimer(1, 1, "restart", 0.1)]
    process = table.process(1)
    assert (process.state, process.restarts, process.os_pid) == (State.QUEUED, 1, None)
    assert "SIGKILL" in process.reason
    assert table.ledger.leases() == ()
    assert view_of(table, 0.0, [], 0.0).queued == []
    table.apply(ev.TimerFired(101.0, 1, 1, "restart"))
    assert [p.pid for p in view_of(table, 0.0, [], 0.0).queued] == [1]


def test_crashes_in_a_row_wait_longer_and_a_healthy_life_forgives_them():
    table = table_with(SERVE, State.READY)
    waits = []
    at = 5.0
    for lived_s in (1.0, 1.0, 1.0, 60.0):
        at += lived_s
        (alarm,) = table.apply(exited(-11, at))
        assert isinstance(alarm, do.SetTimer)
        waits.append(alarm.after_s)
        for event in (ev.TimerFired(at, 1, alarm.life, "restart"), ev.Admitted(at, 1), ev.Ready(at, 1)):
            table.apply(event)
    assert waits == [0.1, 0.2, 0.4, 0.1]


@pytest.mark.parametrize("at", [-3600.0, 7200.0])
def test_how_long_a_process_was_healthy_is_not_told_by_a_clock_that_was_set(at):
    waits = []
    for ready_s in (1.0, 60.0):
        table = table_with(SERVE, State.READY)
        table.runtimes[1] = replace(table.runtimes[1], crashes=3)
        (alarm,) = table.apply(replace(exited(-11, at), ready_s=ready_s))
        assert isinstance(alarm, do.SetTimer)
        waits.append(alarm.after_s)
    assert waits == [0.8, 0.1]


def test_a_process_that_died_over_a_call_restarts_at_once_without_a_crash_count():
    table = table_with(SERVE, State.READY)
    waits = []
    for taking_in in ((), (7,), (8,), ()):
        (alarm,) = table.apply(replace(exited(-11, 6.0), taking_in=taking_in))
        assert isinstance(alarm, do.SetTimer)
        waits.append(alarm.after_s)
        for event in (ev.TimerFired(6.0, 1, alarm.life, "restart"), ev.Admitted(6.0, 1), ev.Ready(6.0, 1)):
            table.apply(event)
    assert waits == [0.1, 0.0, 0.0, 0.2]


@pytest.mark.parametrize(
    ("code", "is_own"), [(-11, True), (-6, True), (1, True), (0, False), (-9, False), (-15, False)]
)
def test_a_fault_of_its_own_is_told_from_a_kill(code, is_own):
    assert is_own_fault(code) is is_own


def test_a_serve_process_that_never_gets_ready_is_given_up_and_its_calls_fail():
    table = table_with(SERVE, State.STARTING)
    for attempt in range(1, 5):
        table.apply(exited(-11))
        table.apply(ev.TimerFired(100.0, 1, attempt, "restart"))
        table.apply(ev.Admitted(100.0, 1))
    *_, settle = table.apply(exited(-11))
    assert isinstance(settle, do.FailCalls)
    assert settle.fault is not None
    assert settle.fault.code == "process_died"
    assert table.process(1).state is State.EXITED


def test_a_serve_process_that_says_its_model_is_bad_is_not_tried_again():
    table = table_with(SERVE, State.STARTING)
    fault = Fault("unsafe_weights", "pickled")
    table.apply(ev.Failed(5.0, 1, fault))
    assert table.apply(exited(1)) == [do.Clean(1), do.FailCalls(1, fault)]


def test_a_killed_trainer_is_interrupted_and_can_go_on():
    table = table_with(TRAIN, State.READY)
    assert table.apply(exited(-9)) == []
    assert table.process(1).state is State.INTERRUPTED
    table.apply(ev.ResumeAsked(101.0, 1))
    assert table.process(1).state is State.QUEUED


def test_a_trainer_with_bad_data_is_over_and_says_why():
    table = table_with(TRAIN, State.READY)
    table.apply(ev.Failed(5.0, 1, Fault("bad_row", "row 7")))
    assert table.apply(exited(1)) == [do.Clean(1)]
    assert (table.process(1).state, table.process(1).reason) == (State.EXITED, "row 7")


@pytest.mark.parametrize("code", ["internal", "corrupt", "conflict", "disk_full", "process_died", "never_heard_of"])
def test_a_trainer_that_failed_without_bad_input_can_go_on_from_its_checkpoint(code):
    table = table_with(TRAIN, State.READY)
    table.apply(ev.Failed(5.0, 1, Fault(code, "The evaluation broke.")))
    assert table.apply(exited(1)) == []
    process = table.process(1)
    assert (process.state, process.reason) == (
        State.INTERRUPTED,
        "The evaluation broke. Go on with: llmos resume 1",
    )


@pytest.mark.parametrize("code", ["bad_setting", "wrong_task", "unsafe_weights", "too_long", "model_not_found"])
def test_a_trainer_whose_input_cannot_work_is_over_for_it_would_fail_again(code):
    table = table_with(TRAIN, State.READY)
    table.apply(ev.Failed(5.0, 1, Fault(code, "It cannot work")))
    assert table.apply(exited(1)) == [do.Clean(1)]


def test_a_trainer_that_could_not_be_started_again_keeps_its_checkpoint():
    table = table_with(TRAIN, State.STARTING)
    assert table.apply(ev.StartFailed(5.0, 1, Fault("unavailable", "No child could be had"))) == []
    assert (table.process(1).state, table.process(1).fault.code) == (State.INTERRUPTED, "unavailable")
    assert table.process(1).reason == "No child could be had. Go on with: llmos resume 1"
    assert table.ledger.leases() == ()


def test_a_trainer_whose_base_is_gone_at_its_start_is_over():
    table = table_with(TRAIN, State.STARTING)
    assert table.apply(ev.StartFailed(5.0, 1, Fault("model_not_found", "No model"))) == [do.Clean(1)]


def test_a_queued_serve_process_that_is_killed_answers_the_calls_that_wait_for_it():
    table = table_with(SERVE)
    *_, settle = table.apply(ev.KillAsked(5.0, 1))
    assert isinstance(settle, do.FailCalls)
    assert settle.fault is not None
    assert "stopped by the user" in settle.fault.message


def test_a_puller_that_lost_its_source_is_interrupted_for_the_source_may_come_back():
    table = table_with(replace(TRAIN, program="pull"), State.READY)
    table.apply(ev.Failed(5.0, 1, Fault("offline", "no network")))
    table.apply(exited(1))
    assert table.process(1).state is State.INTERRUPTED


def test_a_trainer_that_is_to_stop_is_asked_first_and_killed_after_its_grace():
    table = table_with(TRAIN, State.READY)
    effects = table.apply(ev.KillAsked(5.0, 1, reason="enough"))
    asked = [do.Signal(1, signal.SIGCONT), do.Renice(1, Priority.INTERACTIVE), do.Stop(1, "enough")]
    assert effects == [*asked, do.SetTimer(1, 1, "kill", 5.0)]
    assert table.apply(ev.TimerFired(10.0, 1, 1, "kill")) == [do.Signal(1, signal.SIGKILL)]
    table.apply(exited(0))
    assert table.process(1).state is State.INTERRUPTED


def test_a_trainer_that_finished_while_it_was_told_to_stop_is_finished():
    table = table_with(TRAIN, State.READY)
    made = Offer(1, OfferKind.MODEL, "ner", "/nowhere", ())
    for event in (
        ev.Offered(5.0, 1, made),
        ev.KillAsked(6.0, 1),
        ev.Committed(7.0, 1, 1, "ner:1", "/folder"),
        exited(0),
    ):
        table.apply(event)
    assert (table.process(1).state, table.process(1).made) == (State.EXITED, ("ner:1",))


def test_killing_an_interrupted_process_gives_it_up():
    table = table_with(TRAIN, State.READY)
    table.apply(exited(-9))
    assert table.apply(ev.KillAsked(101.0, 1)) == [do.Clean(1)]
    assert table.process(1).state is State.EXITED


def test_a_suspended_process_is_woken_before_it_is_stopped():
    table = table_with(TRAIN, State.READY)
    assert table.apply(ev.SuspendAsked(5.0, 1)) == [do.Signal(1, signal.SIGSTOP)]
    assert table.apply(ev.KillAsked(6.0, 1))[0] == do.Signal(1, signal.SIGCONT)


def test_a_class_that_the_operating_system_refuses_is_said_and_stops_nothing():
    table = table_with(TRAIN, State.READY)
    assert table.apply(ev.NiceAsked(5.0, 1, Priority.INTERACTIVE)) == [do.Renice(1, Priority.INTERACTIVE)]
    assert table.apply(ev.ReniceRefused(5.0, 1, Priority.INTERACTIVE)) == []
    assert "only root" in table.process(1).reason
    table.apply(ev.KillAsked(6.0, 1))
    table.apply(ev.ReniceRefused(6.0, 1, Priority.INTERACTIVE))
    assert table.process(1).reason == "stopped by the user"


def test_an_alarm_of_an_earlier_life_means_nothing():
    table = table_with(TRAIN, State.READY)
    table.apply(ev.KillAsked(5.0, 1))
    assert table.apply(ev.TimerFired(6.0, 1, 0, "kill")) == []


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (ev.SuspendAsked(5.0, 1), IllegalMove),
        (ev.ResumeAsked(5.0, 1), IllegalMove),
        (ev.KillAsked(5.0, 9), ProcessNotFound),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_what_cannot_be_done_now_is_refused(asked, error):
    with pytest.raises(error):
        table_with(TRAIN).check(asked)


def attach(table: ProcessTable, model: str, size_bytes: int) -> None:
    """A call asks for this model, there is room, and it comes."""
    table.apply(ev.AttachAsked(5.0, 1, model, LeaseKind.ADAPTERS, size_bytes))
    assert [request.model for request in view_of(table, 5.0, [], 0.0).attach_requests] == [model]
    assert table.apply(ev.AttachGranted(5.0, 1, model)) == [do.Attach(1, model, life=1)]
    table.apply(ev.Attached(6.0, 1, model, took_s=2.0))


def test_a_model_is_counted_from_when_it_may_come_until_it_has_gone():
    table = table_with(SERVE, State.READY)
    attach(table, "small:1", 20)
    assert table.ledger.held_bytes(1, "cpu0") == 30
    assert table.apply(ev.Displaced(7.0, 1, "small:1", "room")) == [do.Detach(1, "small:1")]
    view = view_of(table, 7.0, [IdleTarget(1, "small:1", 6.0, 1.0)], 0.0)
    assert (view.free_bytes, view.leaving_bytes, view.idle) == ({"cpu0": 970}, {"cpu0": 20}, [])
    table.apply(ev.Detached(8.0, 1, "small:1"))
    assert table.ledger.held_bytes(1, "cpu0") == 10


def test_a_model_asked_for_again_while_it_leaves_comes_once_it_has_gone():
    table = table_with(SERVE, State.READY)
    attach(table, "small:1", 20)
    table.apply(ev.Displaced(7.0, 1, "small:1", "room"))
    assert table.apply(ev.AttachAsked(7.5, 1, "small:1", LeaseKind.ADAPTERS, 20)) == []
    assert view_of(table, 7.5, [], 0.0).attach_requests == []
    table.apply(ev.Detached(8.0, 1, "small:1"))
    assert [request.model for request in view_of(table, 8.0, [], 0.0).attach_requests] == ["small:1"]


def test_a_model_that_is_there_already_is_counted_once():
    table = table_with(SERVE, State.READY)
    attach(table, "small:1", 20)
    assert table.apply(ev.AttachAsked(7.0, 1, "small:1", LeaseKind.ADAPTERS, 20)) == [do.Attach(1, "small:1", 1)]
    assert table.ledger.held_bytes(1, "cpu0") == 30


def test_what_is_idle_says_what_bringing_it_back_would_take():
    table = table_with(SERVE, State.READY)
    attach(table, "small:1", 20)
    idle = view_of(table, 9.0, [IdleTarget(1, None, 6.0, 3.0), IdleTarget(1, "small:1", 6.0, 1.0)], 0.0).idle
    assert idle == [
        EvictionCandidate(1, 6.0, 30, None, "cpu0", reload_s=2.0 + 2.0, use=3.0),
        EvictionCandidate(1, 6.0, 20, "small:1", "cpu0", reload_s=2.0, use=1.0),
    ]


def test_what_a_process_decided_stays_its_own_with_the_memory_that_it_takes():
    table = table_with(TRAIN, State.READY)
    needs = {LeaseKind.WEIGHTS: 3, LeaseKind.OPTIMIZER: 2}
    table.apply(ev.Settled(4.0, 1, {"method": "lora"}, needs))
    assert table.process(1).spec.args["method"] == "lora"
    assert {lease.kind: lease.size_bytes for lease in table.ledger.leases()} == needs
    table.apply(exited(-9))
    table.ledger.audit([])
    table.apply(ev.ResumeAsked(6.0, 1))
    assert table.process(1).spec.args["method"] == "lora"
    assert table.process(1).spec.need_bytes == 5
    table.apply(ev.Admitted(7.0, 1))
    assert table.ledger.held_bytes(1, "cpu0") == 5


def test_what_a_process_decided_just_before_it_ended_leases_nothing():
    table = table_with(TRAIN, State.READY)
    table.apply(exited(-9))
    table.apply(ev.Settled(6.0, 1, {"method": "lora"}, {LeaseKind.WEIGHTS: 3}))
    assert table.ledger.leases() == ()
    assert table.process(1).spec.args["method"] == "lora"


@pytest.mark.parametrize("weights_bytes", [4, 10, 25, 2000])
def test_the_weight_bytes_that_a_process_reports_are_its_next_footprint(weights_bytes):
    table = table_with(SERVE, State.STARTING)
    table.apply(ev.Ready(4.0, 1, weights_bytes))
    assert table.ledger.held_bytes(1, "cpu0") == weights_bytes
    table.ledger.audit([1])
    table.apply(exited(-9))
    assert table.ledger.leases() == ()
    table.apply(ev.TimerFired(101.0, 1, 1, "restart"))
    assert [p.spec.need_bytes for p in view_of(table, 101.0, [], 0.0).queued] == [weights_bytes]
    table.apply(ev.Admitted(102.0, 1))
    assert table.ledger.held_bytes(1, "cpu0") == weights_bytes


def test_a_process_that_ends_wishes_for_nothing_any_more():
    table = table_with(SERVE, State.READY)
    table.apply(ev.AttachAsked(5.0, 1, "small:1", LeaseKind.ADAPTERS, 20))
    table.apply(exited(-9))
    assert view_of(table, 6.0, [], 0.0).attach_requests == []
    assert table.apply(ev.AttachAsked(6.0, 1, "small:1", LeaseKind.ADAPTERS, 20)) == []


def test_an_offer_is_committed_then_promoted_by_its_gate_and_then_accepted():
    table = table_with(TRAIN, State.READY)
    verdict = Verdict(True, "better", against="ner:1")
    made = Offer(2, OfferKind.MODEL, "ner", "/nowhere", (), verdict=verdict)
    assert table.apply(ev.Offered(5.0, 1, made)) == [do.Commit(1, made, born=1.0)]
    answer = do.Accept(1, 2, "ner:2", "/folder")
    (move,) = table.apply(ev.Committed(6.0, 1, 2, "ner:2", "/folder"))
    assert move == do.SetPromoted("ner", 2, "1/2", guarded=True, against="ner:1", answer=answer)
    assert table.apply(ev.PromotionChanged(7.0, "ner", 2, "1/2")) == [answer]
    assert table.pending_commits.remaining_effects() == []


def test_a_candidate_that_was_overtaken_is_accepted_and_not_promoted():
    table = table_with(TRAIN, State.READY)
    made = Offer(2, OfferKind.MODEL, "ner", "/nowhere", (), verdict=Verdict(True, "better"))
    table.apply(ev.Offered(5.0, 1, made))
    table.apply(ev.Committed(6.0, 1, 2, "ner:2", "/folder"))
    effects = table.apply(ev.PromotionRefused(7.0, "ner", 2, "1/2", Fault("conflict", "ner:3 was faster")))
    assert effects == [do.Accept(1, 2, "ner:2", "/folder")]
    assert table.process(1).reason == "ner:3 was faster"


def test_a_daemon_that_died_finds_trainers_interrupted_and_commits_pending():
    table = table_with(TRAIN, State.READY)
    made = Offer(1, OfferKind.MODEL, "ner", "/nowhere", ())
    table.apply(ev.Offered(5.0, 1, made))
    table.apply(ev.Submitted(6.0, 2, SERVE, {}))
    table.apply(ev.Submitted(6.0, 3, TRAIN, {}))
    effects = table.apply(ev.DaemonStarted(50.0))
    assert effects == [do.KillOrphan(77, 2.5), do.Clean(2), do.Commit(1, made, born=1.0)]
    assert [p.state for p in table.processes.values()] == [State.INTERRUPTED, State.EXITED, State.QUEUED]
    assert table.ledger.leases() == ()


def test_a_daemon_that_goes_down_stops_everybody_and_takes_nothing_new():
    table = table_with(SERVE, State.READY)
    table.apply(ev.Submitted(6.0, 2, TRAIN, {}))
    effects = table.apply(ev.DownAsked(7.0))
    assert do.Stop(1, "the daemon goes down") in effects
    assert table.process(2).state is State.QUEUED
    assert view_of(table, 8.0, [], 0.0).queued == []
    with pytest.raises(Unavailable):
        table.check(ev.Submitted(8.0, 3, TRAIN, {}))


def test_what_the_probe_measured_counts_until_the_machine_changes():
    table = table_with(Spec("probe"), State.READY)
    assert table.is_probing
    table.apply(ev.Probed(5.0, 1, (replace(CPU, gflops={"float32": 100.0}, dtype="bfloat16"),)))
    assert not table.is_probing
    assert table.devices[0].dtype == "bfloat16"
    table.apply(ev.DevicesFound(6.0, (replace(CPU, title="another"),), "another key"))
    assert (table.devices[0].dtype, table.devices[0].title) == ("float32", "another")


def test_a_snapshot_goes_through_json_and_gives_the_same_table():
    table = table_with(TRAIN, State.READY)
    table.apply(ev.Offered(5.0, 1, Offer(1, OfferKind.MODEL, "ner", "/nowhere", ())))
    again = ProcessTable(msgspec.json.decode(msgspec.json.encode(table.snapshot()), type=Snapshot), memory_share=1.0)
    assert again.snapshot() == table.snapshot()


def test_a_snapshot_forgets_the_oldest_of_the_processes_that_are_over():
    over = tuple(Process(pid, SERVE, State.EXITED) for pid in range(1, 302))
    kept = ProcessTable(Snapshot(processes=over, lives={})).snapshot()
    assert [process.pid for process in kept.processes] == list(range(102, 302))


def test_a_trainer_that_was_killed_or_ended_with_the_daemon_says_how_it_goes_on():
    table = table_with(TRAIN, State.READY)
    table.apply(exited(-9))
    assert (table.process(1).state, "llmos resume 1" in table.process(1).reason) == (State.INTERRUPTED, True)
    table = table_with(TRAIN, State.READY)
    table.apply(ev.DaemonStarted(9.0))
    assert (table.process(1).state, "llmos resume 1" in table.process(1).reason) == (State.INTERRUPTED, True)


@pytest.mark.parametrize("state", [State.STARTING, State.READY])
def test_a_serve_process_that_is_to_restart_stops_in_its_grace_and_is_queued_again(state):
    table = table_with(SERVE, state)
    *_, asked, alarm = table.apply(ev.RestartAsked(5.0, 1, "tiny:1 is mended"))
    assert (asked, alarm) == (do.Stop(1, "tiny:1 is mended"), do.SetTimer(1, 1, "kill", 5.0))
    assert table.process(1).state is State.STOPPING
    assert table.apply(ev.RestartAsked(5.5, 1, "again")) == []
    assert table.apply(exited(0)) == [do.SetTimer(1, 1, "restart", 0.0)]
    assert (table.process(1).state, table.process(1).reason) == (State.QUEUED, "tiny:1 is mended")
    assert table.ledger.held_bytes(1, "cpu0") == 0
    table.apply(ev.TimerFired(100.0, 1, 1, "restart"))
    table.apply(ev.Admitted(101.0, 1))
    table.apply(ev.KillAsked(102.0, 1))
    table.apply(exited(0))
    assert table.process(1).state is State.EXITED, "its next end is its last"


@pytest.mark.parametrize("other", [ev.KillAsked(6.0, 1), ev.DownAsked(6.0)])
def test_a_process_that_is_killed_while_it_restarts_does_not_come_back(other):
    table = table_with(SERVE, State.READY)
    table.apply(ev.RestartAsked(5.0, 1, "tiny:1 is mended"))
    table.apply(other)
    *_, settle = table.apply(exited(0))
    assert table.process(1).state is State.EXITED
    assert settle.fault is not None


def test_a_process_that_has_not_begun_needs_no_restart():
    table = table_with(SERVE)
    assert table.apply(ev.RestartAsked(5.0, 1, "tiny:1 is mended")) == []
    assert table.process(1).state is State.QUEUED
