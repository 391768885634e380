"""Many calls over kept connections, each busy all the time: bytes in, bytes out, as little else as may be."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

from bench.stop import Stop


def request(
    method: str,
    path: str,
    body: dict[str, Any] | None = None,  # Any: a body in JSON
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """A whole request of HTTP/1.1, as it is sent."""
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *(f"{name}: {it}" for name, it in (headers or {}).items())]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    return "\r\n".join((*lines, "", "")).encode() + data


async def hammer(port: int, request: bytes, connections: int, calls: int) -> list[float]:
    """Seconds of each call, all connections together making so many."""
    took_s: list[float] = []
    left = iter(range(calls))

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in left:
            start = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            body = await reader.readexactly(length)
            took_s.append(time.perf_counter() - start)
            if not head.startswith(b"HTTP/1.1 200"):
                raise Stop(f"The daemon refuses: {body.decode()}")
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(one() for _ in range(connections)))
    return took_s
