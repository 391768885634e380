"""huggingface_hub's InferenceClient against the routes of Text Embeddings Inference."""

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError


def test_texts_are_embedded(server):
    client = InferenceClient(model=f"{server.url}/tei/minilm/embed")
    made = client.feature_extraction("a parcel", normalize=True, truncate=True)
    assert made.shape == (1, 384)
    assert float((made**2).sum()) == pytest.approx(1, abs=1e-4)


def test_a_refusal_is_its_own_error(server):
    client = InferenceClient(model=f"{server.url}/tei/nothing/embed")
    with pytest.raises(HfHubHTTPError):
        client.feature_extraction("a parcel")
