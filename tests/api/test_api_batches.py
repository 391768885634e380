"""Batches over HTTP, in OpenAI's shape, and calls of routes by processes."""

from __future__ import annotations

import asyncio
import json

import pytest

from llmos.abi.batch import OUTPUT, STATE, BatchState, BatchStatus, LineFault
from llmos.abi.frame import RouteCalled
from llmos.abi.process import State
from llmos.abi.wire import to_json


@pytest.fixture
def begin(ask):
    """Begin a batch; `changes` are fields of its request."""

    def begin(**changes):
        sent = ask("POST", "/v1/files", files={"file": ("in.jsonl", b"{}\n")}, data={"purpose": "batch"}).json()
        body = {"input_file_id": sent["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        return ask("POST", "/v1/batches", json={**body, **changes})

    return begin


def write(kernel, batch, state, output=b""):
    folder = kernel.uploads_folder / "batches" / batch["id"]
    (folder / STATE).write_bytes(to_json(state))
    (folder / OUTPUT).write_bytes(output)


def test_a_batch_is_begun_shown_and_listed(ask, begin):
    made = begin(metadata={"for": "tests"}).json()
    assert {key: made[key] for key in ("object", "status", "endpoint", "metadata", "output_file_id", "errors")} == {
        "object": "batch",
        "status": "validating",
        "endpoint": "/v1/chat/completions",
        "metadata": {"for": "tests"},
        "output_file_id": None,
        "errors": None,
    }
    assert made["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert made["expires_at"] - made["created_at"] == 86_400
    assert ask("GET", f"/v1/batches/{made['id']}").json() == made
    process = ask("GET", f"/v1/processes/{made['pid']}").json()
    assert (process["spec"]["program"], process["spec"]["priority"]) == ("batch", "batch")
    others = [begin().json()["id"] for _ in range(2)]
    known = [one["id"] for one in ask("GET", "/v1/batches").json()["data"]]
    assert set(known) == {made["id"], *others}
    page = ask("GET", "/v1/batches?limit=2").json()
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (known[:2], True)
    rest = ask("GET", f"/v1/batches?after={page['last_id']}").json()
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (known[2:], False)


def test_counts_and_whole_lines_are_there_while_it_runs(ask, kernel, begin):
    made = begin().json()
    write(kernel, made, BatchState(BatchStatus.IN_PROGRESS, 5, 2, in_progress_at=7.5), b"one\ntwo\nhal")
    shown = ask("GET", f"/v1/batches/{made['id']}").json()
    assert (shown["status"], shown["in_progress_at"], shown["error_file_id"]) == ("in_progress", 7, None)
    assert shown["request_counts"] == {"total": 5, "completed": 2, "failed": 0}
    assert ask("GET", f"/v1/files/{shown['output_file_id']}/content").content == b"one\ntwo\n"
    file = ask("GET", f"/v1/files/{shown['output_file_id']}").json()
    assert (file["bytes"], file["purpose"], file["id"]) == (8, "batch_output", shown["output_file_id"])


def test_a_file_of_a_batch_that_has_no_line_yet_is_not_there(ask, kernel, begin):
    made = begin().json()
    name = f"file-{kernel.batches.get(made['id']).output}"
    for path in (f"/v1/files/{name}", f"/v1/files/{name}/content"):
        assert ask("GET", path).status_code == 404
    write(kernel, made, BatchState(BatchStatus.IN_PROGRESS, 5), b"hal")
    assert ask("GET", f"/v1/files/{name}/content").content == b""


def test_a_batch_is_cancelled_and_one_that_has_ended_is_not(ask, kernel, begin):
    made = begin().json()
    cancelled = ask("POST", f"/v1/batches/{made['id']}/cancel").json()
    assert (cancelled["status"], cancelled["cancelling_at"]) == ("cancelling", int(cancelled["created_at"]))
    settle(kernel, made)
    shown = ask("GET", f"/v1/batches/{made['id']}").json()
    assert (shown["status"], shown["cancelled_at"] is not None) == ("cancelled", True)
    assert ask("POST", f"/v1/batches/{made['id']}/cancel").status_code == 409


def settle(kernel, batch):
    """Its process has ended."""

    async def end():
        kernel.batches.look(kernel.processes.get(batch["pid"]))
        await kernel.batches.close()

    if kernel.processes.get(batch["pid"]).state is not State.EXITED:
        kernel.processes.move(batch["pid"], State.EXITED)
    asyncio.run(end())


def test_faults_of_the_file_are_told_with_their_lines(ask, kernel, begin):
    made = begin().json()
    write(
        kernel,
        made,
        BatchState(BatchStatus.FAILED, 3, faults=(LineFault("invalid_line", "no", 2, "url"),), ended_at=9.0),
    )
    settle(kernel, made)
    shown = ask("GET", f"/v1/batches/{made['id']}").json()
    assert (shown["status"], shown["failed_at"], shown["output_file_id"]) == ("failed", 9, None)
    assert shown["errors"] == {
        "object": "list",
        "data": [{"code": "invalid_line", "message": "no", "line": 2, "param": "url"}],
    }


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"endpoint": "/v1/gc"}, "endpoint"),
        ({"endpoint": "/v1/tasks/sing"}, "endpoint"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"model": "x"}, "model"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(begin, changes, param):
    answer = begin(**changes)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_file_that_is_not_there_and_a_batch_that_is_not_are_404(ask, begin):
    assert begin(input_file_id="file-0").status_code == 404
    assert ask("GET", "/v1/batches/batch_0").status_code == 404
    assert ask("POST", "/v1/batches/batch_0/cancel").status_code == 404


@pytest.mark.parametrize("endpoint", ["/v1/tasks/classify", "/v1/run", "/v1/embeddings", "/v1/completions"])
def test_our_own_routes_may_be_asked(begin, endpoint):
    assert begin(endpoint=endpoint).status_code == 200


def test_a_process_gets_the_answer_that_a_client_gets(ask):
    def call(path, body):
        return asyncio.run(ask.app.answer_route(RouteCalled(3, path, json.dumps(body).encode())))

    body = {"model": "support", "input": "where is my parcel", "priority": "batch"}
    reply = call("/v1/tasks/classify", body)
    assert (reply.request_id, reply.status) == (3, 200)
    assert reply.call_id.startswith("req_")
    assert json.loads(reply.body) == ask("POST", "/v1/tasks/classify", json=body).json()
    refused = call("/v1/tasks/classify", {**body, "model": "nobody"})
    assert (refused.status, json.loads(refused.body)["error"]["code"]) == (404, "model_not_found")
    assert call("/v1/nothing", {}).status == 404
