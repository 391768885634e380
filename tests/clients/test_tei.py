"""Clients of Text Embeddings Inference: huggingface_hub's InferenceClient, and llama-index's two integrations."""

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference


def test_texts_are_embedded(server):
    client = InferenceClient(model=f"{server.url}/tei/minilm/embed", timeout=server.timeout_s)
    made = client.feature_extraction("a parcel", normalize=True, truncate=True)
    assert made.shape == (1, 384)
    assert float((made**2).sum()) == pytest.approx(1, abs=1e-4)


def test_a_refusal_is_its_own_error(server):
    client = InferenceClient(model=f"{server.url}/tei/nothing/embed", timeout=server.timeout_s)
    with pytest.raises(HfHubHTTPError):
        client.feature_extraction("a parcel")


def test_llama_index_embeds_texts_and_queries(server):
    client = TextEmbeddingsInference(model_name="minilm", base_url=f"{server.url}/tei/minilm", timeout=server.timeout_s)
    one, other = client.get_text_embedding_batch(["a parcel", "an invoice"])
    assert len(one) == len(other) == 384
    assert client.get_query_embedding("a parcel") == pytest.approx(one, abs=1e-6)


def test_llama_index_reranks_nodes(server):
    texts = ("We ship on Mondays.", "Returns of chairs take 14 days.", "Our office is in Oslo.")
    nodes = [NodeWithScore(node=TextNode(text=one), score=0.1) for one in texts]
    client = TextEmbeddingInference(base_url=f"{server.url}/tei/minilm", top_n=2, timeout=server.timeout_s)
    found = client.postprocess_nodes(nodes, query_str="How do I return a chair?")
    assert [one.node.text for one in found][:1] == [texts[1]]
    assert len(found) == 2
