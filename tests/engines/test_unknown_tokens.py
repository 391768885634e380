"""An answer says how many tokens of each input the vocabulary lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from llmos.abi.call import Call
from llmos.abi.frame import ModelPath
from llmos.abi.model import Kind, Manifest
from llmos.engines.pytorch import PyTorchEngine
from llmos.testing import tiny

pytestmark = pytest.mark.torch


def engine(folder: Path) -> PyTorchEngine:
    made = PyTorchEngine(token_budget=64)
    made.load(ModelPath(Manifest("base", 1, Kind.BASE, "", ()), str(folder)), "cpu0", "float32", 0)
    return made


def unknown_of(engine: PyTorchEngine, *texts: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    engine.add(Call(1, "base:1", "embed", texts))
    while not engine.is_idle:
        for chunk in engine.step():
            assert chunk.fault is None, chunk.fault
            return chunk.sizes, chunk.unknown
    raise AssertionError("no answer")


def test_words_that_a_word_piece_vocabulary_lacks_are_counted_by_input(tmp_path):
    folder = tiny.write(tmp_path / "bert", "bert")
    words = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "a", "good", "film"]
    made = Tokenizer(models.WordPiece({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(words[:5])
    made.save(str(folder / "tokenizer.json"))
    served = engine(folder)
    assert unknown_of(served, "a good film", "good \N{GRINNING FACE} ราคา film") == ((3, 4), (0, 2))
    assert unknown_of(served, "a good film") == ((3,), ())


def test_a_byte_level_vocabulary_lacks_the_characters_that_it_reads_in_parts(tmp_path):
    served = engine(tiny.write(tmp_path / "bert", "bert"))
    assert unknown_of(served, "a text", "ascii alone")[1] == ()
    (_, sad) = unknown_of(served, "a text", "\N{GRINNING FACE}")[1]
    assert sad >= 2
