"""Regular expressions that answers follow: which can be followed token by token, as llguidance does."""

from __future__ import annotations

import re
import warnings
from functools import lru_cache

MAX_PATTERN = 10_000  # characters
TOKEN = re.compile(
    r"\\(?:[pP]\{[^}]*(?:\}|\Z)|.)|\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*(?:\]|\Z)|\(\?<(?![=!])|\(\?.?.?|(?:[*+?]|\{\d+(?:,\d*)?\})\??\+?|.",
    re.DOTALL,
)
GROUPS = ("(?:", "(?P<")
FLAGS = re.compile(r"\(\?[-imsux]")
PLAIN_ESCAPE = re.compile(r"\\[^bBAzZGkgKRXhHVcCeEQ0-9<>]", re.DOTALL)


@lru_cache(maxsize=512)
def is_enforceable(pattern: str) -> bool:
    """Whether a regular expression can be followed token by token: it has no look-around and no back reference."""
    if len(pattern) > MAX_PATTERN:
        return False
    plain, tokens = "", TOKEN.findall(pattern)
    for i, one in enumerate(tokens):
        if not _is_plain(one) or _is_inner(tokens, i):
            return False
        plain += "(?P<" if one == "(?<" else "." if one[:2] in (r"\p", r"\P") else one
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(plain)
    except (re.error, OverflowError, RecursionError):
        return False
    return True


def _is_plain(token: str) -> bool:
    if token.startswith("(?"):
        return token == "(?<" or token.startswith(GROUPS) or FLAGS.match(token) is not None
    if token.startswith("["):
        return "[" not in token[1:] and all(PLAIN_ESCAPE.fullmatch(one) for one in re.findall(r"\\.", token, re.DOTALL))
    if token.startswith("\\"):
        return len(token) > 2 or PLAIN_ESCAPE.fullmatch(token) is not None
    return token != "{" and (len(token) == 1 or not token.endswith("+"))


def _is_inner(tokens: list[str], at: int) -> bool:
    """Whether this is an anchor within a text: what is before or behind it would have to be looked at again."""
    if tokens[at] == "^":
        return at > 0 and tokens[at - 1] != "|"
    return tokens[at] == "$" and at + 1 < len(tokens) and tokens[at + 1] != "|"
