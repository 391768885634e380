"""OpenAI parameters that are not implemented: ignored where they change no answer, refused where they do."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.api.endpoint import unfit
from llmos.tasks.grammar import JSON_SCHEMA

T = TypeVar("T")

# What says who asks, what a provider may keep or charge, how hard to think: no value of it changes an answer here.
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
        "store",
        "ttl",
        "user",
        "verbosity",
    }
)
# Parameter -> the values with which it asks for nothing; null always does.
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
# The objects of ours in a body: what is deeper is a schema's, a tool's or a message's.
WITHIN: Within = {"stream_options": {}, "response_format": {JSON_SCHEMA: {}}, "structured_outputs": {}}
# Of parameters that there are: the values with which other servers' clients say that they are not set.
UNSET: dict[str, tuple[Json, ...]] = {"priority": (0,), "stop": ("", [""]), "top_k": (-1,)}


def parse_supported(body: dict[str, Json], kind: type[T]) -> T:
    """The body as a request of this kind; BadInput for whatever it asks that would otherwise be ignored."""
    kept: dict[str, Json] = {}
    for key, value in without_nulls(body, WITHIN).items():
        if key in HINTS or _is_one(value, UNSET.get(key, ())):
            continue
        if key not in NEUTRAL:
            kept[key] = value
        elif not _is_one(value, NEUTRAL[key]):
            raise BadInput(f"{key} is not supported yet. Leave it out", key=key)
    try:
        return msgspec.convert(kept, kind)
    except msgspec.ValidationError as error:
        raise unfit(error) from error


def without_nulls(body: dict[str, Json], within: Within) -> dict[str, Json]:
    """The fields that have a value, of these fields' objects too."""
    return {
        key: without_nulls(value, within[key]) if key in within and isinstance(value, dict) else value
        for key, value in body.items()
        if value is not None
    }


def _is_one(value: Json, values: tuple[Json, ...]) -> bool:
    """Whether it is one of these; to Python true is 1 as well."""
    return any(value == one and isinstance(value, bool) is isinstance(one, bool) for one in values)
