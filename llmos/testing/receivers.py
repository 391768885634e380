"""Receivers of alerts on this machine: a webhook's server, and a mail server that speaks as much SMTP as is needed."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LOCAL = "127.0.0.1"


@dataclass(slots=True)
class Received:
    """One POST: its path, its headers in small letters, and its body."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class WebhookReceiver:
    """What came, and the statuses of the next answers (then 200). A 3xx leads to `location`."""

    url: str
    received: list[Received] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    location: str = ""
    came: threading.Event = field(default_factory=threading.Event)


@contextmanager
def webhook_receiver() -> Iterator[WebhookReceiver]:
    """A server on a free port of this machine, while the block runs."""

    class HookHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # http.server's name
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            receiver.received.append(Received(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            status = receiver.statuses.pop(0) if receiver.statuses else 200
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", receiver.location)
            self.send_header("content-length", "0")
            self.end_headers()
            receiver.came.set()

        def log_message(self, format: str, *args: Any) -> None:  # Any: as http.server has it
            pass

    with ThreadingHTTPServer((LOCAL, 0), HookHandler) as server:
        receiver = WebhookReceiver(f"http://{LOCAL}:{server.server_address[1]}/hook?x=1")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


@dataclass(slots=True)
class MailReceiver:
    """The address of the server, and the messages that came, each with its recipients."""

    port: int
    messages: list[tuple[list[str], bytes]] = field(default_factory=list)
    refuses: bool = False  # every recipient


@contextmanager
def mail_receiver() -> Iterator[MailReceiver]:
    """An SMTP server (RFC 5321, without extensions) on a free port of this machine, while the block runs."""

    class MailHandler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            recipients: list[str] = []
            self.wfile.write(b"220 test\r\n")
            while line := self.rfile.readline():
                verb = line[:4].upper()
                if verb == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    lines: list[bytes] = []
                    while (part := self.rfile.readline()) not in (b".\r\n", b""):
                        lines.append(part.removeprefix(b"."))
                    receiver.messages.append((recipients, b"".join(lines)))
                elif verb == b"RCPT":
                    if receiver.refuses:
                        self.wfile.write(b"550 nobody here\r\n")
                        continue
                    recipients.append(line.decode().partition("<")[2].partition(">")[0])
                elif verb == b"QUIT":
                    self.wfile.write(b"221 bye\r\n")
                    return
                self.wfile.write(b"250 ok\r\n")

    with socketserver.ThreadingTCPServer((LOCAL, 0), MailHandler) as server:
        receiver = MailReceiver(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
