"""Downloads: a file fetched in pieces that survive a kill, its digest checked before anyone uses it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import httpx

from llmos.abi.error import Cancelled, Conflict, Corrupt, DiskFull, NotFound, Offline
from llmos.abi.process import Progress
from llmos.programs.channel import Channel
from llmos.programs.disk_full import disk_full, room_said

CONNECT_S = 5.0
READ_S = 60.0
ATTEMPTS = 4


def pip_settings() -> dict[str, str]:
    """pip's configuration on this machine (index-url, extra-index-url, find-links, cert), as pip reports it."""
    try:
        listed = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    settings: dict[str, str] = {}
    for line in listed.stdout.splitlines():
        key, equals, value = line.partition("=")
        scope, _, name = key.rpartition(".")
        if equals and (name not in settings or scope == ":env:"):  # in pip, the environment has precedence
            settings[name] = value.strip().strip("'\"")
    return settings


def open_client(cert: str | None = None) -> httpx.Client:
    """An HTTP client that trusts this machine's certificates and soon gives up on an unreachable host."""
    return httpx.Client(
        verify=ssl.create_default_context(cafile=cert if cert and Path(cert).is_file() else None),
        timeout=httpx.Timeout(READ_S, connect=CONNECT_S),
        follow_redirects=True,
        headers={"User-Agent": "llmos"},
    )


def get(client: httpx.Client, url: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
    """Get one small page; Offline if there is no answer, NotFound or Offline for an error status."""
    try:
        answer = client.get(url, headers=dict(headers or {}))
    except httpx.HTTPError as error:
        raise _offline(url, error) from error
    _refused_error(answer, url)
    return answer


class Download:
    """The downloads of one process: into a folder whose partial files survive it, with progress on its channel.

    Partial files are locked until `close`: no other process fetches them, and garbage collection leaves them.
    """

    def __init__(
        self, client: httpx.Client, folder: Path, channel: Channel, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.client = client
        self.parts: list[Path] = []
        self._folder, self._channel, self._clock = folder, channel, clock
        self._held = ExitStack()
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Download:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unlock the files."""
        self._held.close()

    def fetch(
        self,
        url: str,
        *,
        sha256: str | None = None,
        size_bytes: int = 0,
        headers: Mapping[str, str] | None = None,
        title: str = "",
        beside_bytes: int = 0,
    ) -> Path:
        """Download this file, continuing a partial one; Corrupt if its digest is wrong.

        `beside_bytes` is the size of what is made from it while it is there, for which space is needed too.
        """
        part = self._part(url)
        file = self._held.enter_context(_lock_partial(part, url))
        if size_bytes:
            try:
                self._check_room(max(0, size_bytes - file.tell()) + beside_bytes)
            except DiskFull:
                if not file.tell():  # only the name is here
                    part.unlink()
                raise
        self._complete(url, file, size_bytes, dict(headers or {}), title)
        self.parts.append(part)
        try:
            return self.check_file(part, sha256, size_bytes, url)
        except Corrupt:
            part.unlink()
            raise

    def held_bytes(self, url: str) -> int:
        """The bytes of this file that are here already."""
        try:
            return self._part(url).stat().st_size
        except FileNotFoundError:
            return 0

    def _part(self, url: str) -> Path:
        return self._folder / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.part"

    def _complete(self, url: str, file: BinaryIO, size_bytes: int, headers: dict[str, str], title: str) -> None:
        """Fetch the missing part of the file, and retry if the connection breaks."""
        failure: httpx.HTTPError | None = None
        for _ in range(ATTEMPTS):
            try:
                if not size_bytes or file.tell() < size_bytes:
                    self._stream(url, file, size_bytes, headers, title)
                return
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                raise _offline(url, error) from error
            except httpx.HTTPError as error:
                failure = error
        raise _offline(url, failure)

    def _stream(self, url: str, file: BinaryIO, size_bytes: int, headers: dict[str, str], title: str) -> None:
        held = file.tell()
        # a range of a compressed response would be bytes of another file
        headers = {**headers, "Accept-Encoding": "identity"}
        if held:
            headers["Range"] = f"bytes={held}-"
        with self.client.stream("GET", url, headers=headers) as answer:
            if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # all of it was here; the digest shows whether it is right
            _refused_error(answer, url)
            if answer.status_code != httpx.codes.PARTIAL_CONTENT:
                held = file.truncate(0)
                file.seek(0)
            total = size_bytes or held + int(answer.headers.get("Content-Length", 0))
            self._check_room(total - held)
            began, start = self._clock(), held
            with room_said(self._folder):
                for piece in answer.iter_raw():  # in raw pieces: a broken connection loses nothing that has arrived
                    file.write(piece)
                    held += len(piece)
                    self._channel.report(_progress(title, held, total, held - start, self._clock() - began))
                    if self._channel.stop_asked:
                        raise Cancelled(
                            f"Stopped at {held:,} of {total:,} bytes. What is here is kept: pull again",
                            size=held,
                            total=total,
                        )
                file.flush()

    def _check_room(self, need_bytes: int) -> None:
        free_bytes = shutil.disk_usage(self._folder).free
        if need_bytes > free_bytes:
            raise disk_full(self._folder, need_bytes, free_bytes)

    def check_file(self, path: Path, sha256: str | None, size_bytes: int = 0, url: str = "") -> Path:
        """The file if its size and digest match, as far as they are known; Corrupt otherwise."""
        has_bytes = path.stat().st_size
        if size_bytes and has_bytes != size_bytes:
            raise _damaged_error(url or str(path), f"{size_bytes:,} bytes", f"{has_bytes:,} bytes")
        if sha256 is None:
            return path
        self._channel.report(Progress("verify", 0, has_bytes, "bytes"))
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        if actual != sha256:
            raise _damaged_error(url or str(path), sha256, actual)
        self._channel.report(Progress("verify", has_bytes, has_bytes, "bytes"))
        return path


def _lock_partial(part: Path, url: str) -> BinaryIO:
    """Open and lock the partial file; Conflict if another process has it."""
    while True:
        file = part.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(part, file):  # else garbage collection removed it between the two steps
                return file
        except BlockingIOError as error:
            file.close()
            raise Conflict(
                f"Another process is fetching {url} right now. Wait for it, then pull again", url=url
            ) from error
        file.close()


def _is_still(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _progress(title: str, held: int, total: int, fresh: int, elapsed_s: float) -> Progress:
    rate = fresh / elapsed_s if elapsed_s > 0 else 0.0
    figures = {"rate": rate, "eta_s": (total - held) / rate} if rate else {}
    return Progress("download", held, total, "bytes", figures, title)


def _damaged_error(path: str, expected: str, actual: str) -> Corrupt:
    return Corrupt(
        f"{path} is not what it should be: expected {expected[:20]}, got {actual[:20]}. It is not used. Pull again; "
        "if it happens again, do not trust that source",
        path=path,
        expected=expected,
        actual=actual,
    )


TOKEN = (
    "Set HF_TOKEN (or LLMOS_HUB_TOKEN) to a token that may read it, and start the daemon again: llmos down, llmos up"
)


def _refused_error(answer: httpx.Response, url: str) -> None:
    if answer.status_code in (401, 403):
        raise NotFound(f"{url} asks for permission ({answer.status_code}). {TOKEN}", url=url)
    if answer.status_code in (404, 410):
        raise NotFound(f"There is nothing at {url} ({answer.status_code}). Check the name and the version", url=url)
    if answer.is_error:
        raise Offline(f"{url} answered {answer.status_code}. Try again later, or pull from a folder", url=url)


def _offline(url: str, error: Exception | None) -> Offline:
    return Offline(
        f"{httpx.URL(url).host or url} could not be reached ({error}). Check the network, or pull from a folder: "
        "llmos pull /path/to/model",
        url=url,
    )
