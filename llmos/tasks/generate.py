"""generate: text that continues a prompt. Also what a request may say about sampling, which chat shares."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.task import OBJECTIVE, PREFERENCES, Family, Output, TaskSpec
from llmos.tasks import Encoded, Rendered, Settings, Tokenizer, TrainingTokenizer, encoder_decoder, sft_example
from llmos.tasks.grammar import PARAMS as GRAMMARS
from llmos.tasks.grammar import Grammar, grammar_of
from llmos.tasks.text import check_chars, limit_of, may_cut, part_of, quote_value, text_of, too_long, whole
from llmos.tasks.token_ids import are_ids, check_ids

MAX_STOPS = 16
MAX_STOP_CHARS = 256
MAX_ANSWERS = 128
MAX_TOP_LOGPROBS = 20
MAX_BIASES = 1024
TOKEN_ID = re.compile(r"[0-9]{1,10}")
ENDING = ("finish_reason", "logprobs", "stop")  # of an answer, beside its text
MAX_TOKENS = 2**31 - 1  # of an answer, as requested; there is never memory for more


@dataclass(frozen=True, slots=True)
class Sampling:
    """The sampling settings of a request. Temperature 0 is greedy; top_k 0 and top_p 1 filter nothing.

    `presence_penalty` and `frequency_penalty` count tokens of the answer, `repetition_penalty` of the prompt as well.
    Each input has `n` answers; the k-th is seeded with `seed` + k. `top_logprobs` None: no log-probabilities. With
    `echo` an answer begins with its prompt, and its log-probabilities with those of the prompt's tokens.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None
    n: int = 1
    stop: tuple[str, ...] = ()
    max_tokens: int = 256
    top_logprobs: int | None = None
    grammar: Grammar | None = None
    echo: bool = False

    def for_answer(self, number: int) -> Sampling:
        """The settings of one of the `n` answers to an input."""
        return self if self.seed is None else replace(self, seed=_wrap_seed(self.seed + number))


ECHO = "echo"
# echo is of generate alone: no other task's prompt is its input
PARAMS = frozenset({f.name for f in fields(Sampling)} | {"logprobs", "cache_salt", *GRAMMARS}) - {ECHO}


@dataclass(frozen=True, slots=True)
class Generate:
    """`parse` takes {"text", "finish_reason"}: the whole continuation, or its newest piece (finish_reason None).

    With log-probabilities it also takes {"logprobs"}: one entry for each token of the text. A prompt is a text, or the
    ids of its tokens.
    """

    echoes: bool = False

    spec = TaskSpec(
        name="generate",
        family=Family.TEXT,
        output=Output.TEXT,
        primary_metric="likelihood",
        about="Text that continues a prompt.",
        head=None,
        params=PARAMS | {ECHO},
        settings=(OBJECTIVE, PREFERENCES),
        is_open_ended=True,
        example_input="Once upon a time",
        example_output={"text": " there was a queen.", "finish_reason": "stop"},
    )

    def with_params(self, params: dict[str, Json]) -> Generate:
        """The task with a call's params."""
        return Generate(wants_echo(params))

    def check(self, data: Json) -> Json:
        given = data.get("prompt") if isinstance(data, dict) else data
        return {"prompt": list(given) if given is not None and are_ids(given) else text_of(data, "prompt")}

    def render(self, inputs: Sequence[Json], tokenizer: Tokenizer, settings: Settings) -> list[Rendered]:
        """Render prompts with room for at least one token; if a prompt is cut, its end is kept."""
        if tokenizer.reader is not None:  # an encoder-decoder's answer takes no room of the input
            if any(not isinstance(one["prompt"], str) for one in inputs):
                raise BadInput("A base with an encoder reads texts here. Send a text", reason="token_ids")
            return [
                encoder_decoder.render_source(encoder_decoder.EncoderDecoderInput(), one["prompt"], tokenizer, settings)
                for one in inputs
            ]
        limit = limit_of(settings) - 1
        prompts = [one["prompt"] for one in inputs]
        texts = [prompt for prompt in prompts if isinstance(prompt, str)]
        parts = [_read(prompt, tokenizer, limit, settings) for prompt in texts]
        read = iter(zip(tokenizer.encode(parts) if parts else [], parts, texts, strict=True))
        return [
            self._render_text(*next(read), limit, settings)
            if isinstance(prompt, str)
            else Rendered(_fit(check_ids(prompt, tokenizer), limit, settings))
            for prompt in prompts
        ]

    def _render_text(self, one: Encoded, part: str, prompt: str, limit: int, settings: Settings) -> Rendered:
        ids = _fit(one.ids, limit, settings, is_whole=len(part) == len(prompt))
        is_whole = len(part) == len(prompt) and len(ids) == len(one.ids)
        return Rendered(ids, text=prompt if self.echoes and is_whole else None)

    def teach(self, asked: Json, answer: Json, tokenizer: TrainingTokenizer, settings: Settings) -> Rendered:
        if tokenizer.reader is not None:
            return encoder_decoder.render_pair(
                encoder_decoder.EncoderDecoderInput(), asked["prompt"], answer, tokenizer, settings
            )
        limit = limit_of(settings)
        check_chars("The answer", len(answer), tokenizer, limit, settings)
        prompt = _read(asked["prompt"], tokenizer, limit, settings)
        (encoded,) = tokenizer.encode([prompt])
        said = sft_example.continue_answer(prompt, answer, encoded.ids, tokenizer, special=True)
        return sft_example.render_examples([(_fit(encoded.ids, sft_example.room_for(said, settings), settings), said)])

    def parse(self, raw: Json, rendered: Rendered, settings: Settings, params: dict[str, Json]) -> Json:
        return {"text": raw["text"], **ending(raw)}


def wants_echo(params: dict[str, Json]) -> bool:
    """Whether the answer begins with its prompt; BadInput for a value that is neither true nor false."""
    value = params.get(ECHO)
    if value is not None and not isinstance(value, bool):
        said = f"{ECHO} is {quote_value(value)}; it must be true or false"
        raise BadInput(said, key=ECHO, value=quote_value(value))
    return bool(value)


def salt_of(params: dict[str, Json]) -> str:
    """A salt for the prefix cache: only requests with the same salt share prefixes; empty for none."""
    return whole("cache_salt", str(params.get("cache_salt") or ""))


def ending(raw: Json) -> dict[str, Json]:
    """The fields of an answer beside its text, in every task that generates text."""
    return {key: raw[key] for key in ENDING if key in raw}


def sampling(params: dict[str, Json]) -> Sampling:
    """The sampling settings in the params; BadInput that names the first invalid value."""
    default, echo = Sampling(), wants_echo(params)
    return Sampling(
        temperature=_number(params, "temperature", default.temperature, 0, 2),
        top_p=_number(params, "top_p", default.top_p, 0, 1),
        top_k=_whole(params, "top_k", default.top_k, 0, 1_000_000),
        min_p=_number(params, "min_p", default.min_p, 0, 1),
        repetition_penalty=_number(params, "repetition_penalty", default.repetition_penalty, 0.01, 10),
        presence_penalty=_number(params, "presence_penalty", default.presence_penalty, -2, 2),
        frequency_penalty=_number(params, "frequency_penalty", default.frequency_penalty, -2, 2),
        logit_bias=_biases(params.get("logit_bias")),
        seed=None if params.get("seed") is None else _whole(params, "seed", 0, -(2**63), 2**63 - 1),
        n=_whole(params, "n", default.n, 1, MAX_ANSWERS),
        stop=_stops(params.get("stop")),
        max_tokens=_whole(params, "max_tokens", default.max_tokens, 0 if echo else 1, MAX_TOKENS),
        top_logprobs=_top_logprobs(params),
        grammar=grammar_of(params),
        echo=echo,
    )


def _number(params: dict[str, Json], key: str, default: float, least: float, most: float) -> float:
    value = params.get(key)
    if value is None:
        return default
    if not _is_number(value) or not least <= value <= most:
        raise BadInput(
            f"{key} is {quote_value(value)}; it must be a number from {least:,} to {most:,}",
            key=key,
            value=quote_value(value),
        )
    return float(value)


def _whole(params: dict[str, Json], key: str, default: int, least: int, most: int) -> int:
    value = params.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadInput(
            f"{key} is {quote_value(value)}; it must be a whole number from {least:,} to {most:,}",
            key=key,
            value=quote_value(value),
        )
    return value


def _is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _top_logprobs(params: dict[str, Json]) -> int | None:
    wanted = params.get("logprobs")
    if wanted is not None and not isinstance(wanted, bool):
        raise BadInput(
            f"logprobs is {quote_value(wanted)}; it must be true or false, and top_logprobs says how many",
            key="logprobs",
            value=quote_value(wanted),
        )
    top = _whole(params, "top_logprobs", 0, 0, MAX_TOP_LOGPROBS)
    if top and not wanted:
        raise BadInput(
            f"top_logprobs is {top}, but logprobs is not true. Set logprobs as well",
            key="top_logprobs",
            value=quote_value(top),
        )
    return top if wanted else None


def _biases(value: Json) -> tuple[tuple[int, float], ...]:
    """The token ids and their logit biases. JSON's keys are texts, so digits are accepted as an id."""
    if value is None:
        return ()
    said = 'logit_bias is {"token id": number from -100 to 100}'
    if not isinstance(value, dict) or len(value) > MAX_BIASES:
        raise BadInput(
            f"{said}, at most {MAX_BIASES:,} of them; this is {quote_value(value)}",
            key="logit_bias",
            value=quote_value(value),
        )
    for token, bias in value.items():
        if not TOKEN_ID.fullmatch(str(token)) or not _is_number(bias) or not -100 <= bias <= 100:
            raise BadInput(
                f"{said}; this has {quote_value(token)}: {quote_value(bias)}",
                key="logit_bias",
                value=quote_value(token),
            )
    return tuple((int(token), float(bias)) for token, bias in value.items())


def _wrap_seed(seed: int) -> int:
    """The seed, wrapped to 64 bits."""
    return (seed + 2**63) % 2**64 - 2**63


def _stops(value: Json) -> tuple[str, ...]:
    stops = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, (list, tuple)) else value
    if stops is None:
        return ()
    if not isinstance(stops, tuple) or not all(isinstance(s, str) and 0 < len(s) <= MAX_STOP_CHARS for s in stops):
        said = f"a string of 1 to {MAX_STOP_CHARS} characters, or a list of such"
        raise BadInput(f"stop is {quote_value(value)}; it must be {said}", key="stop", value=quote_value(value))
    if len(stops) > MAX_STOPS:
        raise BadInput(
            f"stop has {len(stops):,} strings; it may have {MAX_STOPS}. Send fewer", key="stop", limit=MAX_STOPS
        )
    return stops


def _read(prompt: str, tokenizer: Tokenizer, limit: int, settings: Settings) -> str:
    """The part of the prompt that is read: its end, if it may be cut."""
    cuts, context = may_cut(settings), limit_of(settings)
    return part_of(prompt, "The prompt", tokenizer, limit, settings, cuts=cuts, is_end=cuts, context=context)


def _fit(ids: list[int], limit: int, settings: Settings, *, is_whole: bool = True) -> list[int]:
    if len(ids) <= limit:
        return ids
    if not may_cut(settings):
        raise too_long("The prompt", len(ids), limit, is_whole=is_whole, context=limit_of(settings))
    return ids[-limit:]


TASK = Generate()
