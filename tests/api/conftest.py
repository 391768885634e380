"""One app around a kernel in memory, and a way to ask it."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from llmos.api.app import create_app
from llmos.config import Config
from llmos.testing.kernel import MemoryKernel

LIMIT_BYTES = 4096


class App:
    """Asks the app in this process; every request has its own event loop."""

    def __init__(self, kernel):
        self.kernel = kernel
        self.app = create_app(kernel, Config(Path("/nowhere"), max_body_bytes=LIMIT_BYTES))

    def __call__(self, method, path, body=None, **options):
        key = "content" if isinstance(body, bytes) else "json"
        return asyncio.run(self._ask(method, path, **({} if body is None else {key: body}), **options))

    async def _ask(self, method, path, **options):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://localhost") as client:
            return await client.request(method, path, **options)


def pieces(answer):
    """The data of each server-sent event of an answer."""
    blocks = [block for block in answer.text.split("\n\n") if block]
    return [json.loads(block.partition("data: ")[2]) for block in blocks]


@pytest.fixture
def events():
    return pieces


@pytest.fixture
def leave():
    """Ask, wait until the kernel is at it, leave; returns once the app is done with the request."""

    async def ask_and_leave(kernel, method, path, body, is_at_it):
        app = create_app(kernel, Config(Path("/nowhere")))
        came = asyncio.Queue()
        came.put_nowait({"type": "http.request", "body": json.dumps(body).encode()})
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(b"host", b"localhost")],
            "query_string": b"",
        }
        serving = asyncio.ensure_future(app(scope, came.get, _nowhere))
        while not is_at_it():  # noqa: ASYNC110  # nothing to wait on: the kernel is at it when it is
            await asyncio.sleep(0)
        came.put_nowait({"type": "http.disconnect"})
        await serving

    return ask_and_leave


async def _nowhere(message):
    pass


@pytest.fixture
def kernel():
    return MemoryKernel()


@pytest.fixture
def ask(kernel):
    return App(kernel)
