"""Ids of rows: HMAC-SHA256 of a row's text by the home's key, so that who has the text finds the row, and no other."""

from __future__ import annotations

import hashlib
import unicodedata

ID_BYTES = 8
ID_SIGNS = 2 * ID_BYTES
BLOCK_BYTES = 64  # of SHA-256, to which HMAC pads its key


def fold_text(text: str) -> str:
    """A text whatever its case, width and white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


class RowHmac:
    """HMAC-SHA256 (RFC 2104) with the hashes of the key's two blocks kept: for short texts three times as fast as hmac.

    The key is no longer than a block.
    """

    def __init__(self, key: bytes) -> None:
        block = key.ljust(BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(bytes(one ^ 0x36 for one in block))
        self._outer = hashlib.sha256(bytes(one ^ 0x5C for one in block))

    def id_of(self, folded: str) -> str:
        """The id of the first row with this folded text."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(folded.encode())
        outer.update(inner.digest())
        return outer.digest()[:ID_BYTES].hex()

    def twin_of(self, first: str, occurrence: int) -> str:
        """The id of a further row with the text of the row `first`; `occurrence` counts from 1."""
        return self.id_of(f"\0{first}\0{occurrence}")
