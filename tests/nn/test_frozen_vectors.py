"""Frozen vectors equal what the engine answers to embed calls, with and without an adapter, on one core and on two."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from llmos.abi.call import Call
from llmos.abi.error import BadInput
from llmos.abi.frame import ModelPath
from llmos.abi.model import Kind, Manifest
from llmos.engines.pytorch import PyTorchEngine
from llmos.nn.frozen_vectors import FrozenEncoder, embed_texts, embed_words
from llmos.nn.load import load_folder
from llmos.nn.packing import forward, pack
from llmos.testing import adapters, tiny
from llmos.testing.errors import fails_with

pytestmark = pytest.mark.torch

TEXTS = tuple("word " * (1 + i % 20) + "x" * (i % 7) for i in range(60))


def located(folder, **more):
    return ModelPath(Manifest("base", 1, Kind.BASE, "embed", (), **more), str(folder))


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("models") / "bert", "bert")


def answers(model, texts, base):
    """The vectors that the engine answers."""
    threads = torch.get_num_threads()
    engine = PyTorchEngine()
    engine.load(base, "cpu0", "float32", 1)
    if model is not base:
        engine.attach(model)
    engine.add(Call(1, model.manifest.ref, "embed", tuple(texts)))
    found = []
    while not engine.is_idle:
        found += [output for chunk in engine.step() for output in chunk.outputs]
    torch.set_num_threads(threads)
    return np.stack([np.frombuffer(one["data"], "<f4") for one in found])


@pytest.mark.parametrize("architecture", ["bert", "mpnet", "llama"])
@pytest.mark.parametrize("threads", [1, 2])
def test_vectors_equal_the_answers_to_embed_calls(tmp_path, architecture, threads):
    base = located(tiny.write(tmp_path / "base", architecture))
    np.testing.assert_allclose(embed_texts(base, TEXTS, threads=threads), answers(base, TEXTS, base), atol=2e-5)


@pytest.mark.parametrize("architecture", ["bert", "mpnet", "llama"])
def test_two_layers_are_read_in_one_pass_and_the_last_is_the_same(tmp_path, architecture):
    encoder = FrozenEncoder(located(tiny.write(tmp_path / "base", architecture)))
    last, middle = encoder.texts_of_layers(TEXTS)
    np.testing.assert_allclose(last, encoder.texts(TEXTS), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(middle, axis=1), 1, atol=1e-5)
    has_others = architecture != "mpnet"  # whose attention is its own: each length is a pass
    assert has_others != np.allclose(last, middle, atol=1e-2)


def test_only_the_first_tokens_count_where_a_bound_is_set(bert):
    long = "word " * 30
    encoder = FrozenEncoder(located(bert), most_tokens=8)
    np.testing.assert_allclose(encoder.texts([long])[0], encoder.texts([long + "other words"])[0])
    assert encoder.max_tokens > 8


def test_an_adapter_changes_the_vectors_as_it_does_in_the_engine(bert, tmp_path):
    base = located(bert)
    folder = adapters.write(tmp_path / "adapter", load_folder(bert).backbone)
    manifest = Manifest("mine", 1, Kind.MODEL, "similarity", (), method="lora", base="base:1")
    mine = ModelPath(manifest, str(folder), base=base)
    found = embed_texts(mine, TEXTS, threads=2)
    served = answers(ModelPath(Manifest("mine", 1, Kind.MODEL, "embed", (), method="lora"), str(folder)), TEXTS, base)
    np.testing.assert_allclose(found, served, atol=2e-5)
    assert not np.allclose(found, embed_texts(base, TEXTS), atol=0.01)


def test_a_text_that_is_too_long_is_cut_and_progress_ends_with_all(bert):
    encoder, done = FrozenEncoder(located(bert)), []
    long = "a" * 5000
    vectors = encoder.texts([long, "short"], on_done=done.append)
    assert done == [2]
    kept = encoder.max_tokens - 2  # of a byte each, between two control tokens
    np.testing.assert_allclose(vectors[0], encoder.texts([long[:kept]])[0], atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_words_vector_is_the_mean_of_its_tokens(bert):
    sentences = [["ab", "c"], ["one"], ["z", "yy", "xxx"]]
    found = embed_words(located(bert), sentences)
    assert [len(found.of(i)) for i in range(3)] == [2, 1, 3]
    loaded = load_folder(bert)
    for i, words in enumerate(sentences):
        (encoded,) = loaded.tokenizer.encode_words([words])
        with torch.inference_mode():
            states = forward(loaded.backbone, pack([encoded.ids])).numpy()
        for word in range(len(words)):
            mean = states[[at for at, owner in enumerate(encoded.words) if owner == word]].mean(axis=0)
            np.testing.assert_allclose(found.of(i)[word], mean, atol=2e-5)


def test_words_without_tokens_and_beyond_the_limit_have_zeros(bert):
    encoder = FrozenEncoder(located(bert))
    words = ["w"] * (encoder.max_tokens + 10)
    found = encoder.words([words, []])
    assert found.vectors.shape == (len(words), encoder.size)
    is_zero = ~found.of(0).any(axis=1)
    assert is_zero[encoder.max_tokens :].all()
    assert not is_zero[: encoder.max_tokens // 2 - 1].any(), "a word has two tokens at most: its letter and a space"
    assert len(found.of(1)) == 0


def test_an_encoder_with_a_decoder_gives_no_vectors(tmp_path):
    with fails_with(BadInput, reason="no_vectors"):
        FrozenEncoder(located(tiny.write(tmp_path / "t5", "t5")))
