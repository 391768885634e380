"""Vectors of texts that an earlier process has computed, in a file: only new texts are computed, and only they load the
model.

The file has keyed digests of the texts, not the texts.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from llmos.nn.frozen_vectors import FrozenEncoder, Vectors, WordVectors

MOST_ROWS = 200_000  # that are kept: 300 MB of a small base
DIGEST_BYTES = 16


class KeptVectors:
    """An encoder whose vectors of texts are kept from one process to the next; those of words are computed anew."""

    def __init__(self, open_encoder: Callable[[], FrozenEncoder], path: Path, key: bytes) -> None:
        """`path` names the base and how it computes: a file of another one must not be found there."""
        self._open, self._path, self._key = open_encoder, path, key
        self._encoder: FrozenEncoder | None = None

    @property
    def encoder(self) -> FrozenEncoder:
        if self._encoder is None:
            self._encoder = self._open()
        return self._encoder

    def texts(self, texts: Sequence[str], *, on_done: Callable[[int], None] = lambda done: None) -> Vectors:
        """As the encoder's; the file has the vectors of these texts afterwards, and of no others."""
        digests = [hashlib.blake2b(text.encode(), key=self._key, digest_size=DIGEST_BYTES).digest() for text in texts]
        known, vectors = self._read()
        missing = [at for at, one in enumerate(digests) if one not in known]
        kept = len(texts) - len(missing)
        on_done(kept)
        if not missing:
            return vectors[[known[one] for one in digests]]
        computed = self.encoder.texts([texts[at] for at in missing], on_done=lambda done: on_done(kept + done))
        made = np.empty((len(texts), computed.shape[1]), np.float32)
        made[missing] = computed
        places = [at for at, one in enumerate(digests) if one in known]
        if places:
            made[places] = vectors[[known[digests[at]] for at in places]]
        self._write(digests[:MOST_ROWS], made[:MOST_ROWS])
        return made

    def words(self, sentences: Sequence[Sequence[str]], *, on_done: Callable[[int], None]) -> WordVectors:
        return self.encoder.words(sentences, on_done=on_done)

    def _read(self) -> tuple[dict[bytes, int], Vectors]:
        """Where the vector of each digest is, and the vectors; nothing from a file that is not there or damaged."""
        try:
            with np.load(self._path, allow_pickle=False) as found:
                digests, vectors = found["digests"], found["vectors"]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return {}, np.empty((0, 0), np.float32)
        return {bytes(one): at for at, one in enumerate(digests)}, np.asarray(vectors, np.float32)

    def _write(self, digests: Sequence[bytes], vectors: Vectors) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        packed = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES)
        with aside.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            np.savez(file, digests=packed, vectors=vectors)
        aside.replace(self._path)
