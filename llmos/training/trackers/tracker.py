"""The interface of a tracker, and the one that lets no failure of another reach the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from llmos.abi.json_type import Json


class Tracker(Protocol):
    """Takes what is known of one run."""

    def parameters(self, values: Mapping[str, Json]) -> None:
        """The run's settings, once."""
        ...

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Figures at a step; a later one of the same step counts."""
        ...

    def close(self) -> None:
        """Everything is written when this returns."""
        ...


class QuietTracker:
    """Passes on what it gets until that fails; then says so once, and the training goes on without a tracker."""

    def __init__(self, inner: Tracker | None, name: str, say: Callable[[str], None]) -> None:
        self._inner = inner
        self._name, self._say = name, say

    def parameters(self, values: Mapping[str, Json]) -> None:
        self._pass_on(lambda inner: inner.parameters(values))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._pass_on(lambda inner: inner.scalars(values, step))

    def close(self) -> None:
        self._pass_on(lambda inner: inner.close())

    def _pass_on(self, call: Callable[[Tracker], None]) -> None:
        if self._inner is None:
            return
        try:
            call(self._inner)
        except Exception as error:  # noqa: BLE001  # foreign code: whatever is wrong with it, the training goes on
            self._say(f"{self._name} failed, and nothing more is tracked: {type(error).__name__}: {error}")
            self._inner = None
