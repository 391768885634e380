"""Models by the names that clients use: bare ones first, `latest`, and names with a slash, which are not here."""

import pytest

from llmos.abi.error import ModelNotFound
from llmos.abi.model import split_ref
from llmos.testing.errors import fails_with


def test_promoted_models_are_listed_first_by_their_bare_names(ask):
    listed = ask("GET", "/v1/models").json()["data"]
    assert [one["id"] for one in listed] == [
        "minilm", "smollm2", "support", "ner", "minilm:1", "smollm2:1", "support:1", "support:2", "ner:1",
    ]  # fmt: skip
    assert [(one["ref"], one["task"]) for one in listed[:2]] == [("minilm:1", "embed"), ("smollm2:1", "chat")]


@pytest.mark.parametrize("ref", ["support", "support:latest", "support:2"])
def test_a_model_that_is_found_has_the_id_that_it_was_asked_by(ask, ref):
    found = ask("GET", f"/v1/models/{ref}").json()
    assert (found["id"], found["ref"]) == (ref, "support:2")


def test_latest_is_what_the_bare_name_means(ask):
    assert ask("GET", "/v1/models/support:latest").json()["ref"] == "support:2"
    said = ask("POST", "/v1/tasks/classify", {"model": "support:latest", "input": "hello"}).json()
    assert said["model"] == "support:2"
    assert ask("DELETE", "/v1/models/support:latest").json()["removed"] == ["support:2"]


def test_a_bare_name_of_which_no_version_is_promoted_answers_no_call(ask, kernel):
    kernel.models.promoted["support"] = []
    for path, said in (("tasks/classify", {"input": "x"}), ("embeddings", {"input": "x"})):
        answer = ask("POST", f"/v1/{path}", {"model": "support", **said})
        assert (answer.status_code, "support:1, support:2" in answer.json()["error"]["message"]) == (409, True)
    assert ask("POST", "/v1/tasks/classify", {"model": "support:1", "input": "x"}).json()["model"] == "support:1"
    assert len(kernel.calls.asked) == 1


@pytest.mark.parametrize("path", ["org/name", "org%2Fname", "org/name:1", "a/b/c"])
def test_a_name_with_a_slash_is_a_model_that_is_not_there(ask, path):
    answer = ask("GET", f"/v1/models/{path}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_a_call_of_a_name_with_a_slash_finds_no_model(ask):
    for path, said in (("embeddings", {"input": "x"}), ("tasks/embed", {"input": "x"})):
        answer = ask("POST", f"/v1/{path}", {"model": "org/name", **said})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    with fails_with(ModelNotFound, name="org/name"):
        split_ref("org/name")


def test_a_route_below_models_that_is_not_there_is_still_not_there(ask):
    assert ask("GET", "/v1/models/support/no-such").status_code == 404


def test_the_front_page_says_what_this_is(ask):
    page = ask("GET", "/", headers={"Accept": "text/html,*/*"})
    assert page.headers["content-type"].startswith("text/html")
    assert 'href="/docs"' in page.text
    text = ask("GET", "/", headers={"Accept": "*/*"})
    assert text.headers["content-type"].startswith("text/plain")
    assert "base_url" in text.text
