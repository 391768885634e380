"""`capabilities` of /v1/models over HTTP: each that is listed is answered, and whatever else is refused."""

import pytest

from llmos.abi.capability import ZERO_SHOT
from llmos.abi.engine import ALL
from llmos.abi.task import BUILT_IN

INPUTS = {
    "answer": {"question": "who?", "passage": "ada did"},
    "rerank": {"query": "who?", "documents": ["ada", "bob"]},
    "similarity": {"text": "one", "other": "two"},
}
LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
CALLING = {"messages": [{"role": "user", "content": "hi"}], "tools": [LOOK], "tool_choice": "required"}
ASKED = {
    "stream": {"stream": True},
    "logprobs": {"params": {"logprobs": True}},
    "json_schema": {"params": {"json_schema": {"type": "object"}}},
    "regex": {"params": {"regex": "a|b"}},
    "grammar": {"params": {"grammar": 'start: "a"'}},
    "tools": {"input": CALLING},
}


@pytest.mark.parametrize("model", ["minilm", "smollm2", "support", "ner"])
def test_a_model_answers_what_it_is_listed_with_and_refuses_the_rest(ask, model):
    found = ask("GET", f"/v1/models/{model}").json()
    said = found["capabilities"]
    listed = next(one for one in ask("GET", "/v1/models").json()["data"] if one["id"] == model)
    assert listed["capabilities"] == said
    labels = {} if found["labels"] else {"labels": ["good", "bad"]}

    def takes(one):
        if one in BUILT_IN:
            task, body = one, {"params": labels} if one == "classify" else {}
        elif one == ZERO_SHOT:
            task, body = "classify", {"params": {"labels": ["good", "bad"]}}
        else:
            task, body = found["task"], ASKED[one]
        answer = ask("POST", f"/v1/tasks/{task}", {"model": model, "input": INPUTS.get(task, "hi")} | body)
        assert answer.status_code in (200, 400)
        return answer.status_code == 200

    asked = [*BUILT_IN, ZERO_SHOT, *ALL]
    assert {one: takes(one) for one in asked} == {one: one in said for one in asked}
