"""A daemon that asks for a key: how each client sends one, and its own exception for a wrong one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import anthropic
import cohere
import httpx
import litellm
import ollama
import openai
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

WRONG = "llmos_00000000_" + "A" * 43
TWO = ["We ship on Mondays.", "Returns of chairs take 14 days."]
CHAIR = {"model": "minilm", "query": "How do I return a chair?", "documents": TWO}
INFINITY = """
import sys
from infinity_client import AuthenticatedClient
from infinity_client.api.default import models
client = AuthenticatedClient(base_url=f"{sys.argv[1]}/infinity", token=sys.argv[2], raise_on_unexpected_status=True)
print(len(models.sync(client=client).data))
"""


def _ask(server, method, path, key=None, body=None):
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(f"{server.v1}{path}", data, headers, method=method), timeout=server.timeout_s) as answer:
        return json.loads(answer.read() or b"null")


@pytest.fixture(scope="module")
def key(server):
    """A key for calls. Another, which made it, ends both: then the daemon asks for none again."""
    owner = _ask(server, "POST", "/keys", body={"name": "owner", "scopes": ["admin"]})["secret"]
    try:
        yield _ask(server, "POST", "/keys", owner, {"name": "clients", "scopes": ["infer"]})["secret"]
    finally:
        for one in sorted(_ask(server, "GET", "/keys", owner)["data"], key=lambda one: one["name"] == "owner"):
            _ask(server, "DELETE", f"/keys/{one['id']}", owner)


def _openai(server, key):
    with openai.OpenAI(base_url=server.v1, api_key=key, max_retries=0, timeout=server.timeout_s) as client:
        return client.embeddings.create(model="minilm", input="a").data


def _anthropic(server, key):
    with anthropic.Anthropic(base_url=server.url, api_key=key, max_retries=0, timeout=server.timeout_s) as client:
        return client.messages.count_tokens(model="smollm2", messages=[{"role": "user", "content": "a"}]).input_tokens


def _ollama(server, key):
    client = ollama.Client(server.url, headers={"Authorization": f"Bearer {key}"}, timeout=server.timeout_s)
    return client.embed(model="minilm", input="a").embeddings


def _cohere(server, key):
    return cohere.ClientV2(api_key=key, base_url=server.url, timeout=server.timeout_s).rerank(**CHAIR).results


def _hub(server, key):
    client = InferenceClient(model=f"{server.url}/tei/minilm/embed", token=key, timeout=server.timeout_s)
    return client.feature_extraction("a").size


def _embedding_of_llama_index(server, key):
    where = {"base_url": f"{server.url}/tei/minilm", "auth_token": key, "timeout": server.timeout_s}
    return TextEmbeddingsInference(model_name="minilm", **where).get_query_embedding("a")


def _rerank_of_llama_index(server, key):
    where = {"base_url": f"{server.url}/tei/minilm", "auth_token": f"Bearer {key}", "timeout": server.timeout_s}
    nodes = [NodeWithScore(node=TextNode(text=one), score=0.1) for one in TWO]
    return TextEmbeddingInference(top_n=1, **where).postprocess_nodes(nodes, query_str=CHAIR["query"])


def _rerank_of_litellm(provider, path):
    def ask(server, key):
        said = {"return_documents": False} if provider == "infinity" else {}
        where = {"api_base": f"{server.url}{path}", "api_key": key, "timeout": server.timeout_s}
        return litellm.rerank(**{**CHAIR, "model": f"{provider}/minilm"}, **where, **said).results

    return ask


def _infinity(server, key):
    environ = os.environ | {"PYTHONPATH": str(Path(os.environ["LLMOS_CLIENTS_INFINITY"]))}
    command = [sys.executable, "-c", INFINITY, server.url, key]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=server.timeout_s)
    if done.returncode:
        raise PermissionError(done.stderr.strip().rpartition("\n")[2])
    return done.stdout


@pytest.mark.parametrize(
    ("ask", "refusal"),
    [
        pytest.param(_openai, openai.AuthenticationError, id="openai"),
        pytest.param(_anthropic, anthropic.AuthenticationError, id="anthropic"),
        pytest.param(_ollama, ollama.ResponseError, id="ollama"),
        pytest.param(_cohere, cohere.UnauthorizedError, id="cohere"),
        pytest.param(_hub, HfHubHTTPError, id="huggingface_hub"),
        pytest.param(_embedding_of_llama_index, Exception, id="llama-index-embeddings"),
        pytest.param(_rerank_of_llama_index, Exception, id="llama-index-rerank"),
        pytest.param(_infinity, PermissionError, id="infinity_client"),
        pytest.param(_rerank_of_litellm("cohere", "/v2/rerank"), litellm.AuthenticationError, id="litellm-cohere"),
        pytest.param(_rerank_of_litellm("jina_ai", "/v1/rerank"), litellm.AuthenticationError, id="litellm-jina"),
        pytest.param(_rerank_of_litellm("hosted_vllm", ""), litellm.AuthenticationError, id="litellm-vllm"),
        pytest.param(_rerank_of_litellm("huggingface", "/tei/minilm"), Exception, id="litellm-tei"),
        pytest.param(_rerank_of_litellm("infinity", ""), litellm.AuthenticationError, id="litellm-infinity"),
    ],
)
def test_a_client_sends_its_key_and_a_wrong_one_is_its_own_error(server, key, ask, refusal):
    assert ask(server, key)
    with pytest.raises(refusal):
        ask(server, WRONG)


def test_a_refused_key_is_a_sentence_for_ollama_s_client(server, key):
    with pytest.raises(ollama.ResponseError) as caught:
        _ollama(server, WRONG)
    assert caught.value.status_code == 401
    assert isinstance(caught.value.error, str)
    with pytest.raises(ollama.ResponseError) as caught:
        ollama.Client(server.url, headers={"Authorization": f"Bearer {key}"}).pull("smollm2")
    assert "/api/pull" in caught.value.error
    assert httpx.get(f"{server.url}/api/tags").status_code == 401
