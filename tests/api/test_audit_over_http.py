"""The audit log over HTTP: every route that changes something is in it, with who and what, and calls are not."""

from __future__ import annotations

import asyncio
from pathlib import Path

from llmos.abi.key import ALL_SCOPES, ApiKey, KeyScope
from llmos.api.app import endpoints
from llmos.config import Config

RUN = {"model": "support", "input": "where is my parcel"}
PIECES = {"PATCH /v1/uploads/{id}", "PUT /v1/uploads/{id}"}  # of an upload that is entered
LOOKS = {"POST /v1/verify"}


def make(kernel, *scopes):
    made = asyncio.run(kernel.keys.create(ApiKey("", scopes=scopes or ALL_SCOPES)))
    return made.key.id, {"x-api-key": made.secret}


def audit(ask, query="", **options):
    return ask("GET", f"/v1/audit{query}", **options).json()["data"]


def test_every_route_that_changes_something_is_audited(kernel):
    changing = [one for one in endpoints(kernel, Config(Path("/nowhere"))) if one.method not in ("GET", "HEAD")]
    not_audited = {f"{one.method} {one.path}" for one in changing if not one.is_audited}
    calls = {f"{one.method} {one.path}" for one in changing if set(one.scopes) <= {KeyScope.INFER, KeyScope.FEEDBACK}}
    assert not_audited - calls - PIECES - LOOKS == set()
    assert sum(one.is_audited for one in changing) > 25


def test_an_entry_says_who_did_what_to_what_and_how_it_ended(ask, kernel):
    admin, headers = make(kernel)
    made = ask("POST", "/v1/keys", {"name": "web"}, headers=headers).json()["key"]["id"]
    ask("POST", "/v1/models/support:1/promote", headers=headers)
    ask("DELETE", "/v1/keys/nobody", headers=headers)
    found = audit(ask, headers=headers)
    assert [(one["what"], one["ref"], one["outcome"]) for one in found] == [
        ("DELETE /v1/keys/{id}", "nobody", "key_not_found"),
        ("POST /v1/models/{ref}/promote", "support:1", "ok"),
        ("POST /v1/keys", made, "ok"),
    ]
    assert {one["who"] for one in found} == {admin}
    assert {one["origin"] for one in found} == {"127.0.0.1"}
    assert [one["what"] for one in audit(ask, "?ref=support&limit=5", headers=headers)] == [found[1]["what"]]


def test_a_training_that_is_started_and_killed_is_named_with_its_pid(ask):
    args = {"task": "classify", "name": "mood", "base": "minilm", "data": {"train": "a.csv"}}
    started = ask("POST", "/v1/processes", {"program": "train", "args": args})
    assert started.status_code == 201, started.text
    pid = started.json()["pid"]
    ask("POST", f"/v1/processes/{pid}/kill", {})
    killed, begun = audit(ask)
    assert (begun["what"], begun["ref"], begun["who"]) == ("POST /v1/processes", f"train mood {pid}", "")
    assert (killed["what"], killed["ref"]) == ("POST /v1/processes/{pid}/kill", str(pid))


def test_calls_looks_and_refused_keys_write_nothing(ask, kernel):
    ask("POST", "/v1/run", RUN)
    ask("GET", "/v1/models")
    _, infer = make(kernel, KeyScope.INFER)
    for _ in range(20):
        ask("DELETE", "/v1/models/support", headers={"x-api-key": "llmos_a_b"})
        ask("DELETE", "/v1/models/support", headers=infer)
        ask("DELETE", "/v1/models/support")
    _, admin = make(kernel)
    assert audit(ask, headers=admin) == []


def test_no_text_and_no_user_is_in_an_entry(ask):
    ask("DELETE", "/v1/requests?user=ann")
    ask("POST", "/v1/keys", {"name": "a name"})
    found = ask("GET", "/v1/audit").text
    assert "ann" not in found
    assert "a name" not in found


def test_a_long_name_is_cut_and_an_unprintable_one_is_one_line(ask):
    ask("DELETE", "/v1/keys/" + "x" * 900)
    ask("DELETE", "/v1/keys/a%0Ab")
    unprintable, long = audit(ask)
    assert (unprintable["ref"], len(long["ref"])) == ("a?b", 200)


def test_the_log_is_verified_over_http(ask):
    ask("POST", "/v1/keys", {"name": "web"})
    headers = {"x-api-key": "llmos_a_b"}
    assert ask("GET", "/v1/audit/verify", headers=headers).status_code == 401
    assert ask("GET", "/healthz").status_code == 200


def test_what_verify_finds_is_in_its_answer(ask, kernel):
    ask("POST", "/v1/models/support:1/promote")
    ask("POST", "/v1/models/support:2/promote")
    whole = ask("GET", "/v1/audit/verify").json()
    assert (whole["entries"], whole["last"], whole["findings"]) == (2, 2, [])
    (path,) = (kernel.audit_home / "audit").glob("*.log")
    path.write_bytes(path.read_bytes().replace(b"support:1", b"support:9"))
    assert "Entry 1 is not what was written" in ask("GET", "/v1/audit/verify").json()["findings"][0]
