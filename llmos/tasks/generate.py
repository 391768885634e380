"""generate: text that continues a prompt. Also what a request may say about sampling, which chat shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmos.abi.error import BadInput
from llmos.tasks import Rendered, Settings, Tokenizer
from llmos.tasks.length import limit_of, may_cut, too_long
from llmos.tasks.text import shown, text_of

Json = Any  # Any: a JSON value that this task checks

MAX_STOPS = 16


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen, and when to stop. Temperature 0 is greedy; top_k 0 and top_p 1 cut nothing."""

    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    max_tokens: int = 256


class Generate:
    """`parse` takes {"text", "finish_reason"}: the whole continuation, or its newest piece (finish_reason None)."""

    name = "generate"
    headline = "perplexity"
    head = None

    def check(self, data: Json) -> Json:
        return {"prompt": text_of(data, "prompt")}

    def render(self, inputs: Sequence[Json], tokenizer: Tokenizer, settings: Settings) -> list[Rendered]:
        """A prompt leaves room for at least one token; where it is cut, its end is kept."""
        limit = limit_of(settings) - 1
        encoded = tokenizer.encode([one["prompt"] for one in inputs])
        return [Rendered(_fit(one.ids, limit, settings)) for one in encoded]

    def parse(self, raw: Json, rendered: Rendered, settings: Settings, params: dict[str, Json]) -> Json:
        return {"text": raw["text"], "finish_reason": raw["finish_reason"]}


def sampling(params: dict[str, Json]) -> Sampling:
    """What the request says about sampling; BadInput that names the first value that cannot be."""
    default = Sampling()
    return Sampling(
        temperature=float(_number(params, "temperature", default.temperature, 0, 2)),
        top_p=float(_number(params, "top_p", default.top_p, 0, 1)),
        top_k=_whole(params, "top_k", default.top_k, 0, 1_000_000),
        seed=None if params.get("seed") is None else _whole(params, "seed", 0, -(2**63), 2**63 - 1),
        stop=_stops(params.get("stop")),
        max_tokens=_whole(params, "max_tokens", default.max_tokens, 1, 1_000_000),
    )


def _number(params: dict[str, Json], key: str, default: float, least: float, most: float) -> float:
    value = params.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise BadInput(f"{key} is {shown(value)}; it is a number from {least:,} to {most:,}", key=key)
    return value


def _whole(params: dict[str, Json], key: str, default: int, least: int, most: int) -> int:
    value = _number(params, key, default, least, most)
    if not isinstance(value, int):
        raise BadInput(f"{key} is {value}; it is a whole number", key=key)
    return value


def _stops(value: Json) -> tuple[str, ...]:
    stops = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, (list, tuple)) else value
    if stops is None:
        return ()
    if not isinstance(stops, tuple) or len(stops) > MAX_STOPS or not all(isinstance(s, str) and s for s in stops):
        raise BadInput(f"stop is {shown(value)}; it is a string or a list of at most {MAX_STOPS} of them", key="stop")
    return stops


def _fit(ids: list[int], limit: int, settings: Settings) -> list[int]:
    if len(ids) <= limit:
        return ids
    if not may_cut(settings):
        raise too_long("The prompt", len(ids), limit)
    return ids[-limit:]


TASK = Generate()
