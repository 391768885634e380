"""Compression: sends large answers as gzip to clients that accept it, and inflates request bodies within a limit."""

from __future__ import annotations

import asyncio
import gzip
import zlib

from starlette.responses import Response
from starlette.types import Scope

from llmos.abi.error import BadInput, TooLong

LEAST_BYTES = 16 * 1024  # below this, compression takes longer than sending
BESIDE_BYTES = 256 * 1024  # from here on it runs in a thread, so that other calls do not wait
LEVEL = 1  # for numbers: half the bytes, in a third of the default level's time
SAMPLE_BYTES = 4096  # from the middle: it shows whether the body compresses; vectors in base64 hardly do
WORTH = 0.6  # compress only if the sample shrinks to at most this share
CODINGS = {"identity": 0, "gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
MEMBERS = 4_096  # gzip members of a body; some writers make one every 64 KiB
PIECE_BYTES = 65_536  # inflated at a time, because each member copies the input after it
MAX_RATIO = 100  # of inflated to compressed size; text has 3 to 30
FREE_BYTES = 1 << 20  # any body may inflate to this size
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


def decompress_body(sent: bytes, limit: int, *, wbits: int) -> bytes:
    """Decompress a body with all of its gzip members (RFC 1952).

    TooLong as soon as it exceeds the limit or the largest ratio, without inflating the rest.
    """
    most = min(limit, max(FREE_BYTES, MAX_RATIO * len(sent)))
    pieces: list[bytes] = []
    size, members, stream = 0, 1, zlib.decompressobj(wbits)
    for at in range(0, len(sent), PIECE_BYTES):
        rest = sent[at : at + PIECE_BYTES]
        while rest:
            if stream.eof:
                if wbits == zlib.MAX_WBITS or members == MEMBERS:
                    raise _not_compressed("goes on behind its end. Send it whole, in one stream", "trailing")
                members, stream = members + 1, zlib.decompressobj(wbits)
            try:
                pieces.append(stream.decompress(rest, most - size + 1))
            except zlib.error as error:
                raise _not_compressed(f"is not what its Content-Encoding says: {error}", "damaged") from error
            size += len(pieces[-1])
            if size > limit:
                raise too_large(size, limit)
            if size > most:
                said = f"The body inflates to more than {MAX_RATIO} times the {len(sent):,} bytes that were sent. "
                raise TooLong(said + "Send it plain", unit="bytes", size=size, limit=most, ratio=MAX_RATIO)
            rest = stream.unused_data
    if not stream.eof:
        raise _not_compressed("ends too early. Send it whole", "cut")
    return b"".join(pieces)


def _not_compressed(said: str, reason: str) -> BadInput:
    return BadInput(f"The compressed body {said}", key="content-encoding", reason=reason)


def too_large(size: int, limit: int) -> TooLong:
    """What is said of a body that is over the limit."""
    return TooLong(
        f"The body has more than {limit:,} bytes. Send fewer inputs at a time, or raise max_body_bytes",
        size=size,
        limit=limit,
    )
