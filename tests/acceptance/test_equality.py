"""The real starter models, packed, beside the same weights as transformers runs them, one text at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from llmos.abi.model import Manifest
from llmos.abi.wire import from_json
from llmos.kernel.store.resident_forms import form_key, form_name
from llmos.nn.load import load_folder
from llmos.nn.packing import forward, pack
from llmos.nn.text.tokenizer import FastTokenizer

pytestmark = [pytest.mark.acceptance, pytest.mark.torch]

CLOSE = 1e-5  # of the largest number that the model itself gives
TEXTS = (
    "Where is my parcel?",
    "I was charged twice for the same order, and nobody answers my letters. " * 6,
    "no",
    "The quick brown fox jumps over the lazy dog",
    "Ada Lovelace met Charles Babbage in London in 1833.",
    "¿Dónde está mi pedido? 退款",
)


def farthest(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


def folder_of(starters, name):
    if starters is None:
        pytest.skip("the starter models cannot be pulled from here")
    return starters / "models" / name / "1"


def form_of(starters, name):
    """The form that this machine serves it in, whatever its dtype: there its tokenizer is one file."""
    if starters is None:
        pytest.skip("the starter models cannot be pulled from here")
    manifest = from_json((starters / "names" / name / "1.json").read_bytes(), Manifest)
    return next((starters / "resident").glob(f"{form_key(manifest)}-*"))


@torch.inference_mode()
def test_minilm_packed_gives_the_hidden_states_of_the_model_itself(starters):
    from transformers import AutoModel

    folder = folder_of(starters, "minilm")
    ours = load_folder(folder)
    theirs = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    texts = [one.ids for one in ours.tokenizer.encode(TEXTS)]
    packed = forward(ours.backbone, pack(texts, ours.device)).split([len(ids) for ids in texts])
    for ids, hidden in zip(texts, packed, strict=True):
        assert farthest(hidden, theirs(torch.tensor([ids])).last_hidden_state[0]) < CLOSE


@torch.inference_mode()
def test_smollm2_packed_gives_the_logits_of_the_model_itself(starters, tmp_path):
    from transformers import AutoModelForCausalLM

    from llmos.nn import resident

    folder = folder_of(starters, "smollm2")
    manifest = from_json((starters / "names" / "smollm2" / "1.json").read_bytes(), Manifest)
    form = starters / "resident" / form_name(manifest, "float32")
    if not form.exists():  # this machine serves it in another dtype
        form = tmp_path / "form"
        resident.make(folder, "float32", form)
    ours = load_folder(form)
    theirs = AutoModelForCausalLM.from_pretrained(form, dtype=torch.float32).eval()
    texts = [one.ids for one in ours.tokenizer.encode(TEXTS)]
    hidden = forward(ours.backbone, pack(texts, ours.device)).split([len(ids) for ids in texts])
    for ids, states in zip(texts, hidden, strict=True):
        logits = ours.causal.get_output_embeddings()(states)
        assert farthest(logits, theirs(torch.tensor([ids])).logits[0]) < CLOSE


@pytest.mark.parametrize("name", ["minilm", "smollm2"])
def test_text_without_control_tokens_is_split_as_published_and_with_them_as_text(starters, name):
    folder = form_of(starters, name)
    published = Tokenizer.from_file(str(folder / "tokenizer.json"))
    published.no_truncation()
    published.no_padding()
    ours = FastTokenizer(folder)
    names = [*ours.controls.ids]

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.one_of(st.text(max_size=12), st.sampled_from([*PIECES, *names]))).map("".join))
    def holds(text: str) -> None:
        text = text.encode("utf-8", "ignore").decode()
        has_control = any(one.lower() in text.lower() for one in names)
        if not has_control:
            assert ours.encode([text])[0].ids == published.encode(text).ids
            assert ours.controls.plain.encode(text).ids == published.encode(text).ids
        inside = ours.encode([text], special=False)[0].ids
        unknown = published.token_to_id("[UNK]")
        assert not {*inside} & (ours.controls.known - {unknown})

    holds()


PIECES = (
    "def f(x):\n\treturn x<<1 | y",
    "<|im_",
    "end|>",
    "[SE",
    "P]",
    " ",
    "\n\n",
    "é",
    "日本",
    "ｆｕｌｌ",
    "a",
    "``",
    "<",
    "|>",
)


def test_a_conversation_without_control_tokens_is_split_as_published(starters):
    folder = form_of(starters, "smollm2")
    published = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ours = FastTokenizer(folder)

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.one_of(st.text(max_size=12), st.sampled_from(PIECES)), min_size=1).map("".join))
    def holds(text: str) -> None:
        text = text.encode("utf-8", "ignore").decode()
        if any(one in text for one in ours.controls.ids):
            return
        marked = ours.chat([{"role": "user", "content": text}])
        plain = ours.parsing().chat([{"role": "user", "content": text}])
        assert ours.controls.unmark(marked) == plain
        assert ours.encode([marked], special=False)[0].ids == published.encode(plain, add_special_tokens=False).ids
        assert (
            ours.controls.plain.encode(marked, add_special_tokens=False).ids
            == ours.encode([marked], special=False)[0].ids
        )

    holds()
