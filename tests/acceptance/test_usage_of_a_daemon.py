"""Usage with a real daemon: counted by key, there after an end and after a kill, shown by the command line."""

from __future__ import annotations

import json
import time

import httpx
import pytest
from test_keys_of_a_daemon import Box

from llmos.kernel.store.store import Store
from llmos.testing.models import add_base

pytestmark = pytest.mark.acceptance

MANY = 12


@pytest.fixture
def box(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    add_base(Store(home))
    made = Box(home)
    yield made
    made.run("down")


def ask(box, secret, model="tiny"):
    headers = {"x-api-key": str(secret)}
    body = {"model": model, "input": "where is my parcel"}
    answer = httpx.post(f"{box.url}/v1/embeddings", json=body, headers=headers, timeout=120)
    assert answer.status_code == 200, answer.text
    return answer.json()["usage"]["prompt_tokens"]


def usage(box, *words):
    return json.loads(box.run("usage", *words, "--json"))


def test_usage_by_key_outlives_an_end_and_a_kill(box):
    box.run("up")
    ann, bob = box.make("ann"), box.make("bob")
    tokens = [ask(box, ann["secret"]) for _ in range(MANY)]
    ask(box, bob["secret"])
    expected = {ann["key"]["id"]: MANY, bob["key"]["id"]: 1}
    assert {one["key"]: one["requests"] for one in usage(box, "--by", "key")} == expected
    assert next(one for one in usage(box) if one["requests"] == MANY)["input_tokens"] == sum(tokens)
    box.run("down")
    box.run("up")
    ask(box, bob["secret"])
    wanted = {**expected, bob["key"]["id"]: 2}
    assert {one["key"]: one["requests"] for one in usage(box, "--by", "key")} == wanted  # being shown, it is written
    box.kill()
    box.run("up")
    assert {one["key"]: one["requests"] for one in usage(box, "--by", "key", "--since", "1d")} == wanted
    text = box.run("usage", "--by", "key,model", "--model", "tiny")
    assert text.splitlines()[0].split() == ["KEY", "MODEL", "REQUESTS", "ERRORS", "IN", "OUT"]
    assert usage(box, "--until", "2001-01-01") == []
    assert "by" in box.run("usage", "--by", "hour", code=2)
    assert time.strftime("%Y", time.gmtime()) in box.run("usage")
