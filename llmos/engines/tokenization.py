"""Calls that no engine computes: the tokens of a prompt or of a text, the text of tokens, what a tokenizer is; a load.

They are taken in as other calls are, step by step and beside the loop, and are answered at the end of it: nothing is
computed for them, and no engine queues them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace

from llmos.abi.call import Call, Chunk, Operation
from llmos.abi.error import BadInput, TooLong
from llmos.abi.json_type import Json
from llmos.engines.intake import Intake, parts, render_in_steps
from llmos.tasks import Settings, Tokenizer, with_params
from llmos.tasks.inputs import naming_place, reading
from llmos.tasks.text import quote_value, whole
from llmos.tasks.token_ids import check_ids

SPECIAL = "special"  # the param: whether special tokens are added around a text, or kept in one that is decoded
NAMES = "names"  # the param: whether a text that is nothing but a control token's name is that token
STRINGS = "strings"  # the param: whether the tokens of a prompt are named as well
MOST_NAME_CHARS = 256  # of a control token
MOST_CHARS = 1 << 20  # of a text whose tokens are all described
LIMITS = ("max_tokens", "truncate")  # the options of a model that cut or refuse what is long
MOST_TOKENS = 1 << 30  # of an input that is only counted: it may be longer than the model takes


@dataclass(frozen=True, slots=True)
class ModelTokenizer:
    """The tokenizer of a model, and the settings by which its tasks use it."""

    tokenizer: Tokenizer
    settings: Settings


def no_tokenizer(model: str, why: str) -> BadInput:
    """The error for a model without tokens."""
    return BadInput(f"{model} has no tokenizer: {why}. Ask a model that has one", model=model, lacks="tokenizer")


def tokenize_in_steps(model: ModelTokenizer, call: Call, answer: Callable[[Chunk], None]) -> Intake:
    """Read a call's inputs; the function returned at the end gives its one chunk to `answer`.

    Raises BadInput for an input that is none of this operation.
    """
    if call.operation is Operation.RENDER:
        outputs = yield from _render(model, call)
    elif call.operation is Operation.DESCRIBE:
        yield
        outputs = [{**model.tokenizer.card, "model_max_length": model.settings.max_tokens}]
    else:
        outputs = yield from _convert(model, call)
    return lambda: answer(Chunk(call.call_id, tuple(outputs)))


def load_in_steps(call: Call, answer: Callable[[Chunk], None]) -> Intake:
    """A call that asks for nothing but its model, which is loaded once the call is here."""
    yield
    return lambda: answer(Chunk(call.call_id))


Outputs = Generator[None, None, list[Json]]


def _render(model: ModelTokenizer, call: Call) -> Outputs:
    """The ids of each prompt, whole, however long the model's inputs may be."""
    options = {key: value for key, value in model.settings.options.items() if key not in LIMITS}
    settings = replace(model.settings, options=options, max_tokens=MOST_TOKENS)
    made = yield from render_in_steps(with_params(call.task, call.params), call, model.tokenizer, settings)
    limit, is_named = model.settings.max_tokens, bool(call.params.get(STRINGS))
    named = model.tokenizer.name_of
    return [
        {"ids": one.ids, "limit": limit} | ({"strings": [named(i) for i in one.ids]} if is_named else {})
        for one in made
    ]


def _convert(model: ModelTokenizer, call: Call) -> Outputs:
    """Each text as tokens, or the text of each list of tokens."""
    if not call.inputs:
        raise BadInput("The call has no inputs. Send at least one", reason="no_inputs")
    yield
    one_by_one = _tokens if call.operation is Operation.TOKENIZE else _text
    tokenizer, special = reading(model.tokenizer, call.params), call.params.get(SPECIAL)
    made: list[Json] = []
    for some in parts(call.inputs):
        for one in some:
            with naming_place(index=len(made)):
                made.append(one_by_one(one, _naming(one, tokenizer, call.params), special))
        yield
    return [{**one, "limit": model.settings.max_tokens} for one in made]


def _naming(given: Json, tokenizer: Tokenizer, params: Mapping[str, Json]) -> Tokenizer:
    """The tokenizer for a text that may be the name of a control token, whose id is then looked for."""
    if not params.get(NAMES) or not isinstance(given, str) or not 0 < len(given) <= MOST_NAME_CHARS:
        return tokenizer
    parsing = tokenizer.parsing()
    found = parsing.pieces(whole("The input", given), special=False)
    return parsing if len(found) == 1 and found[0].is_special else tokenizer


def _tokens(given: Json, tokenizer: Tokenizer, special: Json) -> dict[str, Json]:
    if not isinstance(given, str):
        raise BadInput(f"The input is no text: {quote_value(given)}. Send a string", value=quote_value(given))
    if len(given) > MOST_CHARS:
        said = f"The text has {len(given):,} characters; {MOST_CHARS:,} are tokenized at a time. Send it in parts"
        raise TooLong(said, size=len(given), limit=MOST_CHARS, unit="characters")
    found = tokenizer.pieces(whole("The input", given), special=special is not False)
    return {
        "tokens": [
            {"id": one.id, "text": one.text, "special": one.is_special, "start": one.start, "stop": one.end}
            for one in found
        ],
        "strings": [tokenizer.name_of(one.id) for one in found],
    }


def _text(given: Json, tokenizer: Tokenizer, special: Json) -> dict[str, Json]:
    return {"text": tokenizer.decode(check_ids(given, tokenizer), skips_special=special is not True)}
