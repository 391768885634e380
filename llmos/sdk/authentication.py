"""The key that a client calls with: the one that it was given, that of the settings, or the local daemon's own."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from llmos.abi.error import LlmosError
from llmos.config import LOCAL_KEY, is_loopback, read_config
from llmos.sdk.transport import announcement

PORTS = {"http": 80, "https": 443}


class KeyAuth(httpx.Auth):
    """Sends a key as a bearer token. Without one, that in `file`, read anew for each request: each start changes it."""

    def __init__(self, key: str = "", file: Path | None = None) -> None:
        self._key = key
        self._file = file

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        key = self._key or self._in_file()
        if key:
            request.headers["Authorization"] = f"Bearer {key}"
        yield request

    def _in_file(self) -> str:
        if self._file is not None:
            with suppress(OSError, UnicodeDecodeError):  # another user's home, or a daemon without keys
                return self._file.read_text(encoding="ascii").strip()
        return ""


def auth_for(url: str, api_key: str | None) -> KeyAuth:
    """What requests to this address are sent with.

    The local key goes only to the address that the daemon of this home wrote down.
    """
    if api_key:
        return KeyAuth(api_key)
    try:
        config = read_config()
    except LlmosError:  # an address was given, so that the settings are not needed
        return KeyAuth()
    if config.api_key:
        return KeyAuth(config.api_key)
    announced = announcement(config.home).get("url")
    is_own = isinstance(announced, str) and is_same_server(url, announced)
    return KeyAuth(file=config.home / LOCAL_KEY if is_own else None)


def is_same_server(url: str, other: str) -> bool:
    """Whether two addresses are one server's: the same host and port, or the same port of this machine."""
    try:
        one, two = urlsplit(url), urlsplit(other)
        ports = (one.port or PORTS.get(one.scheme), two.port or PORTS.get(two.scheme))
    except ValueError:  # a port that is none
        return False
    if one.scheme != two.scheme or ports[0] != ports[1] or not (one.hostname and two.hostname):
        return False
    return one.hostname == two.hostname or (is_loopback(one.hostname) and is_loopback(two.hostname))
