"""Tiny random models of each architecture, in memory and as model folders. For tests: they know nothing, fast."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedModel

SPECIAL = ("[UNK]", "[PAD]", "[CLS]", "[SEP]")
UNK, PAD, CLS, SEP = range(4)
CHAT_TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"

Settings = dict[str, Any]  # Any: arguments of transformers' config classes

SHARED: Settings = {
    "vocab_size": len(SPECIAL) + 256,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "pad_token_id": PAD,
    "bos_token_id": CLS,
    "eos_token_id": SEP,
}
DECODER: Settings = SHARED | {"num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": True}
ARCHITECTURES: dict[str, Settings] = {
    "bert": SHARED,
    "roberta": SHARED,
    "distilbert": SHARED | {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4},
    "modernbert": SHARED
    | {"local_attention": 8, "global_attn_every_n_layers": 2, "cls_token_id": CLS, "sep_token_id": SEP},
    "electra": SHARED | {"embedding_size": 32},
    "mpnet": SHARED,  # brings an attention of its own
    "llama": DECODER,
    "qwen3": DECODER,
    "gemma3_text": DECODER
    | {
        "sliding_window": 6,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "query_pre_attn_scalar": 16,
    },
}
DECODERS = ("llama", "qwen3", "gemma3_text")


@cache
def plain(architecture: str) -> PreTrainedModel:
    """The model as transformers computes it, dropout off; the same one at every call."""
    config = AutoConfig.for_model(architecture, **ARCHITECTURES[architecture])
    kind = AutoModelForCausalLM if architecture in DECODERS else AutoModel
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PreTrainedModel = kind.from_config(config, attn_implementation="eager")
        for parameter in model.parameters():  # larger than transformers starts with, so that a wrong mask shows
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.2)
    if hasattr(model, "pooler"):
        model.pooler = None
    return model.eval()


def tokenizer(*, closes: bool = True) -> Tokenizer:
    """One token per byte, so that any text goes in and comes out; between [CLS] and [SEP] where it closes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *alphabet])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=SPECIAL[UNK]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(SPECIAL))
    ends = [(SPECIAL[CLS], CLS), (SPECIAL[SEP], SEP)]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]" if closes else "[CLS] $A",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1" if closes else "[CLS] $A [SEP] $B:1",
        special_tokens=ends,
    )
    return made


def write(folder: Path, architecture: str) -> Path:
    """The model as a folder that can be pulled: safetensors, config, tokenizer, and a chat template for decoders."""
    folder.mkdir(parents=True, exist_ok=True)
    plain(architecture).save_pretrained(folder)
    is_decoder = architecture in DECODERS
    tokenizer(closes=not is_decoder).save(str(folder / "tokenizer.json"))
    about: Settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": SPECIAL[SEP],
        "bos_token": SPECIAL[CLS],
    }
    if is_decoder:
        about["chat_template"] = CHAT_TEMPLATE
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return folder
