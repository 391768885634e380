"""What the tests of engines share: driving one to its rest, its texts, and callers who come and go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from llmos.abi.call import Call, Chunk
from llmos.engines import Engine

# For what holds to the last token: in bfloat16 a row's products depend on the rows beside it (docs/api.md, `seed`).
exact = pytest.mark.parametrize("dtype", ["float32"], indirect=True)

KV_BYTES = {"float32": 4, "bfloat16": 2}
CLOSE = {"float32": 1e-5, "bfloat16": 5e-2}  # numbers of one answer, computed alone and beside others


def likeliest(engine: Engine, call: Call) -> dict[bytes, float]:
    """The log-probabilities of the tokens that are likeliest to begin the answer to this call."""
    params = {"max_tokens": 1, "logprobs": True, "top_logprobs": 5}
    engine.add(replace(call, params=call.params | params))
    (chunk,) = drain(engine)
    assert chunk.fault is None, chunk.fault
    tops = [top for entry in chunk.outputs[0]["logprobs"] for top in entry["top_logprobs"]]
    return {bytes(top["bytes"]): top["logprob"] for top in reversed(tops)}  # the likelier, where two are the same text


def is_near(one: dict[bytes, float], other: dict[bytes, float], by: float = 0.5) -> bool:
    """Of the tokens that both name, each is about as likely in either: a tiny random model doubts between many."""
    both = one.keys() & other.keys()
    return len(both) >= 3 and all(abs(one[key] - other[key]) <= by for key in both)


def drain(engine: Engine, most: int = 20_000) -> list[Chunk]:
    """All that it says until it has nothing left to do."""
    chunks: list[Chunk] = []
    for _ in range(most):
        if engine.is_idle:
            return chunks
        chunks += engine.step()
    raise AssertionError("The engine did not come to rest")


def texts(chunks: Sequence[Chunk]) -> dict[int, str]:
    """The text of each call; none may have failed."""
    assert not [chunk.fault for chunk in chunks if chunk.fault]
    return {chunk.call_id: chunk.outputs[0]["text"] for chunk in chunks}


def come_and_go(engine: Engine, arrivals: Sequence[tuple[Call, int, bool]]) -> dict[int, str]:
    """The texts of calls that come so many steps apart; who went before the answer was there must get none."""
    chunks: list[Chunk] = []
    gone: set[int] = set()
    for call, steps, goes in arrivals:
        engine.add(call)
        for _ in range(steps):
            chunks += engine.step()
        if goes and call.call_id not in {chunk.call_id for chunk in chunks}:
            engine.cancel(call.call_id)
            gone.add(call.call_id)
    found = texts(chunks + drain(engine))
    assert gone.isdisjoint(found)
    return found
