"""Words that could stand in a text instead of others: near ones by embeddings, and a masked model's guesses."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch.nn.functional import normalize
from transformers import AutoModelForMaskedLM, AutoTokenizer

from llmos.abi.augmentation import Augmentation
from llmos.abi.error import BadInput
from llmos.abi.frame import ModelPath
from llmos.data.augmentation.augmenter import Material, Substitutes
from llmos.data.augmentation.places import Place, is_changeable, words_in
from llmos.data.row import Row
from llmos.nn.frozen_vectors import FrozenEncoder
from llmos.nn.load import torch_device

NEAR = 5  # words by their embeddings, which are then ranked in their context
LEAST_SIMILAR = 0.35  # cosine of two words' embeddings, less the mean of all
LEAST_ALIKE = 0.8  # cosine of the context's vectors before and after
AROUND = 12  # words on each side of a place, which are its context
TEXTS_AT_ONCE = 32
GUESSES = 12  # of a masked model for one word


def find_material(
    task: str, rows: Sequence[Row], how: Augmentation, base: ModelPath, device: str, threads: int = 0
) -> Material:
    """The training rows with what the augmenters asked for need of the base; BadInput where it lacks that."""
    substitutes: dict[str, Substitutes] = {}
    if "neighbour" in how.by:
        substitutes["neighbour"] = NeighbourWords(base, device, Material(task, rows).vocabulary[0], threads)
    if "masked" in how.by:
        substitutes["masked"] = MaskedWords(base, device)
    return Material(task, rows, substitutes, lacks=dict.fromkeys(("paraphrase", "back-translation"), NO_WRITER))


NO_WRITER = (
    "it needs a model that writes text, and a training run has only its base. Make the copies before the training: "
    "llmos data augment NAME --by paraphrase --writer smollm2"
)


@dataclass(frozen=True, slots=True)
class _Context:
    """A place's word with those around it, and the words that might stand there."""

    text: str
    before: str
    after: str
    words: tuple[str, ...]

    @property
    def variants(self) -> list[str]:
        """The context with each of the words."""
        return [self.before + word + self.after for word in self.words]

    def rank(self, vectors: Mapping[str, NDArray[np.float32]]) -> tuple[str, ...]:
        """The words that fit, by the vectors of the contexts; the best first."""
        if not self.words:
            return ()
        return _rank_by_context(self.words, [float(vectors[one] @ vectors[self.text]) for one in self.variants])


class NeighbourWords:
    """Words of the training rows whose input embeddings are near; the base's vectors of the words around a place choose
    those that fit there.

    Only words of one token have an embedding of their own; others get no proposals.
    """

    def __init__(self, base: ModelPath, device: str, words: Sequence[str], threads: int = 0) -> None:
        self._encoder = FrozenEncoder(base, device=device, threads=threads)
        if self._encoder.generates:
            raise BadInput(
                f"The augmenter neighbour needs an encoder, and {base.manifest.ref} generates text. Leave it out",
                key="augment",
                value="neighbour",
                lacks="base",
            )
        tokens = self._encoder.single_tokens(sorted({word.lower() for word in words if word.isalpha()}))
        table = self._encoder.table
        self._words = sorted(tokens)
        ids = torch.tensor([tokens[word] for word in self._words], dtype=torch.long, device=table.device)
        self._vectors = normalize(table[ids] - table.mean(0), dim=-1) if self._words else table[:0]
        self._places = {word: i for i, word in enumerate(self._words)}
        self._near = cache(self._near_words)

    def offers(self, word: str) -> bool:
        return bool(self._near(word.lower()))

    def propose(self, texts: Sequence[str], places: Sequence[Sequence[Place]]) -> list[list[tuple[str, ...]]]:
        """The near words of each place, those first with which the vector of the words around it changes least."""
        return [
            found
            for start in range(0, len(texts), TEXTS_AT_ONCE)
            for found in self._propose(texts[start : start + TEXTS_AT_ONCE], places[start : start + TEXTS_AT_ONCE])
        ]

    def _propose(self, texts: Sequence[str], places: Sequence[Sequence[Place]]) -> list[list[tuple[str, ...]]]:
        asked = [
            [
                _Context(before + text[start:end] + after, before, after, self._near(text[start:end].lower()))
                for (start, end), (before, after) in zip(some, words_around(text, some), strict=True)
            ]
            for text, some in zip(texts, places, strict=True)
        ]
        wanted = sorted({text for some in asked for one in some if one.words for text in (one.text, *one.variants)})
        vectors = dict(zip(wanted, self._encoder.texts(wanted), strict=True))
        return [[one.rank(vectors) for one in some] for some in asked]

    def _near_words(self, word: str) -> tuple[str, ...]:
        at = self._places.get(word)
        if at is None:
            return ()
        alike = self._vectors @ self._vectors[at]
        best = alike.topk(min(NEAR + 1, len(self._words)))
        return tuple(
            self._words[i]
            for value, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            if i != at and value >= LEAST_SIMILAR
        )


def words_around(text: str, places: Sequence[Place]) -> list[tuple[str, str]]:
    """What stands before and after each place of a text, as far as `AROUND` words."""
    if not places:
        return []
    words = words_in(text)
    starts, ends = [start for start, _ in words], [end for _, end in words]
    found = []
    for start, end in places:
        first = bisect_left(starts, start) - AROUND
        last = bisect_right(ends, end) - 1 + AROUND
        found.append(
            (text[starts[first] if first > 0 else 0 : start], text[end : ends[last] if last < len(ends) else len(text)])
        )
    return found


def _rank_by_context(words: Sequence[str], alike: Sequence[float]) -> tuple[str, ...]:
    order = sorted(range(len(words)), key=lambda i: (-round(alike[i], 4), words[i]))
    return tuple(words[i] for i in order if alike[i] >= LEAST_ALIKE)


class MaskedWords:
    """The words that a masked language model puts in a place; BadInput for a base whose files lack its head."""

    def __init__(self, base: ModelPath, device: str) -> None:
        folder = Path(base.folder)
        if not has_masked_head(folder):
            raise BadInput(
                f"The augmenter masked needs a base with its masked language modelling head, and {base.manifest.ref} "
                "has none in its files. Train on one that has, such as google-bert/bert-base-uncased "
                "(llmos pull google-bert/bert-base-uncased), or take neighbour, which needs none",
                key="augment",
                value="masked",
                lacks="masked model",
                model=base.manifest.ref,
            )
        self._device = torch_device(device)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model: Any = AutoModelForMaskedLM.from_pretrained(folder, use_safetensors=True, local_files_only=True)
        self._model.to(self._device).eval()
        self._is_word = cache(self._word_of)

    def offers(self, word: str) -> bool:
        return True

    def propose(self, texts: Sequence[str], places: Sequence[Sequence[Place]]) -> list[list[tuple[str, ...]]]:
        """The likeliest whole words of each place, which is masked alone."""
        masked = [
            text[:start] + self._tokenizer.mask_token + text[end:]
            for text, some in zip(texts, places, strict=True)
            for start, end in some
        ]
        guesses = iter(self._guess(masked))
        return [[next(guesses) for _ in some] for some in places]

    @torch.inference_mode()
    def _guess(self, texts: Sequence[str]) -> list[tuple[str, ...]]:
        found: list[tuple[str, ...]] = [()] * len(texts)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), TEXTS_AT_ONCE):
            part = order[start : start + TEXTS_AT_ONCE]
            inputs = self._tokenizer([texts[i] for i in part], return_tensors="pt", padding=True, truncation=True)
            inputs = inputs.to(self._device)
            logits = self._model(**inputs).logits
            for nth, i in enumerate(part):
                at = (inputs["input_ids"][nth] == self._tokenizer.mask_token_id).nonzero()
                if len(at):  # a place that was cut off has no mask
                    best = logits[nth, int(at[0])].topk(min(GUESSES, logits.shape[-1])).indices.tolist()
                    found[i] = tuple(word for token in best if (word := self._is_word(token)))
        return found

    def _word_of(self, token: int) -> str:
        """The word that a token is by itself; empty for a part of one, a sign, or a special token."""
        word = self._tokenizer.decode([token]).strip()
        is_part = self._tokenizer.convert_ids_to_tokens(token).startswith("##")
        is_word = bool(word) and word.isalpha() and is_changeable(word) and not is_part
        return word if is_word and token not in self._tokenizer.all_special_ids else ""


def has_masked_head(folder: Path) -> bool:
    """Whether the files in this folder are those of a masked language model, with its output layer's own tensors."""
    config = folder / "config.json"
    named = json.loads(config.read_text(encoding="utf-8")).get("architectures") or [] if config.exists() else []
    if not any(str(name).endswith(("ForMaskedLM", "ForPreTraining")) for name in named):
        return False
    return any(name.startswith(HEADS) for file in folder.glob("*.safetensors") for name in _names(file))


HEADS = ("cls.predictions.", "lm_head.", "vocab_transform.", "head.", "generator_lm_head.", "generator_predictions.")


def _names(file: Path) -> Mapping[str, None]:
    with safe_open(file, framework="pt") as tensors:
        return dict.fromkeys(tensors.keys())
