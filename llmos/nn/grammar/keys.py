"""Keys of a JSON answer under way, so that no object gets the same key twice."""

from __future__ import annotations

import json
from dataclasses import dataclass

QUOTE, ESCAPE = b'"\\'


@dataclass(frozen=True, slots=True)
class Keys:
    """The state of a partial JSON text, as far as keys are concerned. Text around the JSON must have no braces or
    quotes.

    `opened` has the keys of each open object, and None for an open array. `string` is the content of an open string;
    `is_key` says whether it is a key. `awaits_key` says whether the next string would be a key.
    """

    opened: tuple[frozenset[str] | None, ...] = ()
    string: bytes | None = None
    is_escaped: bool = False
    is_key: bool = False
    awaits_key: bool = False

    def after(self, data: bytes) -> Keys | None:
        """The state after these bytes; None if they complete a key that the object already has."""
        opened, string, is_escaped = self.opened, self.string, self.is_escaped
        is_key, awaits_key = self.is_key, self.awaits_key
        for at, byte in enumerate(data):
            one = data[at : at + 1]
            if string is not None:
                if is_escaped or byte != QUOTE:
                    string += one if is_key else b""
                    is_escaped = byte == ESCAPE and not is_escaped
                    continue
                if is_key:
                    key, keys = _read(string), opened[-1]
                    if keys is None or key in keys:
                        return None
                    opened = (*opened[:-1], keys | {key})
                string, is_key = None, False
            elif one == b'"':
                string, is_key = b"", awaits_key
            elif one in (b"{", b"["):
                opened, awaits_key = (*opened, frozenset() if one == b"{" else None), one == b"{"
            elif one in (b"}", b"]"):
                opened, awaits_key = opened[:-1], False
            elif one in (b",", b":"):
                awaits_key = one == b"," and bool(opened) and opened[-1] is not None
        return Keys(opened, string, is_escaped, is_key, awaits_key)


def _read(string: bytes) -> str:
    """A key's text, with escapes decoded."""
    try:
        return str(json.loads(b'"' + string + b'"'))
    except ValueError:
        return string.decode(errors="replace")
