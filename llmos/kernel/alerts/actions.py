"""What a rule does beside telling: it starts a program, or rolls a name back to the version before."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.process import Program, Spec
from llmos.kernel.programs import declaration_of
from llmos.kernel.programs.arguments import check_arguments

if TYPE_CHECKING:
    from llmos.kernel.processes.process_service import ProcessService
    from llmos.kernel.registry import Registry


class AlertActions:
    """Does actions. A crash may do a start twice; a rollback names the version that it leaves, and is done once."""

    def __init__(self, processes: ProcessService, models: Registry, promoted: Callable[[str], int | None]) -> None:
        self._processes = processes
        self._models = models
        self.promoted_version = promoted

    async def act(self, action: dict[str, Json]) -> None:
        """Do it; LlmosError if it cannot be done."""
        if "rollback" in action:
            if self.promoted_version(str(action["rollback"])) == action.get("from"):
                await self._models.rollback(str(action["rollback"]))
        elif "start" in action:
            start = action["start"]
            program, args = Program(str(start["program"])), dict(start["args"])
            check_arguments(program, args)
            await self._processes.submit(Spec(program, args, priority=declaration_of(program).default_priority))
        else:
            raise BadInput(f"No action is called {', '.join(action)}")
