"""The routes of rollouts, and how a call to a name that is rolled out is routed."""

from __future__ import annotations

from dataclasses import replace

from llmos.abi.disagreement import Disagreement

PATH = "/v1/models/support/rollout"


def test_a_rollout_is_begun_shown_followed_and_ended(ask, events):
    assert ask("GET", PATH).status_code == 404
    begun = ask("POST", PATH, {"candidate": 1, "steps": [0.2, 1], "guards": ["errors<=0.1"], "calls": 7})
    assert begun.status_code == 201
    rollout = begun.json()["rollout"]
    assert (rollout["plan"]["mode"], rollout["plan"]["steps"], rollout["stage"]) == ("canary", [0.2, 1.0], "running")
    assert ask("GET", PATH).json()["guards"][0]["state"] == "open"
    assert ask("POST", PATH, {"candidate": 1}).status_code == 409
    assert events(ask("GET", f"{PATH}/events"))[0]["rollout"]["id"] == rollout["id"]
    assert ask("DELETE", PATH).json()["rollout"]["stage"] == "stopped"
    assert ask("DELETE", PATH).status_code == 404


def test_a_plan_that_cannot_work_is_refused_with_its_field(ask):
    for wrong, key in ({"guards": ["speed>=1"]}, "guards"), ({"steps": [2.0]}, "steps"), ({"mode": "big"}, "mode"):
        refused = ask("POST", PATH, {"candidate": 1, **wrong})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, key)
    assert ask("POST", PATH, {"candidate": 9}).status_code == 404
    assert ask("POST", PATH, {}).status_code == 400


def test_the_answer_names_the_version_that_the_user_has(ask):
    ask("POST", PATH, {"candidate": 1, "mode": "ab", "share": 0.5})
    bodies = [{"model": "support", "input": "where is it", "user": f"user {n}"} for n in range(40)]
    first = [ask("POST", "/v1/tasks/classify", body).json()["model"] for body in bodies]
    assert set(first) == {"support:1", "support:2"}
    other = [ask("POST", "/v1/run", body | {"input": "too dear"}).json()["model"] for body in bodies]
    assert other == first
    named = ask("POST", "/v1/tasks/classify", bodies[0] | {"model": "support:2"}).json()
    assert named["model"] == "support:2"
    ask("DELETE", PATH)
    assert {ask("POST", "/v1/run", body).json()["model"] for body in bodies[:8]} == {"support:2"}


def test_texts_on_which_versions_disagreed_are_listed(ask, kernel):
    one = Disagreement(1, 1.5, "support", "classify", "t1", "too dear", {"support:1": "a", "support:2": "b"}, "r", "ab")
    kernel.rollouts.differing = [replace(one, user="ann"), replace(one, id=2)]
    found = ask("GET", f"{PATH}/disagreements?limit=5").json()["data"]
    assert [(one["id"], one["text"], one["answers"]) for one in found] == [
        (1, "too dear", {"support:1": "a", "support:2": "b"}),
        (2, "too dear", {"support:1": "a", "support:2": "b"}),
    ]
    assert [one["user"] for one in ask("GET", f"{PATH}/disagreements?user=ann").json()["data"]] == ["ann"]


def test_a_call_of_a_rollout_says_whose_it_is_and_whether_its_text_may_be_kept(ask, kernel):
    body = {"model": "support", "input": "where is it", "user": "ann"}
    ask("POST", "/v1/run", body)
    assert kernel.calls.origins[-1] is None
    ask("POST", PATH, {"candidate": 1, "mode": "ab"})
    answer = ask("POST", "/v1/run", body)
    origin = kernel.calls.origins[-1]
    assert (origin.call, origin.user, origin.may_keep) == (answer.headers["x-request-id"], "ann", True)
    ask("POST", "/v1/run", {**body, "store": False})
    assert not kernel.calls.origins[-1].may_keep
