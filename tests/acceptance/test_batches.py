"""Batches by the real daemon on the null engine: every line answered once, whoever is killed on the way."""

from __future__ import annotations

import json
import os
import signal
import time

import httpx
import pytest
from conftest import House, free_port, is_hit

from llmos.kernel.store.store import Store
from llmos.testing.models import add_base, add_model

pytestmark = pytest.mark.acceptance

LINES = 6_000
ROUTE = "/v1/tasks/classify"
NOT_ANSWERED = 17  # every so many lines names a model that there is not


@pytest.fixture
def batch_house(tmp_path):
    """A daemon on the null engine with the model mood."""
    home = tmp_path / "home"
    home.mkdir()
    store = Store(home)
    add_base(store)
    add_model(store, "mood", "tiny:1", pid=901)
    store.promote("mood:1")
    house = House(home, free_port())
    up(house)
    yield house
    house("down")


def up(house):
    done = house("up", LLMOS_ENGINE="null")
    assert done.returncode == 0, done.stderr


def lines(count):
    for i in range(count):
        body = {"model": "nobody" if i % NOT_ANSWERED == 5 else "mood", "input": f"text {i}"}
        yield json.dumps({"custom_id": f"id-{i}", "method": "POST", "url": ROUTE, "body": body}) + "\n"


def begin(house, count, sender=None, owner=None):
    """A batch of so many lines, with the headers of who sends the file and of who begins it."""
    sent = httpx.post(
        f"{house.url}/v1/files",
        files={"file": ("in.jsonl", "".join(lines(count)).encode())},
        data={"purpose": "batch"},
        headers=sender,
        timeout=60,
    ).json()
    body = {"input_file_id": sent["id"], "endpoint": ROUTE, "completion_window": "24h"}
    return httpx.post(f"{house.url}/v1/batches", json=body, headers=owner, timeout=60).json()


def until(house, batch, is_there, headers=None):
    """The batch as soon as this is true of it."""
    while True:
        now = httpx.get(f"{house.url}/v1/batches/{batch['id']}", headers=headers, timeout=60).json()
        if is_there(now) or now["status"] in ("completed", "failed", "cancelled", "expired"):
            return now
        time.sleep(0.05)


def answered(batch):
    return batch["request_counts"]["completed"] + batch["request_counts"]["failed"]


def content(house, file_id, headers=None):
    text = httpx.get(f"{house.url}/v1/files/{file_id}/content", headers=headers, timeout=60).text
    return [json.loads(line) for line in text.splitlines()]


def test_every_line_is_answered_once_though_daemon_and_process_are_killed(batch_house):
    house = batch_house
    batch = begin(house, LINES)
    seen = until(house, batch, lambda now: answered(now) > 0)
    with house.client() as box:
        daemon = box.status().os_pid
    os.kill(daemon, signal.SIGKILL)
    up(house)
    seen = until(house, batch, lambda now: answered(now) > answered(seen))
    with house.client() as box:
        process = box.process(batch["pid"])
    is_hit(process.os_pid)
    ended = until(house, batch, lambda now: False)
    failed = len(range(5, LINES, NOT_ANSWERED))
    assert ended["status"] == "completed"
    assert ended["request_counts"] == {"total": LINES, "completed": LINES - failed, "failed": failed}
    output, errors = content(house, ended["output_file_id"]), content(house, ended["error_file_id"])
    expected = [f"id-{i}" for i in range(LINES)]
    assert [one["custom_id"] for one in output] == [one for i, one in enumerate(expected) if i % NOT_ANSWERED != 5]
    assert [one["custom_id"] for one in errors] == expected[5::NOT_ANSWERED]
    assert {one["response"]["body"]["error"]["code"] for one in errors} == {"model_not_found"}
    first = httpx.post(f"{house.url}{ROUTE}", json={"model": "mood", "input": "text 0"}, timeout=60).json()
    assert output[0]["response"]["body"] == first


def test_a_batch_ends_with_errors_when_its_key_is_removed(batch_house):
    house = batch_house
    owner = house.json("key", "create", "--scope", "infer", "--scope", "data")["secret"]
    made = house.json("key", "create", "--scope", "infer", "--model", "mood")
    mine, everything = {"x-api-key": made["secret"]}, {"x-api-key": owner}
    batch = begin(house, 20 * LINES, sender=everything, owner=mine)
    until(house, batch, lambda now: answered(now) > 0, headers=mine)
    assert httpx.get(f"{house.url}/v1/batches/{batch['id']}", timeout=60).status_code == 401
    assert house("key", "rm", made["key"]["id"]).returncode == 0
    ended = until(house, batch, lambda now: False, headers=everything)
    assert (ended["status"], answered(ended)) == ("completed", 20 * LINES)
    output = content(house, ended["output_file_id"], everything)
    errors = content(house, ended["error_file_id"], everything)
    known = sorted(int(one["custom_id"].removeprefix("id-")) for one in (*output, *errors))
    assert known == list(range(20 * LINES))
    assert {one["response"]["status_code"] for one in errors} == {401, 403}
    assert errors[-1]["response"]["body"]["error"]["code"] == "invalid_api_key"


def test_a_batch_goes_on_after_down_and_up_and_is_cancelled_with_what_it_has(batch_house):
    house = batch_house
    batch = begin(house, 20 * LINES)
    seen = until(house, batch, lambda now: answered(now) > 0)
    assert house("down").returncode == 0
    up(house)
    seen = until(house, batch, lambda now: answered(now) > answered(seen))
    with house.client() as box:
        assert box.process(batch["pid"]).spec.program == "batch"
    httpx.post(f"{house.url}/v1/batches/{batch['id']}/cancel", timeout=60)
    ended = until(house, batch, lambda now: False)
    assert ended["status"] == "cancelled"
    output = content(house, ended["output_file_id"])
    assert len(output) == ended["request_counts"]["completed"]
    known = [int(one["custom_id"].removeprefix("id-")) for one in output]
    assert known == [i for i in range(known[-1] + 1) if i % NOT_ANSWERED != 5]


def test_the_command_line_sends_follows_and_fetches(batch_house, tmp_path):
    house, requests, out = batch_house, tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    requests.write_text("".join(lines(300)))
    done = house("batch", str(requests), "--out", str(out))
    assert done.returncode == 0, done.stderr
    failed = len(range(5, 300, NOT_ANSWERED))
    assert f"completed: {300 - failed} answered, {failed} failed of 300" in done.stdout
    assert len(out.read_text().splitlines()) == 300 - failed
    assert len((tmp_path / "out-errors.jsonl").read_text().splitlines()) == failed
    again = house("batch", str(requests), "--out", str(out))
    assert (again.returncode, "is there already" in again.stderr) == (2, True)
    name = done.stdout.split()[0]
    shown = house.json("batch", name, "--out", str(out), "--force")
    assert (shown["id"], shown["status"]) == (name, "completed")
    requests.write_text("{\n")
    bad = house("batch", str(requests), "--endpoint", ROUTE)
    assert (bad.returncode, "line 1" in bad.stdout) == (1, True)
