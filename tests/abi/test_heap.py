"""The heap: what the garbage collector passes over once a process serves."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from llmos.abi import heap


class Node:
    """An object that refers to itself."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture
def frozen() -> Iterator[None]:
    """A process that serves from now on."""
    before = gc.get_threshold()
    heap.freeze()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_what_lived_before_is_not_walked_again(frozen: None) -> None:
    assert gc.get_freeze_count() > 10_000
    assert len(gc.get_objects()) < gc.get_freeze_count()


def test_what_came_later_and_refers_to_itself_is_freed(frozen: None) -> None:
    gone = weakref.ref(Node())
    gc.collect()
    assert gone() is None


def test_young_objects_are_looked_at_before_many_of_them_wait(frozen: None) -> None:
    gone = weakref.ref(Node())
    kept: list[list[int]] = [[] for _ in range(heap.YOUNG_OBJECTS * 2)]
    assert gone() is None
    assert kept
