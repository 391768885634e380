"""Each route of calls takes `user` and `store`: a text that must not be kept is kept nowhere, whatever the shape."""

import pytest

from llmos.abi.key import KeyScope
from llmos.api.app import endpoints
from llmos.config import Config

SECRET = "my parcel is lost"
CHAT = {"model": "smollm2", "messages": [{"role": "user", "content": SECRET}]}
BODIES = {
    "/api/chat": {**CHAT, "stream": False},
    "/api/embed": {"model": "minilm", "input": SECRET},
    "/api/embeddings": {"model": "minilm", "prompt": SECRET},
    "/api/generate": {"model": "smollm2", "prompt": SECRET, "stream": False},
    "/classify": {"model": "support", "input": SECRET},
    "/infinity/classify": {"model": "support", "input": SECRET},
    "/infinity/embeddings": {"model": "minilm", "input": SECRET},
    "/infinity/rerank": {"model": "minilm", "query": "a", "documents": [SECRET]},
    "/tokenize": {"model": "minilm", "inputs": SECRET},
    "/tei/{model}/tokenize": {"inputs": SECRET},
    "/v1/messages/count_tokens": CHAT,
    "/embed": {"model": "minilm", "inputs": SECRET},
    "/predict": {"model": "support", "inputs": SECRET},
    "/rerank": {"model": "minilm", "query": "a", "documents": [SECRET]},
    "/score": {"model": "minilm", "text_1": "a", "text_2": SECRET},
    "/tei/{model}/embed": {"inputs": SECRET},
    "/tei/{model}/predict": {"inputs": SECRET},
    "/tei/{model}/rerank": {"query": "a", "texts": [SECRET]},
    "/v1/chat/completions": CHAT,
    "/v1/classify": {"model": "support", "input": SECRET},
    "/v1/completions": {"model": "smollm2", "prompt": SECRET},
    "/v1/embeddings": {"model": "minilm", "input": SECRET},
    "/v1/messages": {**CHAT, "max_tokens": 5},
    "/v1/moderations": {"model": "support", "input": SECRET, "safe_labels": ["billing"]},
    "/v1/rerank": {"model": "minilm", "query": "a", "documents": [SECRET]},
    "/v1/responses": {"model": "smollm2", "input": SECRET},
    "/v1/run": {"model": "support", "input": SECRET},
    "/v1/score": {"model": "minilm", "text_1": "a", "text_2": SECRET},
    "/v1/tasks/{task}": {"model": "support", "input": SECRET},
    "/v2/rerank": {"model": "minilm", "query": "a", "documents": [SECRET]},
}
# ids are no text; a batch's lines are calls of other routes
NO_CALLS = {"/api/show", "/detokenize", "/tei/{model}/detokenize", "/v1/batches", "/v1/batches/{batch_id}/cancel"}


def path_of(route):
    model = "support" if "predict" in route else "minilm"
    return route.replace("{task}", "classify").replace("{model}", model)


def test_every_route_of_calls_is_tried_here(kernel, tmp_path):
    found = [one for one in endpoints(kernel, Config(tmp_path)) if one.method == "POST"]
    assert {one.path for one in found if one.scope is KeyScope.INFER} - NO_CALLS == set(BODIES)


@pytest.fixture
def ask_logged(kernel, request):
    kernel.settings |= {"request_log": "all", "request_log_text": True}
    return request.getfixturevalue("ask")


@pytest.mark.parametrize("route", sorted(BODIES))
def test_a_text_that_must_not_be_kept_is_kept_nowhere(ask_logged, kernel, route):
    ask = ask_logged
    answers = [ask("POST", path_of(route), {**BODIES[route], "user": "ann", "store": store}) for store in (True, False)]
    assert [one.status_code for one in answers] == [200, 200], answers[0].text
    kept, not_kept = (ask("GET", f"/v1/requests/{one.headers['x-request-id']}").json() for one in answers)
    assert SECRET in str(kept["inputs"])
    assert (not_kept["inputs"], not_kept["outputs"]) == (None, None)
    assert (kept["user"], not_kept["user"]) == ("ann", "ann")
    assert kernel.requests.recent.get(answers[1].headers["x-request-id"]) is None


def test_anthropic_s_metadata_names_the_user(ask_logged):
    body = {**BODIES["/v1/messages"], "metadata": {"user_id": "ann", "other": 1}}
    for more, user in (({}, "ann"), ({"user": "bob"}, "bob"), ({"metadata": {"user_id": 7}}, "")):
        call_id = ask_logged("POST", "/v1/messages", {**body, **more}).headers["x-request-id"]
        assert ask_logged("GET", f"/v1/requests/{call_id}").json()["user"] == user
