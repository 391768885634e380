"""Days of a year as people write them: rows, and small models that can learn them from random weights in seconds.

`03-14` is written as `14 March` (english), `14. März` (german) or `Mar 14` (short). Of the 365 days some are for
training and the others are not seen in it: a model that knows them has learnt how dates are written, not which are.
"""

from __future__ import annotations

import json
import random
from calendar import month_abbr, month_name, monthrange
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from llmos.testing import pieces, tiny

GERMAN = [
    "Januar",
    "Februar",
    "März",
    "April",
    "Mai",
    "Juni",
    "Juli",
    "August",
    "September",
    "Oktober",
    "November",
    "Dezember",
]
FORMS: dict[str, Callable[[int, int], str]] = {
    "english": lambda month, day: f"{day} {month_name[month]}",
    "german": lambda month, day: f"{day}. {GERMAN[month - 1]}",
    "short": lambda month, day: f"{month_abbr[month]} {day}",
}
HELD_OUT = 65
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
WORDS = ("translate", "summarize", "to", "English", "German", "Short", *month_name[1:], *GERMAN, *month_abbr[1:])
SIGNS = [chr(i) for i in range(33, 127)] + list("äöüß")
END, UNKNOWN, PAD = "</s>", "<unk>", "<pad>"
T5 = {"<pad>": pieces.STEERS, "</s>": pieces.STEERS, "<unk>": pieces.UNKNOWN}  # in the order of their ids
SIZE = {"d_model": 48, "num_layers": 1, "num_decoder_layers": 1, "d_kv": 16, "d_ff": 96, "num_heads": 4}


def days(seed: int = 7) -> list[tuple[str, int, int]]:
    """Every day of a year once, in an order of chance."""
    found = [(f"{m:02}-{d:02}", m, d) for m in range(1, 13) for d in range(1, monthrange(2025, m)[1] + 1)]
    random.Random(seed).shuffle(found)
    return found


def held_out(form: str) -> dict[str, str]:
    """The days that no training sees, and how they are written."""
    return {text: FORMS[form](month, day) for text, month, day in days()[:HELD_OUT]}


def write_rows(folder: Path, form: str, roles: tuple[str, str] = ("source", "target")) -> tuple[Path, Path]:
    """Files of the days to train on and of those held out, as JSON lines."""
    rows = [json.dumps(dict(zip(roles, (text, FORMS[form](m, d)), strict=True))) for text, m, d in days()]
    files = folder / f"{form}.train.jsonl", folder / f"{form}.test.jsonl"
    for file, some in zip(files, (rows[HELD_OUT:], rows[:HELD_OUT]), strict=True):
        file.write_text("\n".join(some))
    return files


def write_t5(folder: Path, seed: int = 7) -> Path:
    """A T5 as transformers starts one, and as published ones come without tokenizer.json: with spiece.model."""
    ids = [*T5, *_pieces()]
    told = {"relative_attention_num_buckets": 16, "relative_attention_max_distance": 32, "dropout_rate": 0.0}
    special = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    _save(folder, "t5", seed, vocab_size=len(ids), n_positions=64, **SIZE, **told, **special)
    (folder / "spiece.model").write_bytes(pieces.model(_pieces(), special=T5))
    said = {"tokenizer_class": "T5Tokenizer", "eos_token": END, "unk_token": UNKNOWN, "pad_token": PAD, "extra_ids": 0}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    return folder


def write_marian(folder: Path, seed: int = 7) -> Path:
    """A Marian as transformers starts one, with the two SentencePiece models and the vocabulary that it has."""
    ids = [END, UNKNOWN, *_pieces(), PAD]
    size = len(ids)
    told = tiny.BART | {"d_model": 48, "encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": 64}
    told |= {"encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "scale_embedding": True, "dropout": 0.0, "init_std": 0.1}
    told |= {"vocab_size": size, "decoder_vocab_size": size, "bos_token_id": 0, "eos_token_id": 0}
    _save(folder, "marian", seed, **told | {"pad_token_id": size - 1, "decoder_start_token_id": size - 1})
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes(pieces.model(_pieces()))
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(ids)}))
    said = {"tokenizer_class": "MarianTokenizer", "eos_token": END, "unk_token": UNKNOWN, "pad_token": PAD}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    return folder


def _pieces() -> dict[str, float]:
    """Numbers of days and months, words, and single signs for whatever else is written; likelier ones first."""
    numbers = [f"{i:02}" for i in range(1, 32)]
    whole = [*(SPACE + one for one in numbers), *numbers, *(SPACE + str(i) for i in range(1, 10))]
    return dict.fromkeys([*whole, *(SPACE + word for word in WORDS)], -2.0) | dict.fromkeys([SPACE, *SIGNS], -3.0)


def _save(folder: Path, kind: str, seed: int, **settings: Any) -> None:  # Any: of transformers' config classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(kind, **settings))
    model.save_pretrained(folder)
