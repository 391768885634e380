"""Reranking in the shapes of Cohere, Jina and TEI: the same ranking under each one's names."""

import pytest

DOCUMENTS = ["We ship on Mondays.", "Returns take 14 days.", "How do I return a chair?"]
ASKED = {"model": "minilm", "query": "How do I return a chair?", "documents": DOCUMENTS}


@pytest.fixture
def ranked(ask):
    said = {"query": ASKED["query"], "documents": DOCUMENTS}
    return ask("POST", "/v1/tasks/rerank", {"model": "minilm", "input": said}).json()["outputs"][0]


@pytest.mark.parametrize(("path", "version"), [("/v1/rerank", "1"), ("/v2/rerank", "2"), ("/rerank", "")])
def test_documents_come_in_the_order_of_the_task(ask, ranked, path, version):
    answer = ask("POST", path, ASKED).json()
    assert [(one["index"], one["relevance_score"]) for one in answer["results"]] == [
        (one["index"], one["score"]) for one in ranked
    ]
    assert answer["results"][0] == {"index": 2, "relevance_score": 1.0}
    assert answer["model"] == "minilm:1"
    assert answer["meta"]["api_version"] == {"version": version}
    assert answer["usage"]["total_tokens"] == answer["meta"]["tokens"]["input_tokens"] > 0


def test_documents_are_repeated_on_request_as_they_came(ask):
    documents = [DOCUMENTS[0], {"text": DOCUMENTS[2], "title": "chairs"}]
    said = {**ASKED, "documents": documents, "return_documents": True, "top_n": 1}
    (best,) = ask("POST", "/v1/rerank", said).json()["results"]
    assert best["document"] == documents[1]


def test_texts_get_the_list_that_their_clients_read(ask, kernel, ranked):
    said = {"query": ASKED["query"], "texts": DOCUMENTS, "truncate": True, "raw_scores": False}
    answer = ask("POST", "/rerank", said)
    assert answer.json() == ranked
    with_text = ask("POST", "/rerank", {**said, "return_text": True}).json()
    assert with_text[0] == {"index": 2, "score": 1.0, "text": DOCUMENTS[2]}
    assert kernel.calls.asked[-1].params == {"raw_scores": False}


def test_a_request_without_a_model_goes_to_the_only_one_of_the_task(ask, kernel):
    kernel.teach("judge", "rerank")
    said = {key: ASKED[key] for key in ("query", "documents")}
    assert ask("POST", "/rerank", said).json()["model"] == "judge:1"
    kernel.teach("jury", "rerank")
    refused = ask("POST", "/rerank", said)
    assert (refused.status_code, refused.json()["error"]["detail"]["expected"]) == (400, ["judge", "jury"])


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"max_tokens_per_doc": 100}, "max_tokens_per_doc"),
        ({"rank_fields": ["title"]}, "rank_fields"),
        ({"texts": ["a"]}, "documents"),
        ({"documents": [{"title": "a"}]}, "documents[0]"),
        ({"documents": ["a", ""]}, "documents[1]"),
        ({"documents": []}, "documents"),
        ({"anything": 1}, "anything"),
    ],
)
def test_what_would_be_dropped_is_refused_by_its_name(ask, change, key):
    refused = ask("POST", "/v2/rerank", {**ASKED, **change})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, key)


def test_nulls_and_hints_change_nothing(ask):
    said = {**ASKED, "top_n": None, "rank_fields": None, "user": "me", "priority": 0}
    assert ask("POST", "/v1/rerank", said).json()["results"] == ask("POST", "/v1/rerank", ASKED).json()["results"]
