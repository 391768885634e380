"""SentencePiece models (T5, mBART, Marian) as fast tokenizers.

A model file is a protocol buffer, of which the pieces, their scores and the normalization are read. transformers needs
the package sentencepiece for these files and tokenizes slowly; here they become a tokenizer.json.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from llmos.abi.error import BadInput
from llmos.nn.called import name_of

SOURCE, TARGET, VOCABULARY, SETTINGS = "source.spm", "target.spm", "vocab.json", "tokenizer_config.json"
T5, MBART = "spiece.model", "sentencepiece.bpe.model"
NORMAL, UNIGRAM = 1, 1  # the type of a normal piece; the type of a unigram model
SPECIAL = (2, 3)  # types of pieces: unknown, and control
OPENED = ("<s>", "<pad>", "</s>", "<unk>")  # mBART's first ids; the file has three others in their place
EXTRA_IDS = 100  # tokens for gaps in a text, which T5's vocabulary has after the file's pieces
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
FOREIGN = 1e4  # penalty per character on pieces of the other language: they stand only where no other piece fits
END, UNKNOWN, PADDING = "</s>", "<unk>", "<pad>"

Field = tuple[int, int, Any]  # Any: an integer or bytes, by its type: (number, type, value)


@dataclass(frozen=True, slots=True)
class Pieces:
    """The contents of a model file."""

    ordered: Sequence[tuple[str, float, int]]  # with their types; an id is an index
    charsmap: bytes
    falls_to_bytes: bool

    @property
    def scores(self) -> Mapping[str, float]:
        return {piece: score for piece, score, kind in self.ordered if kind == NORMAL}


def is_there(folder: Path) -> bool:
    """Whether Marian's files are in the folder; BadInput if it has only some of them and no other tokenizer."""
    lacking = [name for name in (SOURCE, TARGET, VOCABULARY) if not (folder / name).exists()]
    is_marian = _json(folder / SETTINGS).get("tokenizer_class") == "MarianTokenizer"
    is_begun = is_marian or not {SOURCE, TARGET} <= {*lacking}
    if lacking and is_begun and not (folder / "tokenizer.json").exists():
        raise BadInput(
            f"{name_of(folder)} lacks {' and '.join(lacking)}: Marian's tokenizer is made of {SOURCE}, {TARGET} and "
            f"{VOCABULARY} together. Put what lacks beside them",
            lacks=lacking,
        )
    return not lacking


def single(folder: Path) -> Tokenizer | None:
    """The tokenizer of a folder with one SentencePiece model for input and output; None if there is none."""
    settings = _json(folder / SETTINGS)
    if (folder / T5).exists():
        pieces = read(folder / T5)
        extra, room = int(settings.get("extra_ids", EXTRA_IDS)), _json(folder / "config.json").get("vocab_size")
        extra = extra if room is None else min(extra, int(room) - len(pieces.ordered))
        gaps = [(f"<extra_id_{i}>", 0.0, SPECIAL[1]) for i in range(extra - 1, -1, -1)]
        return _whole([*pieces.ordered, *gaps], pieces, f"$A {END}")
    if (folder / MBART).exists():
        pieces = read(folder / MBART)
        fifty = "50" in str(settings.get("tokenizer_class"))
        source = str(settings.get("src_lang") or "en_XX")
        codes = _codes(fifty=fifty)
        if source not in codes:
            raise BadInput(
                f"{name_of(folder)}/{SETTINGS} has src_lang {source!r}; there are {', '.join(codes)}",
                file=SETTINGS,
                key="src_lang",
                value=source,
                expected=list(codes),
            )
        opened = [(one, 0.0, SPECIAL[1]) for one in OPENED]
        closed = [(one, 0.0, SPECIAL[1]) for one in (*codes, "<mask>")]
        form = f"{source} $A {END}" if fifty else f"$A {END} {source}"
        return _whole([*opened, *pieces.ordered[len(OPENED) - 1 :], *closed], pieces, form)
    return None


def _codes(*, fifty: bool) -> Sequence[str]:
    """mBART's language codes, in the order of their ids."""
    if fifty:
        from transformers.models.mbart50 import tokenization_mbart50 as module
    else:
        from transformers.models.mbart import tokenization_mbart as module
    found: Sequence[str] = module.FAIRSEQ_LANGUAGE_CODES
    return found


def _whole(ordered: Sequence[tuple[str, float, int]], pieces: Pieces, form: str) -> Tokenizer:
    """A tokenizer with these pieces as its ids; `form` is the template of tokens around a text."""
    ids = {piece: i for i, (piece, _, _) in enumerate(ordered)}
    if not {END, UNKNOWN} <= ids.keys() or len(ids) != len(ordered):
        raise BadInput(f"The SentencePiece model has no {END} or no {UNKNOWN}, or a piece twice. Fetch it again")
    scored = [(piece, score) for piece, score, _ in ordered]
    made = Tokenizer(models.Unigram(scored, unk_id=ids[UNKNOWN], byte_fallback=pieces.falls_to_bytes))
    _as_read(made, pieces)
    made.add_special_tokens([AddedToken(piece, normalized=False) for piece, _, kind in ordered if kind in SPECIAL])
    around = [one for one in form.split() if one != "$A"]
    made.post_processor = processors.TemplateProcessing(single=form, special_tokens=[(one, ids[one]) for one in around])
    return made


def _as_read(made: Tokenizer, pieces: Pieces) -> None:
    """Add SentencePiece's normalization before tokenizing and its decoding after."""
    steps = [normalizers.Precompiled(pieces.charsmap)] if pieces.charsmap else []
    made.normalizer = normalizers.Sequence([*steps, normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="always")
    made.decoder = decoders.Metaspace(SPACE, prepend_scheme="always")
    if pieces.falls_to_bytes:
        made.decoder = decoders.Sequence([decoders.ByteFallback(), made.decoder])


def tokenizer(folder: Path, name: str) -> Tokenizer:
    """The tokenizer of one of the two models, tokenizing as transformers' MarianTokenizer does."""
    settings = _json(folder / SETTINGS)
    if settings.get("separate_vocabs"):
        raise BadInput(
            f"{name_of(folder)} has a vocabulary for each language, which is not read here. Take another model"
        )
    ids: dict[str, int] = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
    if not isinstance(ids, dict) or not all(type(one) is int for one in ids.values()):
        raise BadInput(
            f"{name_of(folder)}/{VOCABULARY} is no JSON object of pieces and their ids. Fetch it again",
            file=VOCABULARY,
            reason="no_pieces",
        )
    if sorted(ids.values()) != list(range(len(ids))) or not {END, UNKNOWN} <= ids.keys():
        raise BadInput(
            f"{name_of(folder)}/{VOCABULARY} is not a vocabulary of Marian's: its ids are not 0 to its size",
            file=VOCABULARY,
            reason="ids",
        )
    pieces = read(folder / name)
    ordered, scores = sorted(ids, key=ids.__getitem__), pieces.scores
    scored = [(one, scores.get(one, -FOREIGN * (2 * len(one) - 1))) for one in ordered]
    made = Tokenizer(models.Unigram(scored, unk_id=ids[UNKNOWN]))
    _as_read(made, pieces)
    made.add_special_tokens([one for one in (END, UNKNOWN, PADDING) if one in ids])
    codes = [one for one in ordered if one.startswith(">>") and one.endswith("<<")]  # target languages
    made.add_tokens([AddedToken(one, normalized=False) for one in codes])
    made.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, ids[END])])
    return made


def read(path: Path) -> Pieces:
    """Read a SentencePiece model; BadInput if the file is not one, or not of a supported type."""
    ordered: list[tuple[str, float, int]] = []
    charsmap, kind, falls_to_bytes = b"", UNIGRAM, False
    try:
        for number, _, value in _fields(path.read_bytes()):
            if number == 1:
                piece = {n: v for n, _, v in _fields(value)}
                ordered.append((piece[1].decode(), piece.get(2, 0.0), piece.get(3, NORMAL)))
            elif number == 2:
                told = {n: v for n, _, v in _fields(value)}
                kind, falls_to_bytes = told.get(3, UNIGRAM), bool(told.get(35, False))
            elif number == 3:
                charsmap = next((v for n, _, v in _fields(value) if n == 2), b"")
    except (IndexError, KeyError, ValueError, TypeError, AttributeError, struct.error) as error:
        raise BadInput(
            f"{path.name} is no SentencePiece model that can be read. Fetch it again", file=path.name, reason="damaged"
        ) from error
    if kind != UNIGRAM or not any(of == NORMAL for _, _, of in ordered):
        raise BadInput(
            f"{path.name} is a SentencePiece model of a kind that is not read here: it must be unigram",
            file=path.name,
            reason="kind",
            expected="unigram",
        )
    return Pieces(ordered, charsmap, falls_to_bytes)


def _json(path: Path) -> dict[str, Any]:  # Any: a file of transformers, read by key
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}  # Any: as above
    if not isinstance(found, dict):
        raise BadInput(f"{name_of(path.parent)}/{path.name} is no JSON object. Fetch it again", file=path.name)
    return found


def _fields(data: bytes) -> Iterator[Field]:
    """The fields of a protocol buffer message, in order."""
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
