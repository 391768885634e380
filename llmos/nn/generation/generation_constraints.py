"""Constraints from generation_config.json: banned tokens, minimum length, no repeated n-grams.

Only settings that bind greedy decoding are read: `bad_words_ids`, `suppress_tokens`, `begin_suppress_tokens`,
`min_length`, `min_new_tokens` and `no_repeat_ngram_size`. Each request sets its own maximum length, beams and sampling.
`forced_eos_token_id` is not read: no end is forced on an answer that reaches its maximum length.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.nn.called import name_of
from llmos.tasks.text import quote_value

GENERATION = "generation_config.json"
FILES = ("config.json", GENERATION)  # the later file wins; older models have everything in config.json


def _is_whole(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_list(value: Json) -> bool:
    return isinstance(value, list) and all(map(_is_whole, value))


def _is_token(value: Json) -> bool:
    return _is_whole(value) or _is_list(value)


def _is_words(value: Json) -> bool:
    return isinstance(value, list) and all(map(_is_list, value))


SAID = {
    _is_whole: "a whole number",
    _is_list: "a list of whole numbers",
    _is_token: "a whole number or a list of such",
    _is_words: "a list of lists of whole numbers",
}
FORMS = {
    "bad_words_ids": _is_words,
    "suppress_tokens": _is_list,
    "begin_suppress_tokens": _is_list,
    "min_length": _is_whole,
    "min_new_tokens": _is_whole,
    "no_repeat_ngram_size": _is_whole,
    "decoder_start_token_id": _is_token,
    "forced_bos_token_id": _is_whole,
    "bos_token_id": _is_token,
    "eos_token_id": _is_token,
}


@dataclass(frozen=True, slots=True)
class GenerationConstraints:
    """`never` are token sequences whose last token is banned after the others; `begun` is the length of the opening."""

    never: tuple[tuple[int, ...], ...] = ()
    not_first: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    least: int = 0  # no end token before this length, which includes the opening
    ngram: int = 0
    begun: int = 1

    def apply(self, logits: Tensor, ids: Sequence[int]) -> Tensor:
        """The logits with banned tokens set to -inf, given the tokens so far."""
        barred = self._banned_tokens(list(ids))
        if not barred:
            return logits
        scores = logits.clone()
        scores[torch.tensor(barred, device=logits.device)] = -torch.inf
        return scores

    def _banned_tokens(self, ids: list[int]) -> list[int]:
        found = [one[-1] for one in self.never if len(one) == 1 or tuple(ids[1 - len(one) :]) == one[:-1]]
        if len(ids) == self.begun:
            found += self.not_first
        if len(ids) < self.least:
            found += self.ends
        if self.ngram and len(ids) + 1 >= self.ngram:
            before = ids[len(ids) + 1 - self.ngram :]
            last = len(ids) + 1 - self.ngram
            found += [ids[i + self.ngram - 1] for i in range(last) if ids[i : i + self.ngram - 1] == before]
        return found


def read_constraints(folder: Path) -> dict[str, Json]:
    """Read the constraints from the folder's files; BadInput that names the first malformed value."""
    found: dict[str, Json] = {}
    for name in FILES:
        path = folder / name
        held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if not isinstance(held, dict):
            raise BadInput(
                f"{name_of(folder)}/{name} is {quote_value(held)}; it must be a JSON object. Bring the model in again",
                file=name,
            )
        kept = {key: held[key] for key in FORMS if held.get(key) is not None}
        for key, value in kept.items():
            if not FORMS[key](value):
                raise BadInput(
                    f"{name_of(folder)}/{name} has {key} = {quote_value(value)}; it must be {SAID[FORMS[key]]}",
                    file=name,
                    key=key,
                    expected=SAID[FORMS[key]],
                )
        found |= kept
    return found


def opening_of(told: dict[str, Json], name: str) -> tuple[int, ...]:
    """The tokens that every answer begins with, before the model chooses one."""
    start = told.get("decoder_start_token_id", told.get("bos_token_id"))
    if isinstance(start, list):
        start = start[0] if start else None
    if start is None:
        raise BadInput(
            f"{name} has no decoder_start_token_id, the first token of its answers. Add it to its config.json"
        )
    forced = told.get("forced_bos_token_id")
    return (int(start),) if forced is None else (int(start), int(forced))


def rules_of(
    told: dict[str, Json], opening: Sequence[int], ends: frozenset[int], vocabulary: int
) -> GenerationConstraints:
    """Build the constraints from the files' values; tokens outside the model's vocabulary are skipped."""
    given = [tuple(words) for words in told.get("bad_words_ids") or () if words]
    never = [words for words in given if 0 <= min(words) <= max(words) < vocabulary]
    never = [words for words in never if words not in {(end,) for end in ends}]
    never += [(token,) for token in told.get("suppress_tokens") or () if 0 <= token < vocabulary]
    first = tuple(token for token in told.get("begin_suppress_tokens") or () if 0 <= token < vocabulary)
    new = int(told.get("min_new_tokens") or 0)
    least = max(int(told.get("min_length") or 0), new + 1 if new else 0)
    ngram = int(told.get("no_repeat_ngram_size") or 0)
    return GenerationConstraints(tuple(never), first, tuple(sorted(ends)), least, ngram, len(opening))
