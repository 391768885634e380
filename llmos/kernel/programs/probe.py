"""probe: measures how fast each device multiplies matrices, and in which dtype. All others wait for it."""

from __future__ import annotations

from collections.abc import Iterable

from llmos.abi.device import Device
from llmos.abi.process import Priority, Program, Spec
from llmos.abi.wire import to_plain
from llmos.kernel.programs.declaration import Declaration
from llmos.kernel.programs.traits import Traits


class Probe(Declaration):
    """Only the daemon starts it: its measurements decide the machine's dtype."""

    name = Program("probe")
    main = "llmos.programs.probe"
    traits = Traits(is_replaced_when_hung=True, measures_devices=True)

    def title(self, spec: Spec) -> str:
        return "measure the devices"


def probe_spec(devices: Iterable[Device], engine: str) -> Spec:
    """The process that measures these devices."""
    args = {"devices": to_plain(tuple(devices)), "engine": engine}
    return Spec(Probe.name, args, priority=Priority.INTERACTIVE)


PROGRAM = Probe()
