"""A small server in the shape of OpenAI's chat completions, whose answers and failures a test decides."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from llmos.abi.json_type import Json

Answer = Callable[[Json], tuple[int, Json]]
"""From the body of a request to a status and the body of its answer."""


@dataclass(slots=True)
class ChatServer:
    """A running server: its address, and the requests that it has had, as bodies with their authorization."""

    url: str = ""
    requests: list[tuple[str, Json]] = field(default_factory=list)


def completion(text: str, *logprobs: float) -> Json:
    """The body of an answer; with the log-probabilities of its tokens, if there are some."""
    scored = {"logprobs": {"content": [{"token": text, "logprob": one} for one in logprobs]}} if logprobs else {}
    return {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop", **scored}]}


@contextmanager
def chat_server(answer: Answer) -> Iterator[ChatServer]:
    """Serve on a free port of this machine until the block ends."""
    state = ChatServer()

    class ChatHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.requests.append((self.headers.get("Authorization") or "", body))
            status, said = answer(body) if self.path == "/v1/chat/completions" else (404, {})
            data = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: a test reads `requests`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), ChatHandler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
