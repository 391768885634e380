"""Feedback over HTTP: on a call or on an input, checked against the model, durable, erased by user."""

import asyncio

import pytest

from llmos.abi.feedback import FeedbackRow


def call(ask, text="where is my parcel", **body):
    answer = ask("POST", "/v1/run", {"model": "support", "input": text, **body})
    return answer.headers["x-request-id"], answer.json()["outputs"][0]["label"]


def give(ask, **body):
    return ask("POST", "/v1/feedback", body)


def refused(answer):
    return answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["param"]


def test_feedback_on_a_call_has_its_provenance(ask):
    call_id, said = call(ask, user="cat")
    row = give(ask, call=call_id, label="billing", user="ann")
    assert row.status_code == 201
    found = row.json()
    assert (found["model"], found["ref"], found["task"], found["call"]) == ("support", "support:2", "classify", call_id)
    assert (found["kind"], found["value"], found["answer"]) == ("label", "billing", said)
    assert (found["by"], found["user"], found["source"], found["input"]) == (
        "ann", "cat", "person", {"text": "where is my parcel"},
    )  # fmt: skip
    assert found["at"] > 0


def test_feedback_on_an_input_finds_the_answer_that_was_given_to_it(ask):
    _, said = call(ask)
    found = give(ask, model="support", input="where is my parcel", label="billing").json()
    assert (found["answer"], found["call"]) == (said, "")
    other = give(ask, model="support", input="something else", label="billing").json()
    assert (other["answer"], other["ref"]) == (None, "support:2")


def test_later_feedback_on_a_call_replaces_the_earlier(ask):
    call_id, _ = call(ask)
    give(ask, call=call_id, label="billing")
    give(ask, call=call_id, label="delivery")
    assert [one["value"] for one in ask("GET", "/v1/feedback").json()["data"]] == ["delivery"]


def test_a_call_of_several_inputs_needs_an_index(ask):
    answer = ask("POST", "/v1/run", {"model": "support", "inputs": ["a", "b"]})
    call_id = answer.headers["x-request-id"]
    assert refused(give(ask, call=call_id, label="billing"))[2] == "index"
    assert refused(give(ask, call=call_id, index=2, label="billing"))[2] == "index"
    assert give(ask, call=call_id, index=1, label="billing").json()["input"] == {"text": "b"}


def test_a_call_whose_text_is_gone_says_what_to_send(ask, kernel):
    call_id, _ = call(ask, store=False)
    answer = give(ask, call=call_id, label="billing")
    assert refused(answer)[:2] == (404, "not_found")
    assert "`input`" in answer.json()["error"]["message"]
    assert give(ask, call="42", label="billing").status_code == 404


def test_the_request_log_remembers_what_memory_does_not(kernel, request):
    kernel.settings |= {"recent_calls_bytes": 0, "request_log": "all", "request_log_text": True}
    ask = request.getfixturevalue("ask")
    call_id, said = call(ask)
    assert give(ask, call=call_id, label="billing").json()["answer"] == said


def test_a_label_that_the_model_does_not_have_is_refused_with_the_nearest(ask):
    answer = give(ask, model="support", input="a", label="biling")
    assert refused(answer) == (400, "unknown_label", "label")
    assert answer.json()["error"]["detail"]["near"] == ["billing"]
    assert give(ask, model="support", input="a", label="refund", new_label=True).json()["value"] == "refund"


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({}, "call"),
        ({"model": "support"}, "input"),
        ({"model": "support", "input": "a"}, "label"),
        ({"model": "support", "input": "a", "label": "billing", "text": "b"}, "label"),
        ({"model": "support", "input": "a", "score": 1}, "label"),
        ({"model": "support", "input": "a", "label": ["billing", "delivery"]}, "label"),
        ({"model": "support", "input": "a", "label": 3}, "label"),
        ({"model": "support", "input": "a", "label": ""}, "label"),
        ({"model": "support", "input": "a", "label": []}, "label"),
        ({"model": "support", "input": "a", "label": [{"label": "billing"}], "new_label": True}, "label"),
        ({"model": "ner", "input": "Ada", "label": "PER"}, "label"),
        ({"model": "ner", "input": "Ada", "label": [{"a": 1}]}, "label"),
        ({"model": "ner", "input": "Ada", "label": [{"start": 0, "end": 4, "label": "PER"}]}, "label"),
        ({"model": "ner", "input": "Ada", "label": [{"start": -1, "end": 3, "label": "PER"}]}, "label"),
        ({"model": "ner", "input": "Ada", "label": [{"start": 2, "end": 2, "label": "PER"}]}, "label"),
        ({"model": "ner", "input": "Ada", "label": [{"start": 0, "end": True, "label": "PER"}]}, "label"),
        ({"model": "ner", "input": "Ada", "label": [{"start": 0, "end": 3, "label": "PER"}] * 2}, "label"),
        ({"model": "ner", "input": "Ada", "label": [{"start": 0, "end": 3, "label": "ORG"}]}, "label"),
        ({"model": "minilm", "input": "a", "label": "billing"}, "model"),
        ({"model": "smollm2", "input": "a", "label": "billing"}, "text"),
        ({"model": "support", "input": "a", "label": "billing", "source": "oracle"}, "source"),
        ({"call": "req_1", "input": "a", "label": "billing"}, "call"),
    ],
)
def test_what_cannot_be_said_is_refused_with_its_field(ask, body, key):
    answer = give(ask, **body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, key)


@pytest.mark.parametrize("said", [{"source": "model"}, {"user": "model"}, {"user": " Model "}])
def test_what_a_model_says_is_no_feedback(ask, said):
    assert refused(give(ask, model="support", input="a", label="billing", **said))[:2] == (400, "own_answer")
    assert ask("GET", "/v1/feedback").json()["data"] == []


def test_an_input_that_the_task_does_not_take_is_refused(ask):
    assert give(ask, model="support", input={"question": 1}, label="billing").status_code == 400


def test_the_answer_of_a_chat_may_be_corrected_and_rated(ask):
    body = {"model": "smollm2", "messages": [{"role": "user", "content": "hello"}]}
    call_id = ask("POST", "/v1/chat/completions", body).headers["x-request-id"]
    row = give(ask, call=call_id, text="Hello!").json()
    assert (row["kind"], row["task"]) == ("text", "chat")
    assert give(ask, call=call_id, score=-1).json()["answer"] == row["answer"]  # what is rated
    assert len(ask("GET", "/v1/feedback?model=smollm2").json()["data"]) == 2


def test_rows_are_listed_and_erased_by_user(ask):
    give(ask, model="support", input="a", label="billing", user="ann")
    give(ask, model="support", input="b", label="billing", user="bob")
    assert [one["by"] for one in ask("GET", "/v1/feedback?user=ann").json()["data"]] == ["ann"]
    assert ask("DELETE", "/v1/feedback?user=ann").json() == {"erased": 1}
    assert [one["by"] for one in ask("GET", "/v1/feedback").json()["data"]] == ["bob"]
    assert ask("DELETE", "/v1/feedback").status_code == 400


def test_a_row_that_cannot_be_written_is_not_acknowledged(ask, kernel):
    kernel.feedback.path.parent.parent.mkdir(exist_ok=True, parents=True)
    kernel.feedback.path.parent.write_text("a file where the folder should be")
    answer = give(ask, model="support", input="a", label="billing")
    assert refused(answer)[:2] == (503, "feedback_lost")


def test_an_order_to_learn_is_given_shown_and_ended(ask):
    path = "/v1/models/support/learning"
    assert ask("POST", path, {"when": "200 rows"}).json()["rows"] == 200
    assert ask("GET", path).json()["when"] == "200 rows"
    assert ask("DELETE", path).json()["when"] == ""
    assert ask("POST", path, {"when": "200 rows or drift"}).json()["when"] == "200 rows or drift"
    assert ask("POST", path, {"when": "drift"}).json()["error"]["param"] == "when"
    assert ask("POST", path, {"when": "200 rows", "from": "dreams"}).json()["error"]["param"] == "from"
    assert ask("GET", "/v1/models/nobody/learning").status_code == 404


def test_many_rows_at_once_are_all_kept(kernel):
    row = FeedbackRow(0, 0.0, "support", "classify", {"text": "a"}, "label", "billing", "t")

    async def give_all():
        return await asyncio.gather(*(kernel.feedback.add(row) for _ in range(300)))

    assert sorted(one.id for one in asyncio.run(give_all())) == list(range(1, 301))


def test_feedback_scores_the_version_that_answered(ask, kernel):
    call_id, said = call(ask)
    give(ask, call=call_id, label=said)
    other, said = call(ask, "another text")
    give(ask, call=other, label=next(one for one in ("billing", "delivery") if one != said))
    give(ask, model="support", input="another text", label=said)
    assert kernel.rollouts.scores == [("support", 2, 1.0), ("support", 2, 0.0), ("support", 2, 1.0)]
    give(ask, model="support", input="nobody has asked this", label=said)
    assert len(kernel.rollouts.scores) == 3


def test_a_rating_of_a_text_is_a_score_from_0_to_1_alone(ask, kernel):
    kernel.teach("writer", "generate")
    answer = ask("POST", "/v1/run", {"model": "writer", "input": "Say hello."})
    call_id, text = answer.headers["x-request-id"], answer.json()["outputs"][0]["text"]
    for body in ({"score": 0.25}, {"score": 4.0}, {"text": text}, {"text": f"{text} and more"}):
        assert give(ask, call=call_id, **body).status_code == 201
    assert kernel.rollouts.scores == [("writer", 1, 0.25), ("writer", 1, 1.0), ("writer", 1, 0.0)]


def test_spans_are_kept_in_order_with_their_places_and_labels_alone(ask):
    text = "Ada met Alan"
    spans = [{"start": 8, "end": 12, "label": " PER", "text": "Alan"}, {"start": 0, "end": 3, "label": "PER"}]
    kept = [{"start": 0, "end": 3, "label": "PER"}, {"start": 8, "end": 12, "label": "PER"}]
    assert give(ask, model="ner", input=text, label=spans).json()["value"] == kept
    assert give(ask, model="ner", input=text, label=[]).json()["value"] == []
    new = [{"start": 0, "end": 3, "label": "ORG"}]
    assert give(ask, model="ner", input=text, label=new, new_label=True).json()["value"] == new
