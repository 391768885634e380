"""Token ids as an input, from clients with a tokenizer of their own: checked against the model's vocabulary."""

from __future__ import annotations

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.tasks import Tokenizer
from llmos.tasks.text import quote_value


def check_ids(given: Json, tokenizer: Tokenizer) -> list[int]:
    """The list, if all in it are ids of the model's tokens; BadInput that names the first other item."""
    if not are_ids(given):
        raise BadInput(
            f"The input is no list of token ids: {quote_value(given)}. Send whole numbers", value=quote_value(given)
        )
    for at, token in enumerate(given):
        if not 0 <= token < tokenizer.size:
            raise BadInput(
                f"Token {at} is {token}; the model's tokens are 0 to {tokenizer.size - 1:,}", token=token, at_token=at
            )
    return list(given)


def are_ids(given: Json) -> bool:
    """Whether it is a list of whole numbers, and not an empty one."""
    if not isinstance(given, (list, tuple)) or not given:
        return False
    return all(isinstance(one, int) and not isinstance(one, bool) for one in given)
