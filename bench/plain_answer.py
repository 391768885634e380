"""An answer of so many bytes from uvicorn and nothing else: what HTTP itself costs. A peer, run as a program."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

Message = MutableMapping[str, Any]  # Any: ASGI's


def app_of(size: int) -> Callable[..., Awaitable[None]]:
    """An ASGI app that answers every request with as many bytes."""
    body = b" " * size
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % size)]

    async def app(
        scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


if __name__ == "__main__":
    port, size = map(int, sys.argv[1:])
    uvicorn.run(app_of(size), host="127.0.0.1", port=port, lifespan="off", access_log=False, log_level="warning")
