"""A tiny random model as a GGUF file, its vocabulary one token a letter or byte. For tests: it knows nothing, fast."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType

HIDDEN, HEADS, LAYERS, INNER = 32, 2, 2, 64
MAX_TOKENS = 128
SPECIAL = ("<unk>", "<s>", "</s>")
LETTERS = tuple("▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?'\"{}[]()-_/")
TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}<assistant>"


def write_gguf(
    path: Path, *, seed: int = 11, with_template: bool = True, template: str = TEMPLATE, max_tokens: int = MAX_TOKENS
) -> Path:
    """A llama of two layers in this file; the same seed gives the same bytes."""
    random = np.random.default_rng(seed)
    writer = GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_context_length(max_tokens)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    count = _add_vocabulary(writer)
    if with_template:
        writer.add_chat_template(template)
    for name, rows, columns in _shapes(count):
        weight = np.ones(columns) if rows == 0 else random.normal(0.0, 0.5, (rows, columns))
        writer.add_tensor(name, weight.astype(np.float32), raw_dtype=GGMLQuantizationType.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_vocabulary(writer: GGUFWriter) -> int:
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *LETTERS]
    kinds = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL]
    kinds += [TokenType.BYTE] * 256 + [TokenType.NORMAL] * len(LETTERS)
    writer.add_tokenizer_model("llama")
    writer.add_vocab_size(len(tokens))
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    return len(tokens)


def _shapes(count: int) -> list[tuple[str, int, int]]:
    """Every tensor: its name, rows (0: a vector of ones) and columns."""
    shapes = [("token_embd.weight", count, HIDDEN), ("output_norm.weight", 0, HIDDEN), ("output.weight", count, HIDDEN)]
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        shapes += [(f"{block}.{norm}.weight", 0, HIDDEN) for norm in ("attn_norm", "ffn_norm")]
        shapes += [(f"{block}.attn_{part}.weight", HIDDEN, HIDDEN) for part in ("q", "k", "v", "output")]
        shapes += [(f"{block}.ffn_{part}.weight", INNER, HIDDEN) for part in ("gate", "up")]
        shapes.append((f"{block}.ffn_down.weight", HIDDEN, INNER))
    return shapes
