"""The row of a call that has ended: the fields of its record in their order, in a plain tuple.

A call makes one, and most are never looked at: it takes a tenth of a record's time, and nothing for the garbage
collector to follow.
"""

from __future__ import annotations

from sys import getsizeof
from typing import Final

from llmos.abi.call_record import CallRecord
from llmos.abi.json_type import Json

# id, at, seconds, path, model, task, outcome, count, key, user, tokens of the prompt and of the answer, inputs, outputs
CallRow = tuple[
    str,
    float,
    float,
    str,
    str,
    str,
    str,
    int,
    str,
    str,
    int,
    int,
    tuple[Json, ...] | None,
    tuple[Json, ...] | None,
]
# the places of those that rows are told apart by
ID: Final = 0
AT: Final = 1
MODEL: Final = 4
OUTCOME: Final = 6
KEY: Final = 8
USER: Final = 9
INPUTS: Final = 12
OUTPUTS: Final = 13
ROW_BYTES = 900  # without its texts: the tuple, its numbers and ids, and its places in memory
CONTAINER_BYTES = 64  # of a list or an object, and of each number
NO_TEXTS = (None, None)


def record_of(row: CallRow) -> CallRecord:
    """The record of a row."""
    return CallRecord(*row)


def without_texts(row: CallRow) -> CallRow:
    """The same row without inputs and outputs."""
    return row[:INPUTS] + NO_TEXTS


def size_of(row: CallRow) -> int:
    """About how many bytes a row takes in memory."""
    inputs, outputs = row[INPUTS], row[OUTPUTS]
    if inputs is None and outputs is None:
        return ROW_BYTES
    return ROW_BYTES + bytes_of(inputs) + bytes_of(outputs)


def bytes_of(value: Json) -> int:
    """About how many bytes a JSON value takes in memory."""
    kind = type(value)
    if kind is str:
        return getsizeof(value)
    if kind is dict:
        total = CONTAINER_BYTES
        for key, one in value.items():
            total += getsizeof(key) + (getsizeof(one) if type(one) is str else bytes_of(one))
        return total
    if kind is tuple or kind is list:
        total = CONTAINER_BYTES
        for one in value:
            total += getsizeof(one) if type(one) is str else bytes_of(one)
        return total
    return CONTAINER_BYTES
