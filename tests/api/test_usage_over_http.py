"""Usage over HTTP: every call that ended is counted once, for its key, with its tokens."""

import asyncio

import pytest

from llmos.abi.key import ALL_SCOPES, ApiKey, KeyLimits
from llmos.kernel.keys.key_service import KeyService

RUN = {"model": "support", "input": "where is my parcel"}
CHAT = {"model": "smollm2", "messages": [{"role": "user", "content": "one two three"}]}


def make(kernel, name):
    made = asyncio.run(kernel.keys.create(ApiKey("", name, ALL_SCOPES)))
    return made.key.id, {"x-api-key": made.secret}


def used(ask, query="", **options):
    return ask("GET", f"/v1/usage{query}", **options).json()["data"]


def test_calls_without_a_key_are_counted_under_none(ask):
    ask("POST", "/v1/run", RUN)
    ask("POST", "/v1/run", RUN)
    (found,) = used(ask)
    assert (found["key"], found["model"], found["requests"], found["errors"]) == ("", "support:2", 2, 0)
    assert found["input_tokens"] > 0


def test_each_key_has_its_own(ask, kernel):
    (ann, of_ann), (bob, of_bob) = make(kernel, "ann"), make(kernel, "bob")
    ask("POST", "/v1/run", RUN, headers=of_ann)
    ask("POST", "/v1/chat/completions", CHAT, headers=of_bob)
    ask("POST", "/v1/run", RUN, headers=of_bob)
    found = used(ask, "?by=key", headers=of_ann)
    assert [(one["key"], one["requests"], one["model"], one["day"]) for one in found] == [
        (bob, 2, "", ""),
        (ann, 1, "", ""),
    ]
    assert [one["model"] for one in used(ask, f"?key={ann}", headers=of_ann)] == ["support:2"]
    assert [one["key"] for one in used(ask, "?model=smollm2&by=key", headers=of_ann)] == [bob]


@pytest.mark.parametrize("is_streamed", [False, True])
def test_tokens_are_those_that_the_answer_says(ask, is_streamed):
    body = {**CHAT, "stream": is_streamed} | ({"stream_options": {"include_usage": True}} if is_streamed else {})
    answer = ask("POST", "/v1/chat/completions", body)
    said = answer.text.rpartition('"usage":')[2]
    (found,) = used(ask)
    assert f'"prompt_tokens":{found["input_tokens"]},"completion_tokens":{found["output_tokens"]}' in said
    assert found["output_tokens"] > 0


def test_a_call_that_failed_is_an_error_and_one_that_never_began_is_none(ask):
    ask("POST", "/v1/tasks/tag", {"model": "support", "input": "a"})
    ask("POST", "/v1/run", {"model": "nobody", "input": "a"})
    ask("POST", "/v1/run", b"no json")
    assert [(one["requests"], one["errors"]) for one in used(ask)] == [(1, 1)]


@pytest.mark.parametrize(("query", "key"), [("by=hour", "by"), ("since=monday", "since"), ("until=1", "until")])
def test_what_is_no_day_or_part_is_refused(ask, query, key):
    assert ask("GET", f"/v1/usage?{query}").json()["error"]["param"] == key


def test_days_bound_what_is_shown(ask):
    ask("POST", "/v1/run", RUN)
    assert used(ask, "?until=2001-01-01") == []
    assert len(used(ask, "?since=2001-01-01")) == 1


def test_limits_of_a_day_go_on_after_a_restart(tmp_path):
    """Asked of the ledgers that a new start makes."""
    first = KeyService(tmp_path)
    limits = KeyLimits(requests_per_day=10, tokens_per_day=100)
    key = asyncio.run(first.create(ApiKey("", "ann", limits=limits))).key
    again = KeyService(tmp_path, used_today=lambda key_id: (4, 30) if key_id == key.id else (0, 0))
    left = again.ledger(key).remaining(again.moment())
    assert [one.remaining for one in left] == [6, 70]
