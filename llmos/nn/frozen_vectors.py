"""Frozen vectors: texts and words as vectors of a model that is not trained, from packed forward passes.

A text's vector equals the answer of /v1/embeddings; a text that is longer than the model takes is cut. A word's vector
is the mean of its tokens' last hidden states.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any
from unicodedata import normalize as normalize_text

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from llmos.abi.error import BadInput
from llmos.abi.frame import ModelPath
from llmos.abi.method import has_adapter, is_on_base
from llmos.nn.adapters.adapter_file import load_adapter
from llmos.nn.load import load
from llmos.nn.packing import Packed, cut_rows, forward, forward_layers, pack, pool
from llmos.nn.text.unknown_text import UnknownText
from llmos.tasks import Settings
from llmos.tasks.text import encode_within, fit_length, most_chars

Vectors = NDArray[np.float32]
BLOCK_TEXTS = 4096  # tokenized at a time, and sorted by length among themselves
ROW_TOKENS = 1024  # of a packed row: a longer one is no faster per token on a CPU
DEVICE_ROW_TOKENS = 16384  # of a packed row on another device
POOLING = "mean"
MIDDLE = 2 / 3  # of the depth


def _ignore(done: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class WordVectors:
    """Vectors of the words of all sentences, [words, hidden]; sentence i has those from starts[i] to starts[i + 1]."""

    vectors: Vectors
    starts: tuple[int, ...]

    def of(self, sentence: int) -> Vectors:
        return self.vectors[self.starts[sentence] : self.starts[sentence + 1]]


class FrozenEncoder:
    """A base, or a model with its adapter, loaded once for vectors of texts and of words."""

    def __init__(
        self,
        model: ModelPath,
        *,
        dtype: str = "float32",
        device: str = "cpu",
        threads: int = 0,
        most_tokens: int | None = None,
    ) -> None:
        """`threads` packed rows are computed side by side on a CPU: one per core by default.

        A text's vector is made of at most `most_tokens` of its first tokens, by default of as many as the model takes.
        """
        manifest = model.manifest
        is_adapted = is_on_base(manifest.method) and model.base is not None
        place = model.base if is_adapted and model.base is not None else model
        self._loaded = load(place, dtype=dtype, device=device)
        if self._loaded.reader is not None:
            raise BadInput(
                f"{manifest.ref} is an encoder with a decoder, which gives no vectors. Name another base: llmos ls",
                model=manifest.ref,
                reason="no_vectors",
            )
        backbone = self._loaded.backbone
        self._adapter = (
            load_adapter(Path(model.folder), backbone, manifest.ref) if has_adapter(manifest.method) else None
        )
        if self._adapter is not None and self._adapter.virtual is not None:
            self._loaded = self._loaded.with_virtual(self._adapter.virtual.count)
        self._ref = manifest.ref
        self._pooling = str(manifest.options.get("pooling", POOLING))
        most = min(self._loaded.max_tokens, most_tokens or self._loaded.max_tokens)
        self._settings = Settings((), {"truncate": True}, most)
        is_cpu = self._loaded.device.type == "cpu"
        self._threads = (threads or len(os.sched_getaffinity(0))) if is_cpu else 1
        self._row_tokens = ROW_TOKENS if is_cpu else DEVICE_ROW_TOKENS

    @property
    def size(self) -> int:
        """The length of a vector."""
        return self._loaded.hidden_size

    @property
    def max_tokens(self) -> int:
        """The tokens that the model takes; what is beyond them does not count."""
        return self._loaded.max_tokens

    @property
    def generates(self) -> bool:
        """Whether it is a model that writes, with an output layer for next tokens."""
        return self._loaded.causal is not None

    @property
    def table(self) -> Tensor:
        """The input embeddings of all tokens, [tokens, hidden]."""
        backbone: Any = self._loaded.backbone  # Any: transformers' methods, which nn.Module does not declare
        found: Tensor = backbone.get_input_embeddings().weight.detach().float()
        return found

    def single_tokens(self, words: Sequence[str]) -> dict[str, int]:
        """Of the words that the tokenizer has as one token, that token."""
        found = self._loaded.tokenizer.encode(list(words), special=False) if words else []
        return {word: one.ids[0] for word, one in zip(words, found, strict=True) if len(one.ids) == 1}

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """The names of the tokenizer's control tokens."""
        return tuple(self._loaded.tokenizer.controls.ids)

    def count(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has; of a text far beyond the limit, those of its beginning."""
        found: list[int] = []
        tokenizer = self._loaded.tokenizer
        most = most_chars(tokenizer, self.max_tokens)
        for start in range(0, len(texts), BLOCK_TEXTS):
            block = [text[:most] for text in texts[start : start + BLOCK_TEXTS]]
            found += [len(one.ids) for one in tokenizer.encode(block)]
        return found

    def unknown(self, texts: Sequence[str]) -> UnknownText:
        """How much of each text the tokenizer does not know."""
        return self._loaded.tokenizer.unknown(texts)

    def texts(self, texts: Sequence[str], *, on_done: Callable[[int], None] = _ignore) -> Vectors:
        """Vectors of length 1, [texts, hidden], in the order of the texts; zeros for a text without any token.

        `on_done` is called with the number of texts that are done.
        """
        return self._texts(texts, self._compute_last, 1, on_done)[0]

    def texts_of_layers(
        self, texts: Sequence[str], *, on_done: Callable[[int], None] = _ignore
    ) -> tuple[Vectors, Vectors]:
        """As `texts`, from the last layer, and from the one at two thirds of the depth.

        Middle layers know more of what a text says, the last one of what it is about (Tenney, Das, Pavlick 2019). Both
        are of the last layer where a model does not say the others.
        """
        last, middle = self._texts(texts, self._compute_two, 2, on_done)
        return last, middle

    def _texts(
        self,
        texts: Sequence[str],
        compute: Callable[[Sequence[Sequence[int]]], tuple[Tensor, ...]],
        layers: int,
        on_done: Callable[[int], None],
    ) -> list[Vectors]:
        outs = [np.zeros((len(texts), self.size), np.float32) for _ in range(layers)]
        for start in range(0, len(texts), BLOCK_TEXTS):
            block = texts[start : start + BLOCK_TEXTS]
            ids = [one.ids for one in encode_within(block, "The text", self._loaded.tokenizer, self._settings)]
            for places, states in self._rows(ids, compute):
                for out, hidden in zip(outs, states, strict=True):
                    pooled = pool(hidden, [len(ids[i]) for i in places], self._pooling)
                    out[[start + i for i in places]] = self._finite(normalize(pooled, dim=-1))
            on_done(start + len(block))
        return outs

    def words(self, sentences: Sequence[Sequence[str]], *, on_done: Callable[[int], None] = _ignore) -> WordVectors:
        """Vectors of the words of all sentences, [words, hidden], not normalized.

        A word that the tokenizer leaves nothing of, or that is beyond the model's limit, has a vector of zeros.
        """
        tokenizer = self._loaded.tokenizer
        starts = [0, *accumulate(map(len, sentences))]
        out = np.zeros((starts[-1], self.size), np.float32)
        for start in range(0, len(sentences), BLOCK_TEXTS):
            block = [[normalize_text("NFC", word) for word in one] for one in sentences[start : start + BLOCK_TEXTS]]
            encoded = fit_length(tokenizer.encode_words(block), "The text", tokenizer, self._settings)
            for places, (hidden,) in self._rows([one.ids for one in encoded], self._compute_last):
                means = self._finite(_word_means(hidden, [(encoded[i].words, len(block[i])) for i in places]))
                ends = [*accumulate(len(block[i]) for i in places)]
                for i, end in zip(places, ends, strict=True):
                    out[starts[start + i] : starts[start + i + 1]] = means[end - len(block[i]) : end]
            on_done(start + len(block))
        return WordVectors(out, tuple(starts))

    def _rows(
        self, sequences: Sequence[Sequence[int]], compute: Callable[[Sequence[Sequence[int]]], tuple[Tensor, ...]]
    ) -> Iterator[tuple[list[int], tuple[Tensor, ...]]]:
        """The hidden states of packed rows, each with the places of its sequences; empty ones are left out."""
        if self._loaded.tokenizer.lacks_tokens:
            self._loaded.tokenizer.check(sequences)
        places = sorted((i for i, ids in enumerate(sequences) if ids), key=lambda i: len(sequences[i]))
        rows = [*cut_rows(places, [len(ids) for ids in sequences], self._row_tokens)]
        with ThreadPoolExecutor(self._threads, "row", torch.set_num_threads, (1,)) as cores:
            hidden = cores.map(lambda row: compute([sequences[i] for i in row]), rows)
            yield from zip(rows, hidden, strict=True)

    @torch.inference_mode()
    def _compute_last(self, sequences: Sequence[Sequence[int]]) -> tuple[Tensor, ...]:
        with self._adapter.on() if self._adapter is not None else nullcontext():
            return (forward(self._loaded.backbone, self._pack(sequences)),)

    @torch.inference_mode()
    def _compute_two(self, sequences: Sequence[Sequence[int]]) -> tuple[Tensor, ...]:
        with self._adapter.on() if self._adapter is not None else nullcontext():
            states = forward_layers(self._loaded.backbone, self._pack(sequences))
        return states[-1], states[round((len(states) - 1) * MIDDLE)]

    def _pack(self, sequences: Sequence[Sequence[int]]) -> Packed:
        opening = self._loaded.virtual_ids
        return pack([(*opening, *ids) for ids in sequences] if opening else sequences, self._loaded.device)

    def _finite(self, vectors: Tensor) -> Vectors:
        if not bool(vectors.isfinite().all()):
            raise BadInput(
                f"{self._ref} computes NaN or infinity: its weights are damaged, or too large for this dtype. Bring it "
                "in again, or use float32",
                model=self._ref,
                reason="not_finite",
            )
        return vectors.float().cpu().numpy()


def embed_texts(
    model: ModelPath,
    texts: Sequence[str],
    *,
    dtype: str = "float32",
    device: str = "cpu",
    threads: int = 0,
    on_done: Callable[[int], None] = _ignore,
) -> Vectors:
    """The texts' vectors of length 1, [texts, hidden], in their order, as /v1/embeddings answers them."""
    return FrozenEncoder(model, dtype=dtype, device=device, threads=threads).texts(texts, on_done=on_done)


def embed_words(
    model: ModelPath,
    sentences: Sequence[Sequence[str]],
    *,
    dtype: str = "float32",
    device: str = "cpu",
    threads: int = 0,
    on_done: Callable[[int], None] = _ignore,
) -> WordVectors:
    """The words' vectors, one sentence after the other."""
    return FrozenEncoder(model, dtype=dtype, device=device, threads=threads).words(sentences, on_done=on_done)


@torch.inference_mode()
def _word_means(hidden: Tensor, sentences: Sequence[tuple[Sequence[int | None], int]]) -> Tensor:
    """The mean hidden state of each word, [words, hidden]; a sentence is its tokens' words and their count."""
    tokens: list[int] = []
    words: list[int] = []
    token = first = 0
    for owners, count in sentences:
        for at, word in enumerate(owners):
            if word is not None:
                tokens.append(token + at)
                words.append(first + word)
        token += len(owners)
        first += count
    which = torch.tensor(words, device=hidden.device, dtype=torch.long)
    sums = torch.zeros(first, hidden.shape[1], device=hidden.device)
    sums.index_add_(0, which, hidden[torch.tensor(tokens, device=hidden.device, dtype=torch.long)].float())
    return sums / which.bincount(minlength=first).clamp(min=1)[:, None]
