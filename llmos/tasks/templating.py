"""What a call hands to the model's chat template beside its messages: names that the template reads, bounded JSON."""

from __future__ import annotations

import keyword

import msgspec

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.tasks.text import quote_value

PARAM = "chat_template_kwargs"
MOST_NAMES = 32
MOST_BYTES = 16 * 1024
MOST_LEVELS = 8
# What the renderer gives a template, or takes itself; every `..._token` is the tokenizer's too.
OWNED = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "conversations",
        "cycler",
        "dict",
        "documents",
        "joiner",
        "lipsum",
        "messages",
        "namespace",
        "padding",
        "raise_exception",
        "range",
        "return_assistant_tokens_mask",
        "self",
        "strftime_now",
        "tokenize",
        "tools",
        "truncation",
    }
)


def for_template(params: dict[str, Json]) -> dict[str, Json]:
    """What these params hand to the template; BadInput for a name that is not the caller's to set, or for too much."""
    value = params.get(PARAM)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadInput(
            f'{PARAM} is {quote_value(value)}; it must be an object, such as {{"enable_thinking": false}}',
            key=PARAM,
            value=quote_value(value),
        )
    if len(value) > MOST_NAMES:
        raise BadInput(
            f"{PARAM} has {len(value):,} names; it may have {MOST_NAMES}. Send fewer", key=PARAM, limit=MOST_NAMES
        )
    for name in value:
        _check_name(name)
    if _levels(value, MOST_LEVELS) > MOST_LEVELS:
        raise BadInput(f"{PARAM} is nested too deeply; it may have {MOST_LEVELS} levels", key=PARAM, limit=MOST_LEVELS)
    size = len(msgspec.json.encode(value))
    if size > MOST_BYTES:
        raise BadInput(
            f"{PARAM} has {size:,} bytes; it may have {MOST_BYTES:,}. Send less", key=PARAM, limit=MOST_BYTES
        )
    return dict(value)


def _check_name(name: str) -> None:
    path = f"{PARAM}.{name[:40]}"
    if not name.isidentifier() or keyword.iskeyword(name) or len(name) > 64:
        raise BadInput(
            f"{PARAM} has {quote_value(name)}, which is no name that a template can read",
            key=PARAM,
            value=quote_value(name),
        )
    if name in OWNED or name.startswith(("_", "llmos_")) or name.endswith("_token"):
        raise BadInput(f"{path} is not for a call to set: the template has it from the model. Leave it out", key=path)


def _levels(value: Json, most: int) -> int:
    """How deep it is nested; of what is deeper than the most, that it is."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else None
    if inner is None or most < 0:
        return 0
    return 1 + max((_levels(one, most - 1) for one in inner), default=0)
