"""Compression: large answers are sent as gzip to clients that accept it."""

from __future__ import annotations

import asyncio
import gzip
import zlib

from starlette.responses import Response
from starlette.types import Scope

LEAST_BYTES = 16 * 1024  # below this, compression takes longer than sending
BESIDE_BYTES = 256 * 1024  # from here on it runs in a thread, so that other calls do not wait
LEVEL = 1  # for numbers: half the bytes, in a third of the default level's time
SAMPLE_BYTES = 4096  # from the middle: it shows whether the body compresses; vectors in base64 hardly do
WORTH = 0.6  # compress only if the sample shrinks to at most this share
MEDIA = ("application/json", "text/")


async def compress_answer(answer: Response, scope: Scope) -> Response:
    """The response with its body in gzip if it is large, compressible, and the client accepts gzip."""
    body = bytes(answer.body)
    media = answer.headers.get("content-type", "")
    if len(body) < LEAST_BYTES or not media.startswith(MEDIA) or not _reads_gzip(scope):
        return answer
    sample = body[len(body) // 2 :][:SAMPLE_BYTES]
    if len(zlib.compress(sample, LEVEL)) > WORTH * len(sample):
        return answer
    if len(body) < BESIDE_BYTES:
        smaller = gzip.compress(body, LEVEL, mtime=0)
    else:
        smaller = await asyncio.to_thread(gzip.compress, body, LEVEL, mtime=0)
    said = {"content-encoding": "gzip", "vary": "accept-encoding", "content-length": str(len(smaller))}
    headers = {**answer.headers, **said}
    return Response(smaller, answer.status_code, headers)


def _reads_gzip(scope: Scope) -> bool:
    """Whether Accept-Encoding names gzip (or everything) with a weight above zero."""
    for name, value in scope["headers"]:
        if name == b"accept-encoding":
            for word in value.decode("latin-1").lower().split(","):
                coding, _, weight = word.partition(";")
                if coding.strip() in ("gzip", "x-gzip", "*"):
                    return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
