"""Estimates the cost of decoding a body in advance: decoding is one call in C that blocks the event loop."""

from __future__ import annotations

from llmos.abi.error import TooLong

MAX_VALUES = 100_000  # at 0.05 to 0.5 us each; a call has at most 2,048 inputs
MAX_EXPONENTS = 2_000  # at 15 us each for numbers far from 1
NAMES_WITH_E = (b"true", b"false")


def check_weight(body: bytes) -> None:
    """TooLong for a body with more values, or more numbers with an exponent, than any request needs.

    Its time is linear in the body's size, in few calls of C.
    """
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # now each quote begins or ends a text
    _check("values", body.count(b'"') // 4, MAX_VALUES)  # of an object's members, each may have two texts
    rest = b"".join(body.split(b'"')[::2])
    _check("values", sum(map(rest.count, (b",", b"[", b"{"))), MAX_VALUES)
    exponents = rest.count(b"e") + rest.count(b"E") - sum(map(rest.count, NAMES_WITH_E))
    _check("numbers with an exponent", exponents, MAX_EXPONENTS)


def _check(what: str, count: int, limit: int) -> None:
    if count > limit:
        raise TooLong(
            f"The body has more than {limit:,} {what}. Send fewer at a time", unit=what, size=count, limit=limit
        )
