"""The settings of channels, by kind: a webhook (`url`), e-mail (`email`) or a command (`command`).

A kind is one entry of `CHANNELS`; `channels` has the code that sends.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from llmos.abi.error import BadInput

SECRET = re.compile(r"whsec_([A-Za-z0-9+/]+=*)")
ADDRESS = re.compile(r"[^\s<>@,;:\"]+@[^\s<>@,;:\"]+")
LEAST_SECRET_BYTES, MOST_SECRET_BYTES = 24, 64  # of Standard Webhooks
TLS_PORTS = {"starttls": 587, "tls": 465, "none": 25}


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """A POST to `url`, signed with `key` where there is one."""

    name: str
    url: str = field(repr=False)  # services put secrets into paths
    key: bytes = field(default=b"", repr=False)
    kind: str = "webhook"

    @property
    def target(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


@dataclass(frozen=True, slots=True)
class EmailSettings:
    """A message to these addresses by an SMTP server. `tls` is starttls, tls or none."""

    name: str
    to: tuple[str, ...]
    sender: str
    host: str
    port: int
    tls: str = "starttls"
    user: str = ""
    password: str = field(default="", repr=False)
    kind: str = "email"

    @property
    def target(self) -> str:
        return f"{', '.join(self.to)} by {self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class CommandSettings:
    """A command, which gets the message as JSON on its standard input."""

    name: str
    argv: tuple[str, ...]
    kind: str = "command"

    @property
    def target(self) -> str:
        return self.argv[0]


ChannelSettings = WebhookSettings | EmailSettings | CommandSettings


def _refuse(key: str, message: str) -> BadInput:
    return BadInput(message, key=key)


def read_webhook(name: str, table: Mapping[str, Any]) -> WebhookSettings:
    url = table["url"]
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        is_good = parts is not None and parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        is_good = False
    if not is_good or re.search(r"[\s\x00-\x1f\x7f]", url) or not url.isascii():
        raise _refuse("url", "expected an address that begins with https:// or http://")
    assert parts is not None
    if parts.username or parts.password:
        raise _refuse("url", "a user or password in an address is not sent; sign with a secret instead")
    return WebhookSettings(name, url, read_secret(table["secret"]) if "secret" in table else b"")


def read_secret(text: object) -> bytes:
    """The key in a secret such as whsec_ and 24 to 64 bytes in base64 (Standard Webhooks)."""
    found = SECRET.fullmatch(text) if isinstance(text, str) else None
    try:
        key = base64.b64decode(found[1], validate=True) if found else b""
    except binascii.Error:
        key = b""
    if not LEAST_SECRET_BYTES <= len(key) <= MOST_SECRET_BYTES:
        raise _refuse("secret", "expected whsec_ and 24 to 64 random bytes in base64; make one: llmos alerts secret")
    return key


def read_email(name: str, table: Mapping[str, Any]) -> EmailSettings:
    given = table["email"]
    to = [given] if isinstance(given, str) else given
    if not isinstance(to, list) or not to or not all(isinstance(one, str) and ADDRESS.fullmatch(one) for one in to):
        raise _refuse("email", "expected an address, or a list of addresses")
    sender = table.get("from", "")
    if not isinstance(sender, str) or not ADDRESS.fullmatch(sender):
        raise _refuse("from", "expected the sender's address")
    tls = table.get("tls", "starttls")
    if tls not in TLS_PORTS:
        raise _refuse("tls", f"expected one of {', '.join(TLS_PORTS)}")
    host, port = _server(table.get("smtp"), TLS_PORTS[tls])
    user, password = table.get("user", ""), table.get("password", "")
    if not isinstance(user, str) or not isinstance(password, str) or bool(user) is not bool(password):
        raise _refuse("user", "user and password are texts, and come together")
    if user and tls == "none":
        raise _refuse("tls", "a password is not sent without TLS")
    return EmailSettings(name, tuple(to), sender, host, port, tls, user, password)


def _server(given: object, port: int) -> tuple[str, int]:
    found = re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(?::([0-9]{1,5}))?", str(given or ""))
    if found is None or (found[2] and not 0 < int(found[2]) < 65536):
        raise _refuse("smtp", "expected a server such as smtp.example.org or smtp.example.org:587")
    return found[1].strip("[]"), int(found[2] or port)


def read_command(name: str, table: Mapping[str, Any]) -> CommandSettings:
    argv = table["command"]
    if not isinstance(argv, list) or not argv or not all(isinstance(one, str) and "\0" not in one for one in argv):
        raise _refuse("command", 'expected a list of words, such as ["/usr/bin/page", "--team"]; no shell reads it')
    if not argv[0].startswith("/"):
        raise _refuse("command", f"expected the whole path of the program, got {argv[0]!r}")
    return CommandSettings(name, tuple(argv))


@dataclass(frozen=True, slots=True)
class ChannelKind:
    """How a kind of channel is read; `keys` are all that its table may have."""

    keys: tuple[str, ...]
    read: Callable[[str, Mapping[str, Any]], ChannelSettings]


CHANNELS: dict[str, ChannelKind] = {  # by the key that says which kind a table is
    "url": ChannelKind(("url", "secret"), read_webhook),
    "email": ChannelKind(("email", "from", "smtp", "tls", "user", "password"), read_email),
    "command": ChannelKind(("command",), read_command),
}
