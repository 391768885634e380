"""Parts of Client. Made by tools/sync_client.py from aio/connection.py: edit that file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx

from llmos.abi.api_types import StreamEvent, stream_event_of
from llmos.abi.json_type import Json
from llmos.abi.process import Process
from llmos.sdk import request
from llmos.sdk.authentication import auth_for
from llmos.sdk.request import Request
from llmos.sdk.tls import context_for
from llmos.sdk.transport import address, check_reply, encode_body, timeouts, unreachable
from llmos.sdk.wait import SSEParser, raise_unless_done

T = TypeVar("T")
OnProgress = Callable[[Process], None]


class DaemonConnection:
    """A connection to the daemon. `base_url` is its address; by default the address that this user's daemon wrote down.

    `ca_file` has the authorities that an https address is checked with; the setting `tls_ca` by default.
    `api_key` defaults to the setting of that name. Whoever owns the daemon's home needs none on its machine.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float | None = 600.0,
        ca_file: str | Path | None = None,
    ) -> None:
        self.url = address(base_url)
        auth = auth_for(self.url, api_key)
        self._http = httpx.Client(
            base_url=self.url,
            auth=auth,
            timeout=timeouts(timeout_s),
            trust_env=False,
            verify=context_for(self.url, ca_file),
        )
        self.last_call_id = ""
        """The id of this client's last answer (`x-request-id`), by which feedback and the request log name a call."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def process(self, pid: int) -> Process:
        """A process in its current state."""
        return self._ask(request.process(pid))

    def wait(self, pid: int, *, on_progress: OnProgress | None = None) -> Process:
        """Wait for a process to end and return it; if it failed, its error is raised."""
        for stream_event in self.watch(pid):
            if stream_event.process is not None and on_progress is not None:
                on_progress(stream_event.process)
        return raise_unless_done(self.process(pid))

    def watch(self, pid: int | None = None) -> Iterator[StreamEvent]:
        """Events from now on; of one process: its present state first, then its events to its end."""
        path = "/v1/events" if pid is None else f"/v1/processes/{pid}/events"
        for _, data in self._events("GET", path):
            yield stream_event_of(data)

    def result(self, pid: int) -> Json:
        """What a process has found: the differences of two datasets, for one."""
        return self._ask(request.result(pid))

    def _start(self, asked: Request[Process], *, wait: bool, on_progress: OnProgress | None) -> Process:
        process = self._ask(asked)
        return self.wait(process.pid, on_progress=on_progress) if wait else process

    def _ask(self, asked: Request[T]) -> T:
        content = encode_body(asked.body) if asked.content is None else asked.content
        response = self._send(asked.method, asked.path, content, asked.query, asked.headers)
        return asked.read(check_reply(response))

    def _send(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        try:
            response = self._http.request(method, path, content=content, params=query or None, headers=headers)
        except httpx.TransportError as error:
            raise unreachable(self.url, error) from error
        self.last_call_id = response.headers.get("x-request-id", "")
        return response

    def _events(self, method: str, path: str, body: Json = None) -> Iterator[tuple[str, Json]]:
        with self._stream(method, path, body) as response:
            if not response.is_success:
                response.read()
                check_reply(response)
            self.last_call_id = response.headers.get("x-request-id", "")
            lines = SSEParser()
            for line in response.iter_lines():
                yield from lines.feed(line)

    @contextmanager
    def _stream(self, method: str, path: str, body: Json) -> Iterator[httpx.Response]:
        content = encode_body(body)
        timeout = timeouts(None)  # a stream is quiet for as long as nothing happens
        try:
            with self._http.stream(method, path, content=content, timeout=timeout) as response:
                yield response
        except httpx.TransportError as error:
            raise unreachable(self.url, error) from error
