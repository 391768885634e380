"""Clients of the HTTP API as cheap as they can be made, so that what is measured is the server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from threading import local
from urllib.parse import urlsplit

import numpy as np

from bench.stop import Stop
from llmos.abi.json_type import Json

TIMEOUT_S = 120.0


class Connection:
    """One kept-alive connection."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._connection = HTTPConnection(place.hostname or "127.0.0.1", place.port, timeout=TIMEOUT_S)

    def ask(self, method: str, path: str, body: Json = None) -> Json:
        """The answer's JSON; Stop with the daemon's own sentence if it refuses."""
        data = None if body is None else json.dumps(body).encode()
        try:
            status, text = self._exchange(method, path, data)
        except (HTTPException, OSError):  # a server closes a connection that was idle for some seconds
            self._connection.close()
            try:
                status, text = self._exchange(method, path, data)
            except (HTTPException, OSError) as error:
                raise Stop(f"{method} {path} got no answer from the daemon: {error!r}") from error
        if status >= 400:
            raise Stop(f"{method} {path} answered {status}: {text.decode()}")
        return json.loads(text or b"null")

    def _exchange(self, method: str, path: str, data: bytes | None) -> tuple[int, bytes]:
        self._connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
        response = self._connection.getresponse()
        return response.status, response.read()


class Embedder:
    """Vectors over HTTP through one of the two routes, over several connections at a time."""

    def __init__(self, url: str, texts: Sequence[str], *, openai: bool, request_texts: int, connections: int) -> None:
        self._url, self._openai = url, openai
        self._requests = [texts[s : s + request_texts] for s in range(0, len(texts), request_texts)]
        self._own = local()
        self._pool = ThreadPoolExecutor(connections)

    def run(self) -> np.ndarray:
        return np.stack([row for rows in self._pool.map(self._ask, self._requests) for row in rows])

    def _ask(self, texts: Sequence[str]) -> list[np.ndarray]:
        if not hasattr(self._own, "connection"):
            self._own.connection = Connection(self._url)
        ask = self._own.connection.ask
        if self._openai:  # base64 is what the official client asks for unless told otherwise
            body = {"model": "minilm", "input": list(texts), "encoding_format": "base64"}
            return list(_openai_rows(ask("POST", "/v1/embeddings", body)["data"]))
        answer = ask("POST", "/v1/tasks/embed", {"model": "minilm", "inputs": list(texts)})
        return [np.asarray(output["vector"], dtype=np.float32) for output in answer["outputs"]]


def _openai_rows(rows: Iterable[Json]) -> Iterable[np.ndarray]:
    for row in sorted(rows, key=lambda one: one["index"]):
        yield np.frombuffer(base64.b64decode(row["embedding"]), dtype="<f4")
