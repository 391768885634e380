"""The other end of a child's socket, for tests: it keeps what the child says and accepts every offer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from llmos.abi.frame import Accepted, FromChild, Offered, Replied, Report, Requested, ToChild
from llmos.abi.model import Offer, OfferKind
from llmos.abi.process import Progress
from llmos.abi.wire import Splitter, encode
from llmos.programs.channel import Channel


class FakeDaemon:
    """Speaks to one child over a socket; `on_frame` sees every frame as it comes."""

    def __init__(self, sock: socket.socket, on_frame: Callable[[FromChild], None] = lambda frame: None) -> None:
        self.said: list[FromChild] = []
        self._socket = sock
        self._on_frame = on_frame
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def send(self, frame: ToChild) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # the child was killed before it heard the answer
            self._socket.sendall(encode(frame))

    def join(self) -> None:
        """Wait until the child's end is closed and everything it said was heard."""
        self._thread.join()
        self._socket.close()

    @property
    def progress(self) -> list[Progress]:
        return [frame.progress for frame in self.said if isinstance(frame, Report)]

    @property
    def offers(self) -> list[Offer]:
        return [frame.offer for frame in self.said if isinstance(frame, Offered)]

    def _listen(self) -> None:
        splitter = Splitter()
        while data := self._receive():
            for frame in splitter.feed(data):
                self._take(frame)

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(1 << 18)
        except OSError:  # the child was killed with bytes on the way
            return b""

    def _take(self, frame: FromChild | ToChild) -> None:
        assert isinstance(frame, FromChild)
        self.said.append(frame)
        self._on_frame(frame)
        if isinstance(frame, Requested):
            self.send(Replied(frame.request_id))
        if isinstance(frame, Offered):
            mark = "@" if frame.offer.kind is OfferKind.DATASET else ":"
            assert all((Path(frame.offer.folder) / path).is_file() for path, _ in frame.offer.files)
            self.send(Accepted(frame.offer.offer_id, f"{frame.offer.name}{mark}1", frame.offer.folder))


def beside(
    on_frame: Callable[[FromChild], None] = lambda frame: None,
) -> tuple[FakeDaemon, Channel, Callable[[], None]]:
    """A daemon and the channel of a child in the same process, and what closes the child's end."""
    up, down = socket.socketpair()
    daemon = FakeDaemon(up, on_frame)
    channel = Channel(down, on_gone=lambda: None)

    def close() -> None:
        down.shutdown(socket.SHUT_RDWR)
        daemon.join()
        down.close()

    return daemon, channel, close
