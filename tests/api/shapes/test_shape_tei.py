"""Text Embeddings Inference's routes: of the model in the path, in the body, or the only one of the task."""

import pytest


def test_texts_are_embedded_as_a_list_of_vectors(ask):
    own = ask("POST", "/v1/tasks/embed", {"model": "minilm", "inputs": ["a", "b"]}).json()["outputs"]
    vectors = [one["vector"] for one in own]
    for path, said in (("/embed", {}), ("/tei/minilm/embed", {}), ("/embed", {"model": "minilm:1"})):
        assert ask("POST", path, {"inputs": ["a", "b"], "truncate": False, **said}).json() == vectors
    assert ask("POST", "/embed", {"inputs": "a"}).json() == vectors[:1]


def test_labels_come_best_first_for_one_text_or_for_each(ask):
    own = ask("POST", "/v1/tasks/classify", {"model": "support", "inputs": ["a", "b"]}).json()["outputs"]
    ranked = [[{"score": score, "label": label} for label, score in one["scores"].items()] for one in own]
    assert ask("POST", "/predict", {"inputs": "a", "raw_scores": False}).json() == ranked[0]
    assert ask("POST", "/predict", {"inputs": ["a"]}).json() == ranked[0]
    assert ask("POST", "/tei/support/predict", {"inputs": [["a"], ["b"]], "truncate": True}).json() == ranked


def test_texts_are_ranked_by_the_model_in_the_path(ask):
    said = {"query": "hello", "texts": ["bye", "hello"], "return_text": True}
    assert ask("POST", "/tei/minilm/rerank", said).json()[0] == {"index": 1, "score": 1.0, "text": "hello"}


def test_a_model_is_described(ask):
    info = ask("GET", "/tei/support/info").json()
    assert (info["model_id"], info["max_client_batch_size"]) == ("support:2", 2048)
    assert info["model_type"]["classifier"]["id2label"] == {"0": "billing", "1": "delivery"}
    assert ask("GET", "/info").json()["model_id"] == "minilm:1"


def test_health_is_an_empty_answer(ask):
    assert (ask("GET", "/health").status_code, ask("GET", "/health").content) == (200, b"")
    assert ask("GET", "/tei/minilm/health").status_code == 200
    assert ask("GET", "/tei/nobody/health").status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        ("/embed", {"inputs": [[1, 2], [3]]}, "inputs"),
        ("/embed", {"inputs": []}, "inputs"),
        ("/embed", {"inputs": ["a", ""]}, "inputs[1]"),
        ("/embed", {"inputs": "a", "prompt_name": "query"}, "prompt_name"),
        ("/embed", {"inputs": "a", "truncation_direction": "left"}, "truncation_direction"),
        ("/predict", {"inputs": ["a", "b"]}, "inputs"),
        ("/predict", {"inputs": [["a"], ["b", "c"]]}, "inputs[1]"),
        ("/predict", {"inputs": "a", "raw_scores": True}, "raw_scores"),
        ("/tei/minilm/rerank", {"query": "a", "documents": ["b"]}, "texts"),
    ],
)
def test_a_refusal_is_a_sentence_with_its_type_and_our_code(ask, path, body, key):
    refused = ask("POST", path, body)
    said = refused.json()
    assert (refused.status_code, said["error_type"], said["code"]) == (400, "validation", "bad_input")
    assert isinstance(said["error"], str)
    assert said["detail"]["key"] == key


def test_with_several_models_of_a_task_the_path_must_say_which(ask, kernel):
    kernel.teach("mood", "classify")
    refused = ask("POST", "/predict", {"inputs": "a"})
    assert (refused.status_code, refused.json()["detail"]["expected"]) == (400, ["support", "mood"])
    assert ask("POST", "/tei/mood/predict", {"inputs": "a"}).status_code == 200
