"""The server that many write: sentence-transformers behind FastAPI. A peer, run as `python -m bench.plain_server`.

It gives what it can: base64 where it is asked for, the dtype and batch size that a trial found fastest, and no check of
its own answers.
"""

from __future__ import annotations

import base64
import sys
from threading import Lock
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer


class Asked(BaseModel):
    """OpenAI's body."""

    model: str
    input: list[str]
    encoding_format: str = "float"


def app_of(base: str, dtype: str, batch: int) -> FastAPI:
    """One model, one route. Its endpoint is a plain function, which FastAPI runs in a thread."""
    body = Transformer(base, model_kwargs={"dtype": getattr(torch, dtype)}, max_seq_length=512)
    modules = [body, Pooling(body.get_embedding_dimension(), "mean"), Normalize()]
    model, one_at_a_time = SentenceTransformer(modules=modules, device="cpu"), Lock()
    app = FastAPI()

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/v1/embeddings")
    def embed(asked: Asked) -> JSONResponse:
        with one_at_a_time:  # threads that compute at once would only fight for the cores
            vectors = model.encode(asked.input, batch_size=batch, show_progress_bar=False)
        is_text = asked.encoding_format == "base64"
        rows: list[dict[str, Any]] = [  # Any: JSON
            {
                "index": i,
                "embedding": base64.b64encode(one.astype("<f4").tobytes()).decode() if is_text else one.tolist(),
            }
            for i, one in enumerate(vectors)
        ]
        return JSONResponse({"object": "list", "model": asked.model, "data": rows})

    return app


if __name__ == "__main__":
    base, port, dtype, batch = sys.argv[1:]
    uvicorn.run(app_of(base, dtype, int(batch)), host="127.0.0.1", port=int(port), log_level="warning")
