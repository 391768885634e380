"""cohere, in both versions of its interface, and langchain-cohere: reranking."""

import cohere
import pytest
from langchain_cohere import CohereRerank
from langchain_core.documents import Document

CHAIR = "How do I return a chair?"
DOCUMENTS = ["We ship on Mondays.", "Returns of chairs take 14 days.", "Our office is in Oslo."]


def test_the_first_version_ranks_and_repeats_documents(server):
    client = cohere.Client(api_key="none", base_url=server.url, timeout=server.timeout_s)
    made = client.rerank(model="minilm", query=CHAIR, documents=DOCUMENTS, top_n=2, return_documents=True)
    assert made.results[0].index == 1
    assert made.results[0].document.text == DOCUMENTS[1]
    assert len(made.results) == 2
    assert made.results[0].relevance_score > made.results[1].relevance_score
    assert made.meta.tokens.input_tokens > 0


def test_the_second_version_ranks(server):
    client = cohere.ClientV2(api_key="none", base_url=server.url, timeout=server.timeout_s)
    made = client.rerank(model="minilm", query=CHAIR, documents=DOCUMENTS)
    assert sorted(one.index for one in made.results) == [0, 1, 2]
    assert made.results[0].index == 1
    assert made.meta.api_version.version == "2"


def test_what_is_not_supported_is_an_error_of_its_own(server):
    client = cohere.ClientV2(api_key="none", base_url=server.url, timeout=server.timeout_s)
    with pytest.raises(cohere.BadRequestError) as caught:
        client.rerank(model="minilm", query=CHAIR, documents=DOCUMENTS, max_tokens_per_doc=10)
    assert caught.value.body["error"]["param"] == "max_tokens_per_doc"
    with pytest.raises(cohere.NotFoundError):
        client.rerank(model="nothing", query=CHAIR, documents=DOCUMENTS)


def test_langchain_compresses_documents(server):
    ranker = CohereRerank(
        client=cohere.ClientV2(api_key="none", base_url=server.url, timeout=server.timeout_s), model="minilm", top_n=1
    )
    (best,) = ranker.compress_documents([Document(page_content=one) for one in DOCUMENTS], CHAIR)
    assert best.page_content == DOCUMENTS[1]
    assert best.metadata["relevance_score"] > 0
