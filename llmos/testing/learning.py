"""Standing orders in memory, for tests of what stands on the kernel: they are kept, and nothing is trained."""

from __future__ import annotations

from collections.abc import Callable

from llmos.abi.api_types import ModelView
from llmos.abi.error import BadInput
from llmos.abi.learning import FEEDBACK, LearningState, LearnOrder, rows_in


class MemoryLearning:
    """Orders by name. `find` raises for a name that is not there."""

    def __init__(self, find: Callable[[str], ModelView]) -> None:
        self._find = find
        self.orders: dict[str, LearnOrder] = {}

    async def order(self, name: str, source: str, when: str) -> LearningState:
        if source != FEEDBACK:
            raise BadInput(f"from is {source!r}; models learn from {FEEDBACK}", key="from", expected=[FEEDBACK])
        self._find(name)
        rows, on_drift = rows_in(when)
        self.orders[name] = LearnOrder(name, rows, on_drift=on_drift)
        return await self.state(name)

    async def stop(self, name: str) -> LearningState:
        self.orders.pop(name, None)
        return await self.state(name)

    async def state(self, name: str) -> LearningState:
        self._find(name)
        order = self.orders.get(name) or LearnOrder(name, 0)
        return LearningState(name, order.when, order.rows)
