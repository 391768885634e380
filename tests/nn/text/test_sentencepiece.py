"""Marian's SentencePiece files as tokenizers: the ids are vocab.json's, the pieces each language's own."""

from __future__ import annotations

import json
from importlib import import_module

import pytest

pytest.importorskip("torch")

from llmos.abi.error import BadInput
from llmos.nn.text import sentencepiece
from llmos.nn.text.tokenizer import FastTokenizer
from llmos.testing.errors import fails_with
from llmos.testing.pieces import STEERS, UNKNOWN, model

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


def test_a_language_code_is_one_token_and_an_unknown_letter_is_unknown(folder):
    (read,) = FastTokenizer(folder).encode([">>de<< the ßx"])
    assert pieces_of(folder, read.ids) == [">>de<<", f"{SPACE}the", SPACE, "ß", "<unk>", "</s>"]


def test_a_file_that_is_none_or_of_another_kind_is_refused(folder):
    (folder / "target.spm").write_bytes(model(TARGET, kind=2))
    with fails_with(BadInput, file="target.spm", reason="kind"):
        FastTokenizer(folder).encode_answer("die", special=False)
    for damaged in (b"", model(SOURCE)[:-9], b"\xff" * 40, b"<html>", model(SOURCE) + b"\x38" + b"\x80" * 20 + b"\x01"):
        (folder / "source.spm").write_bytes(damaged)
        with fails_with(BadInput, file="source.spm", reason=...):
            FastTokenizer(folder)
    (folder / "source.spm").write_bytes(model(SOURCE))
    (folder / "vocab.json").write_text('{"</s>": 5}')
    with fails_with(BadInput, file="vocab.json", reason="ids"):
        FastTokenizer(folder)


def converted(path, converter, **told):
    """The tokenizer that transformers makes of a model file; it reads the protocol buffer where protobuf is there."""
    pytest.importorskip("google.protobuf")
    from types import SimpleNamespace

    made = converter(SimpleNamespace(vocab_file=str(path), **told))
    named = [piece for piece, _ in made.vocab(made.proto)]
    made.original_tokenizer.convert_tokens_to_ids = named.index
    return made.converted()


T5 = {"<pad>": STEERS, "</s>": STEERS, "<unk>": UNKNOWN}
MBART = {"<unk>": UNKNOWN, "<s>": STEERS, "</s>": STEERS}
SAID = ("the cats", "  the   cat  ", "xyz the ß", "cat</s>the", "", "sat<unk>")


def test_t5s_model_splits_texts_as_transformers_does_and_has_its_extra_ids(tmp_path):
    from transformers.convert_slow_tokenizer import T5Converter

    (tmp_path / "spiece.model").write_bytes(model(SOURCE, special=T5))
    wanted = converted(tmp_path / "spiece.model", T5Converter, _extra_ids=4)
    for extra, room in ((4, None), (100, len(SOURCE) + 3 + 4)):
        (tmp_path / "config.json").write_text(json.dumps({} if room is None else {"vocab_size": room}))
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"extra_ids": extra, "eos_token": "</s>"}))
        one = FastTokenizer(tmp_path).parsing()
        assert one.size == len(SOURCE) + 3 + 4
        assert [made.ids for made in one.encode(SAID)] == [wanted.encode(text).ids for text in SAID]
        assert one.decode(one.encode(["the cats"])[0].ids) == "the cats"
        assert one.encode(["<extra_id_1> cat"])[0].ids[0] == len(SOURCE) + 3 + 2  # they come last first, each a token


@pytest.mark.parametrize("kind", ["MBart", "MBart50"])
def test_mbart_s_one_model_has_its_ids_and_its_languages_as_transformers_has_them(tmp_path, kind):
    convert_slow_tokenizer = import_module("transformers.convert_slow_tokenizer")  # also a function of the package

    (tmp_path / "sentencepiece.bpe.model").write_bytes(model(SOURCE, special=MBART))
    wanted = converted(tmp_path / "sentencepiece.bpe.model", getattr(convert_slow_tokenizer, f"{kind}Converter"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": f"{kind}Tokenizer"}))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"eos_token": "</s>"}))
    one = FastTokenizer(tmp_path).parsing()
    assert one.end_id == 2  # by the file that older folders have for it
    assert one.size == wanted.get_vocab_size()
    assert [made.ids for made in one.encode(SAID)] == [wanted.encode(text).ids for text in SAID]
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": f"{kind}Tokenizer", "src_lang": "xx_YY"})
    )
    with fails_with(BadInput, file="tokenizer_config.json", key="src_lang", value="xx_YY"):
        FastTokenizer(tmp_path)


@pytest.mark.parametrize("lacking", ["source.spm", "target.spm", "vocab.json"])
def test_a_marian_that_lacks_one_of_its_files_is_refused_with_its_name(folder, lacking):
    (folder / lacking).unlink()
    with fails_with(BadInput, lacks=[lacking]):
        FastTokenizer(folder)


@pytest.mark.parametrize(
    "said", [[], "text", None, {"</s>": "0"}, {"</s>": None, "<unk>": 1}, {"</s>": [0], "<unk>": 1}]
)
def test_a_vocabulary_that_is_json_of_another_kind_is_refused(folder, said):
    (folder / "vocab.json").write_text(json.dumps(said))
    with fails_with(BadInput, file="vocab.json", reason="no_pieces"):
        sentencepiece.tokenizer(folder, "source.spm")


def test_settings_that_are_no_object_are_refused(folder):
    (folder / "tokenizer_config.json").write_text("[]")
    with fails_with(BadInput, file="tokenizer_config.json"):
        sentencepiece.tokenizer(folder, "source.spm")
