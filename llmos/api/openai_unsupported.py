"""OpenAI parameters that are not implemented: ignored if they change no answer, refused if they do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import msgspec

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.api.endpoint import unfit
from llmos.tasks.grammar import JSON_SCHEMA

T = TypeVar("T")

# Identity, storage, billing and effort: no value of these changes an answer here.
HINTS = frozenset(
    {
        "cache_prompt",
        "include_reasoning",
        "keep_alive",
        "metadata",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "request_id",
        "safety_identifier",
        "service_tier",
        "spaces_between_special_tokens",
        "ttl",
        "verbosity",
    }
)
# Parameter -> the values that have no effect; null never has one.
NEUTRAL: dict[str, tuple[Json, ...]] = {
    "add_generation_prompt": (True,),
    "allowed_token_ids": ([],),
    "audio": (),
    "bad_words": ([],),
    "best_of": (1,),
    "continue_final_message": (False,),
    "detokenize": (True,),
    "documents": ([],),
    "early_stopping": (False,),
    "echo": (False,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "ignore_eos": (False,),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "min_tokens": (0,),
    "mirostat": (0,),
    "mm_processor_kwargs": ({},),
    "modalities": (["text"], []),
    "prediction": (),
    "prompt_logprobs": (0, False),
    "repeat_penalty": (1,),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "stop_token_ids": ([],),
    "skip_special_tokens": (True,),
    "suffix": ("",),
    "truncation_direction": ("right", "Right"),
    "truncation_side": ("right",),
    "typical_p": (1,),
    "use_beam_search": (False,),
    "vllm_xargs": ({},),
    "web_search_options": (),
}
Within = dict[str, "Within"]
# Parameter -> the type of the values that mean something here; others are ignored.
TYPED: dict[str, type] = {"store": bool, "user": str}
# Our own objects in a body; deeper ones belong to a schema, a tool or a message.
WITHIN: Within = {"stream_options": {}, "response_format": {JSON_SCHEMA: {}}, "structured_outputs": {}}
# Of supported parameters: values that other servers' clients send for "not set".
UNSET: dict[str, tuple[Json, ...]] = {"priority": (0,), "stop": ("", [""]), "top_k": (-1,)}


@dataclass(frozen=True, slots=True)
class Unsupported:
    """The parameters of an interface that are not implemented.

    `hints` change no answer, whatever their value. `neutral` are refused but for these values. `unset` are values of
    supported parameters that count as not given. In objects at the paths of `within`, null counts as not given too.
    """

    hints: frozenset[str] = frozenset()
    neutral: Mapping[str, tuple[Json, ...]] = field(default_factory=dict)
    unset: Mapping[str, tuple[Json, ...]] = field(default_factory=dict)
    within: Within = field(default_factory=dict)


OPENAI = Unsupported(HINTS, NEUTRAL, UNSET, WITHIN)
COMPLETIONS = replace(OPENAI, neutral={key: value for key, value in NEUTRAL.items() if key != "echo"})


def parse_supported(body: dict[str, Json], kind: type[T], unsupported: Unsupported = OPENAI) -> T:
    """Parse a request of this kind; BadInput for parameters that would otherwise be ignored silently."""
    kept: dict[str, Json] = {}
    for key, value in without_nulls(body, unsupported.within).items():
        is_unset = _is_one(value, unsupported.unset.get(key, ())) or not isinstance(value, TYPED.get(key, object))
        if key in unsupported.hints or is_unset:
            continue
        if key not in unsupported.neutral:
            kept[key] = value
        elif not _is_one(value, unsupported.neutral[key]):
            raise BadInput(f"{key} is not supported yet. Leave it out", key=key, reason="not_supported")
    try:
        return msgspec.convert(kept, kind)
    except msgspec.ValidationError as error:
        raise unfit(error) from error


def without_nulls(body: dict[str, Json], within: Within) -> dict[str, Json]:
    """The fields that are not null, also within these objects."""
    return {
        key: without_nulls(value, within[key]) if key in within and isinstance(value, dict) else value
        for key, value in body.items()
        if value is not None
    }


def _is_one(value: Json, values: tuple[Json, ...]) -> bool:
    """Whether the value is one of these, with true and 1 distinct."""
    return any(value == one and isinstance(value, bool) is isinstance(one, bool) for one in values)
