"""A key for some models learns nothing of the others, by any route: not that they are there, nor what they are."""

import asyncio

import pytest

from llmos.abi.frame import ModelPath
from llmos.abi.key import ALL_SCOPES, ApiKey, KeyScope
from llmos.abi.process import Spec
from llmos.api.app import endpoints
from llmos.config import Config

BODIES = {
    "/api/chat": {"messages": [{"role": "user", "content": "a"}], "stream": False},
    "/api/embed": {"input": "a"},
    "/api/embeddings": {"prompt": "a"},
    "/api/generate": {"prompt": "a", "stream": False},
    "/api/show": {},
    "/classify": {"input": "a"},
    "/detokenize": {"tokens": [1]},
    "/infinity/classify": {"input": "a"},
    "/infinity/embeddings": {"input": "a"},
    "/infinity/rerank": {"query": "a", "documents": ["b"]},
    "/tokenize": {"prompt": "a"},
    "/tei/{model}/tokenize": {"inputs": "a"},
    "/tei/{model}/detokenize": {"ids": [1]},
    "/v1/messages/count_tokens": {"messages": [{"role": "user", "content": "a"}]},
    "/embed": {"inputs": "a"},
    "/predict": {"inputs": "a"},
    "/rerank": {"query": "a", "documents": ["b"]},
    "/score": {"text_1": "a", "text_2": "b"},
    "/tei/{model}/embed": {"inputs": "a"},
    "/tei/{model}/predict": {"inputs": "a"},
    "/tei/{model}/rerank": {"query": "a", "texts": ["b"]},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "a"}]},
    "/v1/classify": {"input": "a"},
    "/v1/completions": {"prompt": "a"},
    "/v1/embeddings": {"input": "a"},
    "/v1/feedback": {"input": "a", "label": "x"},
    "/v1/messages": {"messages": [{"role": "user", "content": "a"}], "max_tokens": 5},
    "/v1/moderations": {"input": "a"},
    "/v1/rerank": {"query": "a", "documents": ["b"]},
    "/v1/responses": {"input": "a"},
    "/v1/run": {"input": "a"},
    "/v1/score": {"text_1": "a", "text_2": "b"},
    "/v1/tasks/{task}": {"input": "a"},
    "/v2/rerank": {"query": "a", "documents": ["b"]},
}
NO_MODEL = {"/v1/batches", "/v1/batches/{batch_id}/cancel"}


def make(kernel, *scopes, models=("minilm",)):
    """The headers of a new key for these models."""
    made = asyncio.run(kernel.keys.create(ApiKey("", scopes=scopes or ALL_SCOPES, models=models)))
    return {"authorization": f"Bearer {made.secret}"}


def without_name(answer, name):
    """An answer's text without the name that the request had."""
    return answer.text.replace(name, "NAME")


def test_every_route_that_takes_a_model_is_tried_here(kernel, tmp_path):
    scopes = (KeyScope.INFER, KeyScope.FEEDBACK)
    found = {one.path for one in endpoints(kernel, Config(tmp_path)) if one.method == "POST" and one.scope in scopes}
    assert found - NO_MODEL == set(BODIES)


@pytest.mark.parametrize("route", sorted(BODIES))
def test_a_model_of_others_and_one_that_is_nowhere_are_refused_alike(ask, kernel, route):
    mine = make(kernel)
    said = []
    for name in ("support", "nobody"):
        path = route.replace("{task}", "classify").replace("{model}", name)
        body = BODIES[route] if "{model}" in route else {**BODIES[route], "model": name}
        answer = ask("POST", path, body, headers=mine)
        said.append((answer.status_code, without_name(answer, name)))
        assert "model_not_allowed" in answer.text
    assert said[0] == said[1]
    assert said[0][0] == 403


@pytest.mark.parametrize("path", ["info", "health", "tokenizer_info"])
def test_tei_s_routes_describe_no_model_of_others(ask, kernel, path):
    mine = make(kernel)
    others, nobody = (ask("GET", f"/tei/{name}/{path}", headers=mine) for name in ("support", "nobody"))
    assert (others.status_code, without_name(others, "support")) == (403, without_name(nobody, "nobody"))
    assert ask("GET", f"/tei/minilm/{path}", headers=mine).status_code == 200


def test_a_request_without_a_model_is_for_the_key_s_own(ask, kernel):
    kernel.teach("mood", "classify")
    both = ask("POST", "/predict", {"inputs": "a"}, headers=make(kernel, models=("*",)))
    assert both.json()["detail"]["expected"] == ["support", "mood"]
    assert ask("POST", "/predict", {"inputs": "a"}, headers=make(kernel, models=("support",))).status_code == 200
    none = ask("POST", "/predict", {"inputs": "a"}, headers=make(kernel, models=("ner",)))
    assert (none.status_code, none.json()["detail"]["expected"]) == (400, [])


def test_infinity_s_word_for_no_model_is_for_the_key_s_own(ask, kernel):
    kernel.teach("mood", "classify")
    said = {"input": "a", "model": "default/not-specified"}
    answer = ask("POST", "/infinity/classify", said, headers=make(kernel, models=("support",)))
    assert (answer.status_code, answer.json()["model"]) == (200, "support:2")
    none = ask("POST", "/infinity/classify", said, headers=make(kernel, models=("ner",)))
    assert (none.status_code, none.json()["error"]["detail"]["expected"]) == (400, [])
    assert ask("POST", "/v1/classify", said, headers=make(kernel, models=("support",))).status_code == 403


def test_a_key_for_one_version_may_say_its_name(ask, kernel):
    mine = make(kernel, models=("support:2",))
    assert ask("POST", "/v1/run", {"model": "support", "input": "a"}, headers=mine).status_code == 200
    assert ask("POST", "/v1/run", {"model": "support:1", "input": "a"}, headers=mine).status_code == 403
    assert ask("GET", "/tei/support/info", headers=mine).status_code == 200


def test_feedback_on_another_s_call_is_refused_as_on_one_that_is_nowhere(ask, kernel):
    admin, mine = make(kernel, models=("*",)), make(kernel, KeyScope.FEEDBACK)
    called = ask("POST", "/v1/run", {"model": "support", "input": "a"}, headers=admin).headers["x-request-id"]
    other = f"{called[:-1]}{'0' if called[-1] != '0' else '1'}"
    said = [ask("POST", "/v1/feedback", {"call": one, "label": "x"}, headers=mine) for one in (called, other)]
    assert [one.status_code for one in said] == [404, 404]
    assert said[0].text.replace(called, "") == said[1].text.replace(other, "")
    given = ask("POST", "/v1/feedback", {"call": called, "label": "billing"}, headers=admin)
    assert given.status_code == 201


@pytest.mark.parametrize(
    ("program", "args"),
    [
        ("train", {"task": "classify", "name": "minilm-mood", "base": "minilm", "teacher": "support"}),
        ("train", {"task": "classify", "name": "mood", "base": "minilm"}),
        ("train", {"task": "classify", "name": "minilm-mood", "base": "smollm2"}),
        ("evaluate", {"model": "support"}),
        ("label-data", {"model": "support"}),
        ("queue-data", {"model": "support"}),
        ("weak-label-data", {"models": ["minilm", "support"]}),
        ("augment-data", {"writer": "smollm2"}),
        ("augment-data", {"translators": ["minilm", "smollm2"]}),
    ],
)
def test_no_process_reads_with_another_s_model(ask, kernel, program, args):
    mine = make(kernel, models=("minilm*",))
    started = {"program": program, "args": {**args, "data": "tickets@1"}}
    answer = ask("POST", "/v1/processes", started, headers=mine)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "model_not_allowed")
    if program.endswith("-data"):
        answer = ask("POST", f"/v1/datasets/tickets@1/{program.removesuffix('-data')}", args, headers=mine)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "model_not_allowed")


def test_what_is_no_model_of_the_store_is_no_model_of_others(ask, kernel):
    args = {"model": "minilm", "name": "labels", "data": "tickets@1"}
    started = {"program": "label-data", "args": args}
    assert ask("POST", "/v1/processes", started, headers=make(kernel, models=("minilm",))).status_code == 201
    args = {"task": "classify", "name": "minilm-mood", "base": "minilm", "teacher": "http://localhost:1/v1#llama"}
    started = {"program": "train", "args": {**args, "data": {"train": "tickets@1"}}}
    answer = ask("POST", "/v1/processes", started, headers=make(kernel, models=("minilm*",)))
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("what", ["result", "report", "file", "log"])
def test_what_a_process_has_found_is_read_by_keys_that_may_start_it(ask, kernel, what):
    args = {"data": "tickets@1", "model": "minilm", "disagreements": "support"}
    answer = ask("POST", "/v1/processes", {"program": "queue-data", "args": args}, headers=make(kernel, models=("*",)))
    path = f"/v1/processes/{answer.json()['pid']}/{what}"
    trains = ask("GET", path, headers=make(kernel, KeyScope.TRAIN, models=("*",)))
    assert (trains.status_code, trains.json()["error"]["code"]) == (403, "scope_missing")
    others = ask("GET", path, headers=make(kernel, KeyScope.DATA, models=("minilm",)))
    assert (others.status_code, others.json()["error"]["code"]) == (403, "model_not_allowed")
    assert ask("GET", path, headers=make(kernel, KeyScope.DATA, models=("minilm", "support"))).status_code == 200


def test_the_report_of_a_training_is_not_for_a_key_of_other_models(ask, kernel):
    args = {"task": "classify", "name": "mood", "base": "minilm", "data": {"train": "tickets@1"}}
    started = ask("POST", "/v1/processes", {"program": "train", "args": args}, headers=make(kernel, models=("*",)))
    path = f"/v1/processes/{started.json()['pid']}/report"
    assert ask("GET", path, headers=make(kernel, models=("minilm",))).status_code == 403
    assert ask("GET", path, headers=make(kernel, models=("minilm", "mood"))).status_code == 200


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_a_key_that_may_end_no_process_does_not_unload_a_base_that_others_use(ask, kernel, path):
    calls, trains = make(kernel, KeyScope.INFER, models=("*",)), make(kernel, KeyScope.INFER, KeyScope.TRAIN)
    body = {"model": "smollm2", "stream": False, "keep_alive": 0}
    refused = ask("POST", path, body, headers=calls)
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
    said = {"messages": [{"role": "user", "content": "a"}]} if path == "/api/chat" else {"prompt": "a"}
    for streamed in (False, True):
        assert ask("POST", path, {**body, **said, "stream": streamed}, headers=calls).status_code == 200
    assert kernel.calls.unloaded == []
    embedded = ask("POST", "/api/embed", {"model": "minilm", "input": "a", "keep_alive": 0}, headers=trains)
    assert (embedded.status_code, kernel.calls.unloaded) == (200, ["minilm:1"])


def test_a_key_unloads_its_own_model_of_a_base(ask, kernel):
    made = {"name": "jokes", "task": "generate", "base": "smollm2"}
    kernel.calls.engine.attach(ModelPath(kernel.models.manifests[kernel.models.add(Spec("train", made))], "/nowhere"))
    body = {"model": "jokes", "prompt": "a", "stream": False, "keep_alive": 0}
    assert ask("POST", "/api/generate", body, headers=make(kernel, KeyScope.INFER, models=("*",))).status_code == 200
    assert kernel.calls.unloaded == ["jokes:1"]
