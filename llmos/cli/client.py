"""The command line's client: finds the running daemon, and parses `--set key=value`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json

if TYPE_CHECKING:
    from llmos.sdk.client import Client


@contextmanager
def box() -> Iterator[Client]:
    """A client of this user's daemon, watched during requests.

    It is imported late, because `llmos --help` does not need it.
    """
    from llmos.cli.watch import Watch, watching
    from llmos.sdk.client import Client

    with Client() as client, watching(Watch(client.url).look):
        yield client


def settings_of(pairs: Sequence[str]) -> dict[str, Json]:
    """`key=value` pairs as a dict; a value is parsed as JSON if possible (true, 3, 0.5), else it is a text."""
    settings: dict[str, Json] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise BadInput(f"--set {pair!r}: expected key=value, like --set multi_label=true")
        settings[key.replace("-", "_")] = _value(value)
    return settings


def _value(text: str) -> Json:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
