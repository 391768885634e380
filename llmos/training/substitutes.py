"""Words that could stand in a text instead of others: near ones by embeddings, and a masked model's guesses."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoModelForMaskedLM, AutoTokenizer

from llmos.abi.augmentation import Augmentation
from llmos.abi.error import BadInput
from llmos.abi.frame import ModelPath
from llmos.data.augmentation.augmenter import Material, Substitutes
from llmos.data.augmentation.places import Place, is_changeable
from llmos.data.row import Row
from llmos.nn.load import Loaded, load, torch_device
from llmos.nn.packing import forward, pack, pool

NEAR = 6  # words by their embeddings, which are then ranked in their context
LEAST_SIMILAR = 0.35  # cosine of two words' embeddings, less the mean of all
LEAST_ALIKE = 0.8  # cosine of the text's vectors before and after
TEXTS_AT_ONCE = 32
GUESSES = 12  # of a masked model for one word
ROW_TOKENS = 1024


def find_material(task: str, rows: Sequence[Row], how: Augmentation, base: ModelPath, device: str) -> Material:
    """The training rows with what the augmenters asked for need of the base; BadInput where it lacks that."""
    substitutes: dict[str, Substitutes] = {}
    if "neighbour" in how.by:
        substitutes["neighbour"] = NeighbourWords(base, device, Material(task, rows).vocabulary[0])
    if "masked" in how.by:
        substitutes["masked"] = MaskedWords(base, device)
    return Material(task, rows, substitutes, lacks=dict.fromkeys(("paraphrase", "back-translation"), NO_WRITER))


NO_WRITER = "it needs a model that says texts in other words, and a training run has only its base. Leave it out"


class NeighbourWords:
    """Words of the training rows whose input embeddings are near; the base's text vectors choose those that fit.

    Only words of one token have an embedding of their own; others get no proposals.
    """

    def __init__(self, base: ModelPath, device: str, words: Sequence[str]) -> None:
        self._loaded = load(base, dtype="float32", device=device)
        if self._loaded.reader is not None or self._loaded.causal is not None:
            raise BadInput(
                f"The augmenter neighbour needs an encoder, and {base.manifest.ref} generates text. Leave it out",
                key="augment",
                value="neighbour",
                lacks="base",
            )
        self._tokens = _single_tokens(self._loaded, words)
        backbone: Any = self._loaded.backbone  # Any: transformers' methods, which nn.Module does not declare
        table = backbone.get_input_embeddings().weight.detach().float()
        self._words = sorted(self._tokens)
        ids = torch.tensor([self._tokens[word] for word in self._words], dtype=torch.long, device=table.device)
        self._vectors = normalize(table[ids] - table.mean(0), dim=-1) if self._words else table[:0]
        self._places = {word: i for i, word in enumerate(self._words)}
        self._near = cache(self._near_words)

    def propose(self, texts: Sequence[str], places: Sequence[Sequence[Place]]) -> list[list[tuple[str, ...]]]:
        """The near words of each place, those first with which the text's vector changes least."""
        return [
            found
            for start in range(0, len(texts), TEXTS_AT_ONCE)
            for found in self._propose(texts[start : start + TEXTS_AT_ONCE], places[start : start + TEXTS_AT_ONCE])
        ]

    def _propose(self, texts: Sequence[str], places: Sequence[Sequence[Place]]) -> list[list[tuple[str, ...]]]:
        near = [[self._near(text[s:e].lower()) for s, e in some] for text, some in zip(texts, places, strict=True)]
        changed = [
            text[:start] + word + text[end:]
            for text, some, found in zip(texts, places, near, strict=True)
            for (start, end), words in zip(some, found, strict=True)
            for word in words
        ]
        whole, others = self._text_vectors(texts), iter(self._text_vectors(changed))
        return [
            [_rank_by_context(words, [float(next(others) @ vector) for _ in words]) for words in found]
            for vector, found in zip(whole, near, strict=True)
        ]

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

    @torch.inference_mode()
    def _text_vectors(self, texts: Sequence[str]) -> list[Tensor]:
        """Vectors of length 1, each computed from the text alone and those of its packed row."""
        limit = self._loaded.max_tokens
        ids = [one.ids[:limit] for one in self._loaded.tokenizer.encode(texts)] if texts else []
        found: list[Tensor] = [torch.zeros(self._loaded.hidden_size)] * len(ids)
        for part in _parts(ids):
            hidden = forward(self._loaded.backbone, pack([ids[i] for i in part], self._loaded.device))
            vectors = normalize(pool(hidden.float(), [len(ids[i]) for i in part], "mean"), dim=-1).cpu()
            for i, vector in zip(part, vectors, strict=True):
                found[i] = vector
        return found


def _rank_by_context(words: Sequence[str], alike: Sequence[float]) -> tuple[str, ...]:
    order = sorted(range(len(words)), key=lambda i: (-round(alike[i], 4), words[i]))
    return tuple(words[i] for i in order if alike[i] >= LEAST_ALIKE)


def _parts(ids: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    part: list[int] = []
    tokens = 0
    for i in sorted((i for i, one in enumerate(ids) if one), key=lambda i: len(ids[i])):
        if part and tokens + len(ids[i]) > ROW_TOKENS:
            yield part
            part, tokens = [], 0
        part.append(i)
        tokens += len(ids[i])
    if part:
        yield part


def _single_tokens(loaded: Loaded, words: Iterable[str]) -> dict[str, int]:
    """The small-lettered words that the tokenizer has as one token."""
    small = sorted({word.lower() for word in words if word.isalpha()})
    found = loaded.tokenizer.encode(small, special=False) if small else []
    return {word: one.ids[0] for word, one in zip(small, found, strict=True) if len(one.ids) == 1}


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
