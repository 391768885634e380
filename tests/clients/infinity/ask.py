"""Asks the daemon at argv[1] by infinity_client, and prints what it understood as JSON: for test_infinity.py.

argv[2] is the client's own limit for a request, in seconds.
"""

from __future__ import annotations

import json
import sys

from infinity_client import Client
from infinity_client.api.default import classify, embeddings, health, models, rerank
from infinity_client.errors import UnexpectedStatus
from infinity_client.models import ClassifyInput, OpenAIEmbeddingInputText, RerankInput

client = Client(base_url=f"{sys.argv[1]}/infinity", timeout=float(sys.argv[2]), raise_on_unexpected_status=True)
CHAIR = ("How do I return a chair?", ["We ship on Mondays.", "Returns of chairs take 14 days.", "We are in Oslo."])


def refusal() -> int:
    try:
        embeddings.sync(client=client, body=OpenAIEmbeddingInputText(input_=["a"], model="nothing"))
    except UnexpectedStatus as error:
        return int(error.status_code)
    return 200


vectors = embeddings.sync(
    client=client, body=OpenAIEmbeddingInputText(input_=["a parcel", "an invoice"], model="minilm")
)
ranked = rerank.sync(client=client, body=RerankInput(*CHAIR, model="minilm", top_n=2, return_documents=True))
labels = classify.sync(client=client, body=ClassifyInput(input_=["Where is my parcel?"], model="tickets"))
listed = models.sync(client=client)
said = {
    "sizes": [len(one.embedding) for one in vectors.data],
    "tokens": vectors.usage.total_tokens,
    "ranked": [[one.index, one.document] for one in ranked.results],
    "labels": {one.label: one.score for one in labels.data[0]},
    "models": {one.id: one.capabilities for one in listed.data},
    "is_healthy": health.sync(client=client)["unix"] > 0,
    "refused": refusal(),
}
print(json.dumps(said))
