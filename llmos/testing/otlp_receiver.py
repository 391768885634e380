"""A receiver of OpenTelemetry's traces in this process: OTLP over HTTP, as protobuf. It needs the extra `otel`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from typing import Any

POLL_S = 0.01  # how often the server looks whether it is to end


@dataclass
class OtlpReceiver:
    """Keeps what it was sent. `status` is what it answers."""

    port: int = 0
    status: int = 200
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    spans: SimpleQueue[Any] = field(default_factory=SimpleQueue)  # Any: protobuf's Span, of the extra
    resources: list[Any] = field(default_factory=list)  # Any: as above

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        """Keep the spans of a request, unless it is refused."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        self.paths.append(path)
        self.headers.append(headers)
        if self.status == 200:
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(group.resource)
                for scope in group.scope_spans:
                    for span in scope.spans:
                        self.spans.put(span)

    def spans_of_calls(self, count: int, timeout_s: float = 60.0) -> list[Any]:  # Any: as above
        """The next spans up to and with that of the `count`th call, once they are here."""
        found: list[Any] = []
        while sum(attributes_of(one).get("llmos.call.id", "") != "" for one in found) < count:
            found.append(self.spans.get(timeout=timeout_s))
        return found


def attributes_of(holder: Any) -> dict[str, Any]:  # Any: protobuf's Span or Resource; values as they were sent
    """The attributes of a span or a resource."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in holder.attributes}


@contextmanager
def receiving_traces() -> Iterator[OtlpReceiver]:
    """A receiver on a port of its own, while the block runs."""
    receiver = OtlpReceiver()

    class TraceHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.take(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(receiver.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), TraceHandler)
    receiver.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(POLL_S,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
