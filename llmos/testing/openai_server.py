"""A small server in the shape of vLLM's: the same command line, the same routes, answers made of hashes. For tests.

python -m llmos.testing.openai_server serve FOLDER --host 127.0.0.1 --port 8000 --served-model-name talk:1
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from llmos.abi.json_type import Json

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
KNOWN = {
    "model",
    "prompt",
    "stream",
    "stream_options",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "stop",
    "seed",
    "logit_bias",
    "logprobs",
    "structured_outputs",
    "cache_salt",
}


class Handler(BaseHTTPRequestHandler):
    """Answers /health and /v1/completions, streamed."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a kept connection would otherwise wait for delayed acknowledgements
    model = ""
    key = ""

    def do_GET(self) -> None:
        self._reply(200 if self.path == "/health" else 404, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers.get("Authorization") != f"Bearer {self.key}":
            return self._reply(401, {"error": {"message": "Unauthorized"}})
        if why := self._fault(body):
            return self._reply(400, {"error": {"message": why, "type": "BadRequestError", "code": 400}})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            self._stream(body)
        except OSError:  # whoever asked has left
            return None
        return None

    def _fault(self, body: Json) -> str:
        if self.path != "/v1/completions":
            return f"no route {self.path}"
        if body.get("model") != self.model:
            return f"The model {body.get('model')} does not exist"
        if unknown := body.keys() - KNOWN:
            return f"Unknown fields: {sorted(unknown)}"
        rule = body.get("structured_outputs")
        return "the pattern is not valid" if rule is not None and rule.get("regex") == "[" else ""

    def _stream(self, body: Json) -> None:
        made, text = 0, ""
        for word in words(body):
            made += 1
            piece = word if made == 1 else f" {word}"
            found = [at for stop in body.get("stop", ()) if (at := (text + piece).find(stop)) >= 0]
            if found:
                self._say(body, (text + piece)[len(text) : min(found)], "stop")
                break
            text += piece
            self._say(body, piece, None)
        else:
            self._say(body, "", "length")
        prompt = len(body["prompt"])
        self._event({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": made}})
        self.wfile.write(b"data: [DONE]\n\n")

    def _say(self, body: Json, piece: str, reason: str | None) -> None:
        columns = None
        if body.get("logprobs") is not None and piece:
            top = {piece: -0.5} if body["logprobs"] else None
            columns = {"tokens": [piece], "token_logprobs": [-0.5], "top_logprobs": [top], "text_offset": [0]}
        choice = {"index": 0, "text": piece, "logprobs": columns, "finish_reason": reason}
        self._event({"id": "cmpl-1", "object": "text_completion", "choices": [choice], "usage": None})

    def _event(self, event: Json) -> None:
        self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        self.wfile.flush()

    def _reply(self, status: int, body: Json) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # Any: as http.server has it
        """It keeps quiet: its standard error is a test's."""


def words(body: Json) -> Sequence[str]:
    """What is answered: hashes of prompt and seed, as long as was asked."""
    start = json.dumps([body["prompt"], body.get("seed") if body["temperature"] else None])
    digest = hashlib.blake2b(start.encode(), digest_size=32).digest()
    return [WORDS[digest[i % len(digest)] % len(WORDS)] for i in range(body["max_tokens"])]


def main(arguments: Sequence[str]) -> None:
    """Serve until ended; a folder without config.json ends it at once, as wrong weights would."""
    parser = argparse.ArgumentParser(prog="openai_server")
    parser.add_argument("verb", choices=["serve"])
    parser.add_argument("folder", type=Path)
    for name in (
        "host",
        "port",
        "served-model-name",
        "dtype",
        "max-model-len",
        "max-num-seqs",
        "kv-cache-memory-bytes",
    ):
        parser.add_argument(f"--{name}")
    given = parser.parse_args(arguments)
    if not (given.folder / "config.json").exists():
        sys.exit(f"{given.folder} has no config.json")
    Handler.model, Handler.key = given.served_model_name, os.environ.get("VLLM_API_KEY", "")
    ThreadingHTTPServer((given.host, int(given.port)), Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
