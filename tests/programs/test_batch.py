"""A batch's process: each line asked once, answers in order, asked again where that helps, expired, and interrupted."""

from __future__ import annotations

import json
import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmos.abi.batch import ERRORS, OUTPUT, STATE, BatchState, BatchStatus
from llmos.abi.frame import FromChild, Job, RouteCalled, RouteReplied, Stop
from llmos.abi.process import DONE
from llmos.abi.wire import from_json
from llmos.programs.batch import BatchRun
from llmos.testing.daemon import FakeDaemon, beside

ROUTE = "/v1/tasks/classify"
Answer = Callable[[FakeDaemon, RouteCalled, int], RouteReplied | None]


def job_of(tmp_path: Path, count: int, expires_at: float = 1e12) -> Job:
    """The job of a batch with so many lines."""
    path = tmp_path / "in.jsonl"
    lines = (
        {"custom_id": f"id-{i}", "method": "POST", "url": ROUTE, "body": {"model": "m", "input": i}}
        for i in range(count)
    )
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    args = {
        "batch": "batch_ab",
        "input": str(path),
        "endpoint": ROUTE,
        "expires_at": expires_at,
        "folder": str(tmp_path / "folder"),
        "line_bytes": 1000,
        "held_bytes": 1 << 20,
    }
    return Job(1, "batch", args, str(tmp_path))  # type: ignore[arg-type]  # a name is enough


def run(job: Job, answer: Answer, **clocks: Any) -> FakeDaemon:
    """Run the process to its end; `answer` gets each call with the number of times that its line was asked."""
    asked: Counter[bytes] = Counter()
    lock = threading.Lock()

    def on_frame(frame: FromChild) -> None:
        if isinstance(frame, RouteCalled):
            with lock:
                asked[frame.body] += 1
                reply = answer(daemon, frame, asked[frame.body])
            if reply is not None:
                daemon.send(reply)

    daemon, channel, close = beside(on_frame)
    batch = BatchRun(channel, job, **clocks)
    batch.run()
    batch.close()
    close()
    return daemon


def reply_to(call: RouteCalled, status: int = 200, **body: Any) -> RouteReplied:
    said = {"echo": json.loads(call.body)["input"], **body}
    return RouteReplied(call.request_id, status, json.dumps(said).encode(), f"req_{call.request_id}")


def answered(job: Job, name: str) -> list[dict[str, Any]]:
    path = Path(job.args["folder"], name)
    return [json.loads(one) for one in path.read_text().splitlines()] if path.exists() else []


def state_of(job: Job) -> BatchState:
    return from_json(Path(job.args["folder"], STATE).read_bytes(), BatchState)


def test_every_line_is_answered_in_order_and_the_files_have_openai_s_shape(tmp_path: Path):
    job = job_of(tmp_path, 300)
    daemon = run(job, lambda _, call, times: reply_to(call, 400 if call.request_id % 7 == 3 else 200))
    output, errors = answered(job, OUTPUT), answered(job, ERRORS)
    assert [one["custom_id"] for one in output] == [f"id-{i}" for i in range(300) if i % 7 != 3]
    assert [one["custom_id"] for one in errors] == [f"id-{i}" for i in range(300) if i % 7 == 3]
    assert output[1] == {
        "id": "batch_req_ab_2",
        "custom_id": "id-1",
        "response": {"status_code": 200, "request_id": "req_1", "body": {"echo": 1}},
        "error": None,
    }
    assert errors[0]["response"]["status_code"] == 400
    state = state_of(job)
    assert (state.status, state.total, state.completed, state.failed) == (BatchStatus.COMPLETED, 300, 257, 43)
    assert (daemon.progress[-1].phase, daemon.progress[-1].done) == (DONE, 300)


def test_answers_that_come_in_any_order_are_written_in_that_of_the_file(tmp_path: Path):
    job = job_of(tmp_path, 500)
    held: list[RouteCalled] = []
    chance = random.Random(5)

    def answer(daemon: FakeDaemon, call: RouteCalled, times: int) -> None:
        held.append(call)
        if len(held) >= 40 or call.request_id >= 460:
            chance.shuffle(held)
            for one in held:
                daemon.send(reply_to(one))
            held.clear()

    run(job, answer)
    assert [one["response"]["body"]["echo"] for one in answered(job, OUTPUT)] == list(range(500))


def test_a_line_is_asked_again_where_another_time_may_be_better(tmp_path: Path):
    job = job_of(tmp_path, 5)
    steps = iter(range(10**9))
    replies = {0: [429, 429, 200], 1: [503, 200], 2: [500] * 20, 3: [507], 4: [200]}

    def answer(_: FakeDaemon, call: RouteCalled, times: int) -> RouteReplied:
        statuses = replies[call.request_id]
        code = "no_room" if call.request_id == 3 else "busy"
        return reply_to(call, statuses[min(times, len(statuses)) - 1], error={"code": code})

    daemon = run(job, answer, steady=lambda: float(next(steps)))
    asked = Counter(frame.request_id for frame in daemon.said if isinstance(frame, RouteCalled))
    assert asked == {0: 3, 1: 2, 2: 6, 3: 1, 4: 1}
    assert [one["custom_id"] for one in answered(job, OUTPUT)] == ["id-0", "id-1", "id-4"]
    assert [one["response"]["status_code"] for one in answered(job, ERRORS)] == [500, 507]


def test_a_stopped_process_goes_on_with_the_lines_that_are_left(tmp_path: Path):
    job = job_of(tmp_path, 200)

    def answer(daemon: FakeDaemon, call: RouteCalled, times: int) -> RouteReplied:
        if call.request_id == 90:
            daemon.send(Stop("enough"))
        return reply_to(call)

    first = run(job, answer)
    done = len(answered(job, OUTPUT))
    assert 90 < done < 200
    assert state_of(job).status is BatchStatus.IN_PROGRESS
    second = run(job, lambda _, call, times: reply_to(call))
    asked = [frame.request_id for one in (first, second) for frame in one.said if isinstance(frame, RouteCalled)]
    assert asked == list(range(200))
    assert [one["custom_id"] for one in answered(job, OUTPUT)] == [f"id-{i}" for i in range(200)]
    assert state_of(job).completed == 200


def test_a_file_that_does_not_fit_fails_as_a_whole_and_asks_nothing(tmp_path: Path):
    job = job_of(tmp_path, 3)
    with Path(job.args["input"]).open("a") as file:
        file.write("{\n")
    daemon = run(job, lambda _, call, times: reply_to(call))
    assert not [frame for frame in daemon.said if isinstance(frame, RouteCalled)]
    state = state_of(job)
    assert (state.status, [(one.line, one.code) for one in state.faults]) == (
        BatchStatus.FAILED,
        [(4, "invalid_json_line")],
    )


@pytest.mark.parametrize("in_time", [0, 100])
def test_lines_that_are_not_answered_in_time_get_an_error_each(tmp_path: Path, in_time: int):
    job = job_of(tmp_path, 2_000, expires_at=1_000.0)
    now = [900.0 if in_time else 1_000.0]

    def answer(_: FakeDaemon, call: RouteCalled, times: int) -> RouteReplied:
        if call.request_id == in_time:
            now[0] = 1_000.0
        return reply_to(call)

    run(job, answer, clock=lambda: now[0])
    output, errors = answered(job, OUTPUT), answered(job, ERRORS)
    assert (len(output) >= in_time, len(output) < 2_000, len(output) + len(errors)) == (True, True, 2_000)
    assert [one["custom_id"] for one in (*output, *errors)] == [f"id-{i}" for i in range(2_000)]
    assert {(one["response"], one["error"]["code"]) for one in errors} == {(None, "batch_expired")}
    assert state_of(job).status is BatchStatus.EXPIRED


def test_a_first_line_that_hangs_does_not_let_answers_pile_up(tmp_path: Path):
    job = job_of(tmp_path, 5_000)
    first: list[RouteCalled] = []
    most = [0]

    def answer(daemon: FakeDaemon, call: RouteCalled, times: int) -> RouteReplied | None:
        most[0] = max(most[0], call.request_id) if not first or len(first) == 1 else most[0]
        if call.request_id == 0:
            first.append(call)
            return None
        if call.request_id == 1_023:
            daemon.send(reply_to(call))
            first.append(call)
            return reply_to(first[0])
        return reply_to(call)

    run(job, answer)
    assert most[0] == 1_023
    assert [one["response"]["body"]["echo"] for one in answered(job, OUTPUT)] == list(range(5_000))


def test_lines_that_wait_for_another_time_are_held_within_the_bound(tmp_path: Path):
    job = job_of(tmp_path, 300)
    job.args["held_bytes"] = 2_000
    asked: set[int] = set()
    before_any_answer: list[int] = []

    def answer(daemon: FakeDaemon, call: RouteCalled, times: int) -> RouteReplied:
        asked.add(call.request_id)
        if times == 1:
            return reply_to(call, 429)
        before_any_answer.append(len(asked))
        return reply_to(call)

    run(job, answer)
    assert before_any_answer[0] <= 2_000 // len(b'{"model":"m","input":0,"priority":"batch"}') + 1
    assert [one["response"]["body"]["echo"] for one in answered(job, OUTPUT)] == list(range(300))


def test_a_state_that_the_loss_of_power_has_emptied_costs_no_answer(tmp_path: Path) -> None:
    job = job_of(tmp_path, 20)
    run(job, lambda daemon, call, count: reply_to(call))
    before = answered(job, OUTPUT)
    (Path(job.args["folder"]) / STATE).write_bytes(b"")
    again = run(job, lambda daemon, call, count: reply_to(call))
    assert answered(job, OUTPUT) == before
    assert not [one for one in again.said if isinstance(one, RouteCalled)]
    assert state_of(job).status is BatchStatus.COMPLETED


def test_a_state_is_on_the_disk_before_it_takes_the_place_of_another(tmp_path: Path, monkeypatch: Any) -> None:
    synced: set[int] = set()
    to_disk = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (synced.add(os.fstat(number).st_ino), to_disk(number)))
    job = job_of(tmp_path, 3)
    run(job, lambda daemon, call, count: reply_to(call))
    assert (Path(job.args["folder"]) / STATE).stat().st_ino in synced
