"""Texts as inputs: checked, tokenized, and within the limit: more tokens are refused, or cut where the options say so.

A text far beyond the limit is not tokenized whole: a part of it that has twice as many tokens as may be says enough.
Characters are bounded too, for blanks may be no tokens and a long unknown word one: no more of a text is ever read.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from typing import TypeVar

from llmos.abi.error import BadInput, TooLong
from llmos.abi.json_type import Json
from llmos.tasks import Encoded, Settings, Tokenizer

Part = TypeVar("Part")


def text_of(data: Json, field: str = "text") -> str:
    """The text of `"..."` or `{field: "..."}`; BadInput with an example if there is none, or it is empty."""
    text = data.get(field) if isinstance(data, dict) else data
    if not isinstance(text, str):
        raise BadInput(
            f'The input is no text: {quote_value(data)}. Send a string, or {{"{field}": "..."}}',
            field=field,
            value=quote_value(data),
        )
    if not text.strip():
        raise BadInput(
            f"The {field} is empty. Send at least one character that is no space", field=field, value=quote_value(text)
        )
    return text


def whole(key: str, text: str) -> str:
    """The text; BadInput for a lone surrogate, which UTF-8 cannot encode."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        said = f"{key} has half of a surrogate pair at character {error.start:,}. Send whole characters"
        raise BadInput(said, key=key, reason="surrogate", at_character=error.start) from error
    return text


def quote_value(value: Json, width: int = 80) -> str:
    """A value as error messages quote it: at most one line."""
    text = repr(_beginning(value, [width], width))
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _beginning(value: Json, left: list[int], width: int) -> Json:
    """So much of it that its text is no shorter than the line, if it was longer; `left` are the parts still to take."""
    left[0] -= 1
    if isinstance(value, (str, bytes)):
        return value[: width + 1]
    if isinstance(value, dict):
        parts = ((_beginning(key, left, width), _beginning(one, left, width)) for key, one in value.items())
        return dict(_while(left, parts))
    if isinstance(value, (list, tuple)):
        return type(value)(_while(left, (_beginning(one, left, width) for one in value)))
    return value


def _while(left: list[int], parts: Iterator[Part]) -> Iterator[Part]:
    while left[0] > 0:
        try:
            yield next(parts)
        except StopIteration:
            return


PROBE_CHARS = 16  # of a text for each token that it may have: several times what a token has in most texts
LEAST_PROBE = 256  # tokens
MOST_PER_TOKEN = 64  # characters that a text may have for each token that it may have, or as many as the longest token
LEAST_MOST = 1 << 16  # and so many in any case
Naming = Callable[[int], str]  # what a refusal calls the text of this number


def limit_of(settings: Settings) -> int:
    """The most tokens one input may have: what the option says, and never more than the model takes."""
    return min(int(settings.options.get("max_tokens") or settings.max_tokens), settings.max_tokens)


def may_cut(settings: Settings) -> bool:
    return bool(settings.options.get("truncate", False))


def too_long(
    what: str,
    size: int,
    limit: int,
    settings: Settings = Settings(),
    *,
    is_whole: bool = True,
    context: int | None = None,
) -> TooLong:
    """The refusal; only a fine-tuned model has options, so that only there one of them is a way out.

    `context`: what the model takes in all, where an answer needs some of it.
    """
    has = f"{size:,}" if is_whole else f"more than {size:,}"  # of the part that was tokenized
    detail = {"size": size, "limit": limit} | ({} if context is None else {"context": context})
    return TooLong(f"{what} has {has} tokens; the model takes {limit:,}. {_way_out(settings)}", **detail)


def _way_out(settings: Settings) -> str:
    if settings.labels:
        return "Shorten it, or train the model with --set truncate=true to have texts cut"
    return "Shorten it, or send it in parts"


def most_chars(tokenizer: Tokenizer, limit: int) -> int:
    """The most characters of one text that are read, where it may have so many tokens."""
    return max(limit * max(MOST_PER_TOKEN, tokenizer.longest), LEAST_MOST)


def too_many_chars(
    what: str, chars: int, most: int, limit: int, settings: Settings = Settings(), *, context: int | None = None
) -> TooLong:
    """The refusal of a text for its characters, of which so many could only be few tokens."""
    detail = {"size": chars, "limit": limit, "most_chars": most} | ({} if context is None else {"context": context})
    said = f"{what} has {chars:,} characters; the model takes {limit:,} tokens, and of them at most {most:,} characters"
    return TooLong(f"{said}. {_way_out(settings)}", **detail)


def check_chars(
    what: str, chars: int, tokenizer: Tokenizer, limit: int, settings: Settings, *, context: int | None = None
) -> None:
    """TooLong for more characters than are read of a text with this limit."""
    if chars > (most := most_chars(tokenizer, limit)):
        raise too_many_chars(what, chars, most, limit, settings, context=context)


def name_text(what: str | Naming, number: int) -> str:
    """What a refusal calls this text."""
    return what if isinstance(what, str) else what(number)


def part_of(
    text: str,
    what: str,
    tokenizer: Tokenizer,
    limit: int,
    settings: Settings,
    *,
    cuts: bool,
    is_end: bool = False,
    context: int | None = None,
) -> str:
    """The text, or so much of its beginning (or end) as has twice the tokens that the limit allows.

    Parts are tokenized, each four times as long as the last, until one has enough: no smaller bound on the characters
    of a token holds for every vocabulary. One that is all that is ever read (`most_chars`) is returned where the text
    may be cut, else it is refused.
    """
    most = most_chars(tokenizer, limit)
    size = min(PROBE_CHARS * max(limit, LEAST_PROBE), most)
    while size < len(text):
        part = text[-size:] if is_end else text[:size]
        if cuts and size == most:
            return part
        (encoded,) = tokenizer.encode([part], special=False)
        if len(encoded.ids) > 2 * limit:
            return part
        if not cuts:
            check_chars(what, len(text), tokenizer, limit, settings, context=context)
        size = min(4 * size, most)
    return text


def encode_within(texts: Sequence[str], what: str | Naming, tokenizer: Tokenizer, settings: Settings) -> list[Encoded]:
    """The texts as tokens, each within the limit: its start is kept, and the special tokens that end every text."""
    limit, cuts = limit_of(settings), may_cut(settings)
    parts = [part_of(text, name_text(what, i), tokenizer, limit, settings, cuts=cuts) for i, text in enumerate(texts)]
    cut = {i for i, (part, text) in enumerate(zip(parts, texts, strict=True)) if len(part) < len(text)}
    return fit_length(tokenizer.encode(parts), what, tokenizer, settings, cut=cut)


def fit_length(
    encoded: Sequence[Encoded],
    what: str | Naming,
    tokenizer: Tokenizer,
    settings: Settings,
    *,
    cut: Container[int] = (),
) -> list[Encoded]:
    """The same texts, each within the limit, or the refusal of the first that is not; `cut`: those that were a part."""
    limit = limit_of(settings)
    long = next((i for i, one in enumerate(encoded) if len(one.ids) > limit), None)
    if long is None:
        return list(encoded)
    if not may_cut(settings):
        raise too_long(name_text(what, long), len(encoded[long].ids), limit, settings, is_whole=long not in cut)
    tail = _ending(tokenizer)
    return [one if len(one.ids) <= limit else _cut(one, limit, tail) for one in encoded]


def _cut(one: Encoded, limit: int, tail: int) -> Encoded:
    tail = min(tail, limit)
    keep, end = limit - tail, len(one.ids) - tail
    return Encoded(one.ids[:keep] + one.ids[end:], one.words[:keep] + one.words[end:] if one.words else [])


def _ending(tokenizer: Tokenizer) -> int:
    """How many special tokens close every text: what an empty text and another one have in common at their ends."""
    empty, other = (one.ids for one in tokenizer.encode(["", "a"]))
    count = 0
    while count < len(empty) and empty[-1 - count] == other[-1 - count]:
        count += 1
    return count
