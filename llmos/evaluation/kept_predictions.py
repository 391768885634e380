"""Predictions of one model that an earlier process has computed, in a file: only new rows are computed, and only they
load the model.

The file has keyed digests of the rows' inputs, not the inputs. It is for families whose predictions are probabilities,
of a text's labels or of its words' tags.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from llmos.abi.task import Family, spec_of
from llmos.abi.wire import to_json
from llmos.evaluation.families.labels import LabelPrediction
from llmos.evaluation.families.tags import TagPrediction

MOST_KEPT = 20_000  # predictions: 6 MB of 77 labels
DIGEST_BYTES = 16
AtWords = tuple[NDArray[Any], frozenset[int]]  # Any: floats [words, labels]; and the words that have no token


class Predicts(Protocol):
    """A loaded model that predicts rows of its task's family, which Any stands for."""

    def predict(self, rows: Sequence[Any]) -> list[Any]: ...


def _plain(one: Any) -> AtWords:  # Any: a prediction of one of the two families
    if isinstance(one, TagPrediction):
        return np.asarray(one.probabilities, np.float32), one.tokenless
    return np.asarray(one.probabilities, np.float32)[None], frozenset()


def _prediction(family: Family, shares: NDArray[Any], tokenless: frozenset[int]) -> LabelPrediction | TagPrediction:
    return TagPrediction(shares, tokenless) if family is Family.TAGS else LabelPrediction(shares[0])


class KeptPredictions:
    """A model whose predictions are kept from one process to the next; leaving the `with` block writes new ones."""

    def __init__(
        self,
        open_model: Callable[[], Predicts],
        task: str,
        labels: Sequence[str],
        path: Path,
        key: bytes,
        *,
        most: int = MOST_KEPT,
    ) -> None:
        """`path` names the model and how it computes: a file of another one must not be found there."""
        self.labels = tuple(labels)
        self._open, self._family, self._path, self._key = open_model, spec_of(task).family, path, key
        self._model: Predicts | None = None
        self._most = most
        self._is_new = False
        self._known = self._read()

    def __enter__(self) -> KeptPredictions:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._is_new:
            self._write()

    def predict(self, rows: Sequence[Any]) -> list[Any]:  # Any: rows and predictions of the family
        """The rows' predictions in their order; what a row's label is does not matter."""
        digests = [self._digest(row) for row in rows]
        missing = {one: row for one, row in zip(digests, rows, strict=True) if one not in self._known}
        if missing:
            self._model = self._model or self._open()
            for one, made in zip(missing, self._model.predict([*missing.values()]), strict=True):
                self._known[one] = _plain(made)
            self._is_new = True
        for one in dict.fromkeys(digests):  # the last ones are those that are asked for again
            self._known[one] = self._known.pop(one)
        return [_prediction(self._family, *self._known[one]) for one in digests]

    def _digest(self, row: Any) -> bytes:  # Any: as above
        return hashlib.blake2b(to_json(row.input), key=self._key, digest_size=DIGEST_BYTES).digest()

    def _read(self) -> dict[bytes, AtWords]:
        """What the file has; nothing from one that is not there or damaged."""
        try:
            with np.load(self._path, allow_pickle=False) as found:
                digests, shares, counts, tokenless = (found[name] for name in ("digests", "shares", "counts", "bare"))
            if len(digests) != len(counts) or int(counts.sum()) != len(shares) or shares.shape[1] != len(self.labels):
                return {}
        except (OSError, ValueError, KeyError, EOFError, IndexError, BadZipFile):
            return {}
        bare: dict[int, set[int]] = {}
        for at, word in tokenless.tolist():
            bare.setdefault(at, set()).add(word)
        ends = [*accumulate(counts.tolist())]
        return {
            bytes(one): (shares[end - count : end], frozenset(bare.get(at, ())))
            for at, (one, count, end) in enumerate(zip(digests, counts.tolist(), ends, strict=True))
        }

    def _write(self) -> None:
        kept = [*self._known.items()][-self._most :]
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        places = [(at, word) for at, (_, (_, bare)) in enumerate(kept) for word in sorted(bare)]
        with aside.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            np.savez(
                file,
                digests=np.frombuffer(b"".join(one for one, _ in kept), np.uint8).reshape(-1, DIGEST_BYTES),
                shares=np.concatenate([shares for _, (shares, _) in kept]),
                counts=np.array([len(shares) for _, (shares, _) in kept]),
                bare=np.array(places, np.int64).reshape(-1, 2),
            )
        aside.replace(self._path)
