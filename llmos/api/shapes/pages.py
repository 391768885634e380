"""Pages of a list in OpenAI's shape: those behind an id, at most so many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from llmos.abi.error import BadInput

T = TypeVar("T")


def page_of(
    items: Sequence[T], id_of: Callable[[T], str], after: str | None, limit: int | None, most: int
) -> tuple[Sequence[T], bool]:
    """The items behind the one with the id `after`, at most `limit`, and whether there are more.

    BadInput for an id that is not among them: an empty page would look like the end.
    """
    if limit is not None and limit > most:
        raise BadInput(f"limit is {limit:,}; at most {most:,} come in a page", key="limit", limit=most)
    start = 0
    if after is not None:
        start = next((place + 1 for place, one in enumerate(items) if id_of(one) == after), 0)
        if not start:
            raise BadInput(f"after is {after[:80]!r}, which is not in the list. Begin again without it", key="after")
    stop = start + (limit or most)
    return items[start:stop], stop < len(items)
