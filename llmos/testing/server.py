"""A real HTTP server around any kernel, in a thread of the test: for clients that only know an address."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from llmos.api.app import create_app
from llmos.api.connection import Serving
from llmos.config import Config
from llmos.kernel.interface import KernelInterface


@contextmanager
def serving(kernel: KernelInterface, config: Config) -> Iterator[str]:
    """The address at which this kernel is served, for as long as the block runs."""
    with socket.socket(proto=socket.IPPROTO_TCP) as sock:  # else asyncio leaves Nagle's algorithm on
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        settings = Serving(create_app(kernel, config), config.max_connections, farewell_s=1.0)
        server = uvicorn.Server(settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
