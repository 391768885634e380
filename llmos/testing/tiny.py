"""Tiny random models of each architecture, in memory and as model folders. For tests: they know nothing, fast."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel

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
T5: Settings = {
    "vocab_size": len(SPECIAL) + 256,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 3,
    "num_heads": 4,
    "num_decoder_layers": 2,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
    "pad_token_id": PAD,
    "eos_token_id": SEP,
    "decoder_start_token_id": PAD,
    "task_specific_params": {
        "summarization": {"prefix": "summarize: "},
        "translation_en_to_de": {"prefix": "translate English to German: "},
    },
}
BART: Settings = {
    "vocab_size": len(SPECIAL) + 256,
    "d_model": 32,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 128,
    "bos_token_id": CLS,
    "eos_token_id": SEP,
    "pad_token_id": PAD,
    "decoder_start_token_id": SEP,
    "forced_eos_token_id": None,
}
READERS: dict[str, tuple[str, Settings]] = {  # encoders with a decoder: their kind, and its settings
    "t5": ("t5", T5),
    "t5_gated": ("t5", T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "mt5": ("mt5", {key: value for key, value in T5.items() if key != "task_specific_params"}),
    "marian": (
        "marian",
        BART | {"decoder_vocab_size": len(SPECIAL) + 256, "decoder_start_token_id": PAD, "scale_embedding": True},
    ),
    "bart": ("bart", BART),
    "mbart": ("mbart", BART | {"scale_embedding": True}),
}
RULED: dict[str, Settings] = {  # what their generation_config.json says beside the config
    "mt5": {
        "decoder_start_token_id": PAD,
        "suppress_tokens": list(range(4, 100)),
        "min_new_tokens": 9,
        "begin_suppress_tokens": list(range(100, 180)),
        "bad_words_ids": [[i, i] for i in range(180, 260)],
    },
    "marian": {"bad_words_ids": [[PAD]], "decoder_start_token_id": PAD},
    "bart": {"forced_bos_token_id": CLS, "no_repeat_ngram_size": 3, "min_length": 6, "decoder_start_token_id": SEP},
}


@cache
@torch.inference_mode(False)  # whoever asks first may be in it, and who comes after may want gradients
def plain(architecture: str) -> PreTrainedModel:
    """The model as transformers computes it, dropout off; the same one at every call."""
    if architecture in READERS:
        name, settings = READERS[architecture]
        config, kind = AutoConfig.for_model(name, **settings), AutoModelForSeq2SeqLM
    else:
        config = AutoConfig.for_model(architecture, **ARCHITECTURES[architecture])
        kind = AutoModelForCausalLM if architecture in DECODERS else AutoModel
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PreTrainedModel = kind.from_config(config, attn_implementation="eager")
        for parameter in model.parameters():  # larger than transformers starts with, so that a wrong mask shows
            if parameter.ndim > 1 and parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.2)
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_(std=0.2)
    if hasattr(model, "pooler"):
        model.pooler = None
    for key, value in RULED.get(architecture, {}).items():
        setattr(model.generation_config, key, value)
    return model.eval()


def tokenizer(*, closes: bool = True, opens: bool = True) -> Tokenizer:
    """One token per byte, so that any text goes in and comes out; between [CLS] and [SEP] where it closes.

    Readers' texts only end with [SEP], as in T5's family and Marian; it `opens` the others'.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *alphabet])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=SPECIAL[UNK]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(SPECIAL))
    ends = [(SPECIAL[CLS], CLS), (SPECIAL[SEP], SEP)]
    made.post_processor = processors.TemplateProcessing(
        single=("[CLS] $A [SEP]" if closes else "[CLS] $A") if opens else "$A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1" if closes else "[CLS] $A [SEP] $B:1",
        special_tokens=ends,
    )
    return made


def write(folder: Path, architecture: str) -> Path:
    """The model as a folder that can be pulled: safetensors, config, tokenizer, and a chat template for decoders."""
    folder.mkdir(parents=True, exist_ok=True)
    plain(architecture).save_pretrained(folder)
    is_decoder = architecture in DECODERS
    tokenizer(closes=not is_decoder, opens=architecture not in READERS or architecture == "bart").save(
        str(folder / "tokenizer.json")
    )
    about: Settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": SPECIAL[SEP],
        "bos_token": SPECIAL[CLS],
    }
    if is_decoder:
        about["chat_template"] = CHAT_TEMPLATE
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return folder
