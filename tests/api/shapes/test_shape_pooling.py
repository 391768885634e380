"""Classification, scores and moderations in the shapes of vLLM and OpenAI."""

import pytest


@pytest.mark.parametrize("path", ["/v1/classify", "/classify"])
def test_each_text_has_its_label_and_all_shares_in_the_model_s_order(ask, path):
    answer = ask("POST", path, {"model": "support", "input": ["Where is it?", "Pay me"]}).json()
    own = ask("POST", "/v1/tasks/classify", {"model": "support", "inputs": ["Where is it?", "Pay me"]}).json()
    for one, output in zip(answer["data"], own["outputs"], strict=True):
        assert one["label"] == output["label"]
        assert one["probs"] == [output["scores"]["billing"], output["scores"]["delivery"]]
        assert one["num_classes"] == 2
    assert answer["usage"]["prompt_tokens"] == own["tokens"]["prompt"]


def test_one_text_is_scored_with_each_of_the_others(ask):
    said = {"model": "minilm", "text_1": "hello", "text_2": ["hello", "bye"]}
    scores = [one["score"] for one in ask("POST", "/v1/score", said).json()["data"]]
    pairs = [["hello", "hello"], ["hello", "bye"]]
    own = ask("POST", "/v1/tasks/similarity", {"model": "minilm", "inputs": pairs}).json()["outputs"]
    assert scores == [one["score"] for one in own]
    in_pairs = {"model": "minilm", "queries": ["hello", "hello"], "documents": ["hello", "bye"]}
    assert [one["score"] for one in ask("POST", "/score", in_pairs).json()["data"]] == scores


def test_a_reranker_scores_each_pair_by_itself(ask, kernel):
    kernel.teach("judge", "rerank")
    said = {"model": "judge", "text_1": "hello", "text_2": ["bye", "hello"]}
    scores = [one["score"] for one in ask("POST", "/v1/score", said).json()["data"]]
    assert scores[1] == 1.0 > scores[0]
    assert [one["documents"] for one in kernel.calls.asked[-1].inputs] == [["bye"], ["hello"]]


@pytest.mark.parametrize(
    ("path", "change", "key"),
    [
        ("/v1/classify", {"input": []}, "input"),
        ("/v1/classify", {"input": ["a", 1]}, "input[1]"),
        ("/v1/classify", {"input": "a", "truncate_prompt_tokens": 4}, "truncate_prompt_tokens"),
        ("/v1/classify", {"input": "a", "other": 4}, "other"),
        ("/v1/score", {"text_1": ["a", "b"], "text_2": ["a", "b", "c"]}, "text_1"),
        ("/v1/score", {"text_1": "a"}, "text_2"),
        ("/v1/score", {"text_1": "a", "queries": "b", "text_2": "c"}, "text_1"),
        ("/v1/moderations", {"input": "a"}, "safe_labels"),
        ("/v1/moderations", {"input": "a", "safe_labels": ["fine"]}, "safe_labels"),
        ("/v1/moderations", {"input": [{"type": "image_url"}], "safe_labels": []}, "input[0]"),
        ("/v1/moderations", {"input": []}, "input"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_its_name(ask, path, change, key):
    refused = ask("POST", path, {"model": "support", **change})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, key)


def test_a_text_is_flagged_by_a_label_that_is_not_safe(ask):
    said = {"model": "support", "input": ["Where is it?", "Pay me"]}
    own = ask("POST", "/v1/tasks/classify", {"model": "support", "inputs": said["input"]}).json()["outputs"]
    answer = ask("POST", "/v1/moderations", {**said, "safe_labels": ["delivery"]}).json()
    for one, output in zip(answer["results"], own, strict=True):
        assert one["flagged"] is (output["label"] == "billing")
        assert one["categories"] == {label: label == output["label"] for label in ("billing", "delivery")}
        assert one["category_scores"] == output["scores"]


def test_parts_of_text_are_one_text(ask, kernel):
    parts = [{"type": "text", "text": "Pay"}, {"type": "text", "text": "me"}]
    ask("POST", "/v1/moderations", {"model": "support", "input": parts, "safe_labels": []})
    assert kernel.calls.asked[-1].inputs == ("Pay\nme",)


@pytest.mark.parametrize("model", [{}, {"model": "minilm"}])
def test_without_a_classifier_moderation_says_what_it_needs(ask, model):
    refused = ask("POST", "/v1/moderations", {"input": "a", **model})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")
