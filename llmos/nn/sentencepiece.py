"""Marian's two SentencePiece models as tokenizers, of what is read and of what is written, with vocab.json's ids.

A model file is a protocol buffer; of it are read the pieces with their scores, and how text is normalized. transformers
wants the package sentencepiece for these files, and splits text slowly; here they become tokenizer.json's kind.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from llmos.abi.error import BadInput

SOURCE, TARGET, VOCABULARY, SETTINGS = "source.spm", "target.spm", "vocab.json", "tokenizer_config.json"
NORMAL, UNIGRAM = 1, 1  # a piece of text; the kind of model
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
FOREIGN = 1e4  # so much worse, a character, is a piece of the other language: single ones stand where nothing else can
END, UNKNOWN, PADDING = "</s>", "<unk>", "<pad>"

Field = tuple[int, int, Any]  # Any: a number or bytes, by its kind: (number, kind, value)


@dataclass(frozen=True, slots=True)
class Pieces:
    """What a model file says."""

    scores: Mapping[str, float]
    charsmap: bytes


def is_there(folder: Path) -> bool:
    return all((folder / name).exists() for name in (SOURCE, TARGET, VOCABULARY))


def tokenizer(folder: Path, name: str) -> Tokenizer:
    """The tokenizer that one of the two makes, as transformers' MarianTokenizer splits text."""
    settings = json.loads((folder / SETTINGS).read_text()) if (folder / SETTINGS).exists() else {}
    if settings.get("separate_vocabs"):
        raise BadInput(f"{folder.name} has a vocabulary for each language, which is not read here. Take another model")
    ids: dict[str, int] = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
    if sorted(ids.values()) != list(range(len(ids))) or not {END, UNKNOWN} <= ids.keys():
        raise BadInput(f"{folder.name}/{VOCABULARY} is not a vocabulary of Marian's: its ids are not 0 to its size")
    pieces = read(folder / name)
    ordered = sorted(ids, key=ids.__getitem__)
    scored = [(one, pieces.scores.get(one, -FOREIGN * (2 * len(one) - 1))) for one in ordered]
    made = Tokenizer(models.Unigram(scored, unk_id=ids[UNKNOWN]))
    steps = [normalizers.Precompiled(pieces.charsmap)] if pieces.charsmap else []
    made.normalizer = normalizers.Sequence([*steps, normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="always")
    made.decoder = decoders.Metaspace(SPACE, prepend_scheme="always")
    made.add_special_tokens([one for one in (END, UNKNOWN, PADDING) if one in ids])
    codes = [one for one in ordered if one.startswith(">>") and one.endswith("<<")]  # languages to write
    made.add_tokens([AddedToken(one, normalized=False) for one in codes])
    made.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, ids[END])])
    return made


def read(path: Path) -> Pieces:
    """The pieces of a SentencePiece model; BadInput for a file that is none, or of a kind that is not read here."""
    scores: dict[str, float] = {}
    charsmap, kind = b"", UNIGRAM
    try:
        for number, _, value in _fields(path.read_bytes()):
            if number == 1:
                piece = {n: v for n, _, v in _fields(value)}
                if piece.get(3, NORMAL) == NORMAL:
                    scores[piece[1].decode()] = piece.get(2, 0.0)
            elif number == 2:
                kind = next((v for n, _, v in _fields(value) if n == 3), UNIGRAM)
            elif number == 3:
                charsmap = next((v for n, _, v in _fields(value) if n == 2), b"")
    except (IndexError, KeyError, ValueError, TypeError, AttributeError, struct.error) as error:
        raise BadInput(f"{path.name} is no SentencePiece model that can be read. Fetch it again") from error
    if kind != UNIGRAM or not scores:
        raise BadInput(f"{path.name} is a SentencePiece model of a kind that is not read here: it must be unigram")
    return Pieces(scores, charsmap)


def _fields(data: bytes) -> Iterator[Field]:
    """The fields of a protocol buffer's message, in order."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        value: Any  # as Field
        if kind == 0:
            value, at = _varint(data, at)
        elif kind == 1:
            (value,), at = struct.unpack_from("<d", data, at), at + 8
        elif kind == 5:
            (value,), at = struct.unpack_from("<f", data, at), at + 4
        elif kind == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
            if at > len(data):
                raise ValueError("it is cut short")
        else:
            raise ValueError(f"a field of kind {kind}")
        yield key >> 3, kind, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("a number of more than 64 bits")
