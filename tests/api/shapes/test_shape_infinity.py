"""Infinity's interface: what its own client sends and insists on, and what of it is refused."""

import base64
import struct

import pytest

UNNAMED = {"model": "default/not-specified"}
CHAIR = {"query": "How do I return a chair?", "documents": ["We ship on Mondays.", "Returns of chairs take 14 days."]}


def test_texts_are_embedded_as_its_client_asks(ask):
    said = {"input": ["a", "b"], "dimensions": 0, "modality": "text", **UNNAMED}
    own = ask("POST", "/v1/tasks/embed", {"model": "minilm", "inputs": ["a", "b"]}).json()["outputs"]
    made = ask("POST", "/infinity/embeddings", said).json()
    assert [one["embedding"] for one in made["data"]] == [one["vector"] for one in own]
    assert [(one["object"], one["index"]) for one in made["data"]] == [("embedding", 0), ("embedding", 1)]
    assert (made["object"], made["model"], made["usage"]["total_tokens"]) == ("list", "minilm:1", 2)
    packed = ask("POST", "/infinity/embeddings", {**said, "encoding_format": "base64"}).json()["data"][0]["embedding"]
    assert struct.unpack(f"<{len(own[0]['vector'])}f", base64.b64decode(packed)) == pytest.approx(own[0]["vector"])


def test_documents_come_ranked_and_as_texts(ask):
    own = ask("POST", "/v1/tasks/rerank", {"model": "minilm", "input": CHAIR}).json()["outputs"][0]
    said = {**CHAIR, **UNNAMED, "return_documents": True, "raw_scores": False}
    made = ask("POST", "/infinity/rerank", said).json()
    assert [(one["index"], one["relevance_score"]) for one in made["results"]] == [
        (one["index"], one["score"]) for one in own
    ]
    assert [one["document"] for one in made["results"]] == [CHAIR["documents"][one["index"]] for one in own]
    assert (made["object"], made["model"]) == ("rerank", "minilm:1")
    assert "document" not in ask("POST", "/infinity/rerank", {**CHAIR, "model": "minilm"}).json()["results"][0]


def test_texts_are_classified_with_all_labels(ask):
    own = ask("POST", "/v1/tasks/classify", {"model": "support", "inputs": ["a", "b"]}).json()["outputs"]
    made = ask("POST", "/infinity/classify", {"input": ["a", "b"], "raw_scores": False, **UNNAMED}).json()
    assert [{one["label"]: one["score"] for one in each} for each in made["data"]] == [one["scores"] for one in own]
    assert (made["object"], made["model"]) == ("classify", "support:2")


def test_models_and_health_are_as_its_client_insists(ask):
    models = {one["id"]: one for one in ask("GET", "/infinity/models").json()["data"]}
    assert models["minilm"]["capabilities"] == ["embed", "rerank", "classify"]
    assert models["support"]["capabilities"] == ["classify"]
    assert "smollm2" not in models
    assert {(one["object"], one["owned_by"]) for one in models.values()} == {("model", "infinity")}
    assert ask("GET", "/infinity/health").json()["unix"] > 0


@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        ("embeddings", {"input": [], **UNNAMED}, "input"),
        ("embeddings", {"input": [[1, 2]], **UNNAMED}, "input"),
        ("embeddings", {"input": "a", "modality": "image"}, "modality"),
        ("embeddings", {"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ("classify", {"input": ["a", 3]}, "input[1]"),
        ("classify", {"input": "a", "raw_scores": True}, "raw_scores"),
        ("rerank", {"query": "a"}, "documents"),
    ],
)
def test_what_is_not_done_is_refused_by_its_name(ask, path, body, key):
    refused = ask("POST", f"/infinity/{path}", body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, key)
