"""Marian's SentencePiece files as tokenizers: the ids are vocab.json's, the pieces each language's own."""

from __future__ import annotations

import json
import struct

import pytest

pytest.importorskip("torch")

from llmos.abi.error import BadInput
from llmos.nn import sentencepiece
from llmos.nn.tokenizer import FastTokenizer

pytestmark = pytest.mark.torch

SPACE = sentencepiece.SPACE
SOURCE = {
    f"{SPACE}the": -1.0,
    f"{SPACE}": -3.0,
    "cat": -2.0,
    "c": -6.0,
    "a": -6.0,
    "t": -6.0,
    "s": -4.0,
    "h": -7.0,
    "e": -7.0,
}
TARGET = {f"{SPACE}die": -1.0, f"{SPACE}": -3.0, "Katze": -2.0, "ß": -5.0, "d": -7.0, "i": -7.0, "e": -7.0, "t": -7.0}


def varint(value):
    made = b""
    while value > 127:
        made += bytes([value & 127 | 128])
        value >>= 7
    return made + bytes([value])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def model(pieces, kind=1):
    """The file that SentencePiece would write of these pieces."""
    made = field(1, field(1, b"<unk>") + varint(2 << 3 | 5) + struct.pack("<f", 0) + varint(3 << 3) + varint(2))
    for piece, score in pieces.items():
        made += field(1, field(1, piece.encode()) + varint(2 << 3 | 5) + struct.pack("<f", score))
    return made + field(2, varint(3 << 3) + varint(kind)) + field(3, field(1, b"identity"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "source.spm").write_bytes(model(SOURCE))
    (tmp_path / "target.spm").write_bytes(model(TARGET))
    pieces = ["</s>", "<unk>", ">>de<<", *sorted({*SOURCE, *TARGET}), "<pad>"]
    (tmp_path / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "model_max_length": 512}))
    return tmp_path


def pieces_of(folder, ids):
    named = {i: piece for piece, i in json.loads((folder / "vocab.json").read_text()).items()}
    return [named[i] for i in ids]


def test_what_is_read_is_split_by_one_model_and_what_is_written_by_the_other(folder):
    one = FastTokenizer(folder)
    (read,) = one.encode(["the cats"])
    assert pieces_of(folder, read.ids) == [f"{SPACE}the", SPACE, "cat", "s", "</s>"]
    written = one.encode_answer("die  Katze", special=True)
    assert pieces_of(folder, written) == [f"{SPACE}die", SPACE, "Katze", "</s>"]
    assert one.decode(written) == "die Katze"
    assert one.end_id == 0
    assert one.max_tokens == 512


def test_a_language_s_code_is_one_token_and_an_unknown_letter_is_the_other_s_or_unknown(folder):
    (read,) = FastTokenizer(folder).encode([">>de<< the ßx"])
    assert pieces_of(folder, read.ids) == [">>de<<", f"{SPACE}the", SPACE, "ß", "<unk>", "</s>"]


def test_a_file_that_is_none_or_of_another_kind_is_refused(folder):
    (folder / "target.spm").write_bytes(model(TARGET, kind=2))
    with pytest.raises(BadInput, match="must be unigram"):
        FastTokenizer(folder).encode_answer("die", special=False)
    for damaged in (b"", model(SOURCE)[:-9], b"\xff" * 40, b"<html>", model(SOURCE) + b"\x38" + b"\x80" * 20 + b"\x01"):
        (folder / "source.spm").write_bytes(damaged)
        with pytest.raises(BadInput, match=r"source\.spm is"):
            FastTokenizer(folder)
    (folder / "source.spm").write_bytes(model(SOURCE))
    (folder / "vocab.json").write_text('{"</s>": 5}')
    with pytest.raises(BadInput, match="is not a vocabulary of Marian's"):
        FastTokenizer(folder)
